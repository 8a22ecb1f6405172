# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The texts of all actions are readable as `juju run` prints them, on a machine with many claims and long names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rich.cells import cell_len

import daemon_health
import juju_texts
from charm_record import Record
from isolation import Isolation
from tests.machines import made_up
from tests.service import Service, short_directory
from tools.synthetic import Shape

from .unit import CHARMCRAFT, REAL_FUNCTIONS, Unit

#: `juju run` indents a text by 2, and terminals of people have about 120 columns.
WIDTH = 110
ONE_WORD = "w" * 255
#: Names as services may have them: with joints, with blanks, in one word, of wide characters.
NAMES = ("nova-compute." * 19, "a name with blanks " * 13 + "end", ONE_WORD, "计算" * 127)
ISOLATE = {"cpu-thread-policy": "isolate"}

#: Each action, with parameters for a long text.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("list-allocations", {}),
    ("show-machine", {}),
    ("show-machine", {"format": "svg"}),
    ("explain", {"service": NAMES[0], "count": 40, **ISOLATE}),
    ("explain", {"service": "x" * 255, "count": 90, **ISOLATE}),
    ("explain", {"service": "x" * 255, "count": 40, "make-room": True, "numa-policy": "single-numa-node"}),
    ("history", {}),
    ("history", {"service": ONE_WORD}),
    ("audit-isolation", {}),
    ("record", {}),
    ("report", {}),
    ("get-status", {}),
    ("refresh-snap", {}),
    ("release", {"service": NAMES[1], "confirm": True}),
    ("settle-claims", {"keep": "older"}),
]


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    """A daemon with 192 cores, half of whose CPUs belong to 64 services."""
    with short_directory() as base:
        service = Service(base / "x1", base / "common", "--machine", "epyc-9654-2s").start()
        try:
            for number in range(60):
                service.client.allocate(f"vm-{number}-{'of-a-tenant-' * 3}", 2)
            for name in NAMES:
                service.client.allocate(name, 12, cpu_thread_policy="isolate")
                service.client.set_hugepages(name, 0, 2048, 3)
            yield service
        finally:
            service.stop()


@pytest.fixture
def served(settled: Unit, running: Service, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """A unit whose actions ask that daemon, and on which much is wrong."""
    monkeypatch.setattr(daemon_health, "SOCKET", running.socket)
    monkeypatch.setattr(daemon_health, "holdings", REAL_FUNCTIONS[daemon_health]["holdings"])
    many_cpus = ",".join(map(str, range(0, 400, 2)))

    def release(service: str) -> list[str]:
        return [f"CPUs {many_cpus} of {service}"]

    monkeypatch.setattr(daemon_health, "release", release)
    settled.workload.config = {"cpu-pool": many_cpus, "reserved-hugepages": "0:2M:1"}
    settled.workload.found_warnings = tuple(f"service '{name}' {'has a problem ' * 9}" for name in NAMES)
    settled.workload.written = Record(unit="epa-orchestrator/0", intruder="7", intruded=1.0)
    settled.workload.missing = "run 'sudo snap connect epa-orchestrator:topology': " + "it failed again " * 20
    settled.host = Isolation(made_up(Shape(packages=2, cores_per_l3=8, isolated="1,3,5,7")), container=True)
    return settled


def is_command(line: str) -> bool:
    """Whether people paste the line into a shell, so that it stays whole."""
    return line.startswith(("  epa-orchestrator ", "  juju ssh "))


def text_of(unit: Unit, action: str, params: dict[str, Any]) -> str:
    unit.ctx.run(unit.ctx.on.action(action, params=params), unit.state())
    assert unit.ctx.action_results is not None
    return unit.ctx.action_results["text"]


def test_every_action_has_a_case() -> None:
    assert {action for action, _ in CASES} == CHARMCRAFT["actions"].keys()


@pytest.mark.parametrize(("action", "params"), CASES)
def test_no_line_is_wider_than_a_terminal(
    action: str, params: dict[str, Any], served: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(juju_texts, "_MAX_BYTES", 500_000)
    lines = text_of(served, action, params).splitlines()
    assert lines
    assert [line for line in lines if cell_len(line) > WIDTH and not is_command(line)] == []


@pytest.mark.parametrize(("action", "params"), CASES)
def test_no_line_ends_with_a_blank(action: str, params: dict[str, Any], served: Unit) -> None:
    """Juju would print the whole text as one quoted line."""
    assert [line for line in text_of(served, action, params).splitlines() if line.endswith(" ")] == []


def test_tables_are_drawn(served: Unit) -> None:
    assert "┃" in text_of(served, "explain", {"service": "ceph", "count": 2})


def test_text_of_a_long_document_is_folded(served: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(juju_texts, "_MAX_BYTES", 20_000)
    lines = text_of(served, "report", {}).splitlines()
    assert [line for line in lines if len(line) > WIDTH and not is_command(line)] == []
    assert lines[-1].startswith("  juju ssh epa-orchestrator/0 sudo cat ")
