# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The noise of claims in a running daemon: it counts from the grant, survives a restart, and shows who asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.daemon.audited import Thread, files_of
from tools.make_machines import SHIPPED

from .harness import Daemon, Json, wait_until

STRANGER = Thread(10, "x\x1b[2J", cpus="0-7", cpu=2)


def write_host(daemon: Daemon, uptime: float, ticks: int) -> None:
    """Make a host around the daemon's sysfs tree: CPU 2 has had so many ticks."""
    root = Path(daemon.host.root).parent
    for path, text in files_of(uptime, (0, 0, ticks, 0), threads=(STRANGER,)).items():
        if not path.startswith("sys/"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)


@pytest.fixture
def audited() -> Iterator[Daemon]:
    """A daemon on the CPUs 2-7 of a host that it can read."""
    with Daemon(SHIPPED["vm-8"][1], {"owner-cgroups": "ovs=system.slice/ovs.service"}) as daemon:
        write_host(daemon, 100.0, 1000)
        yield daemon.start()


def known(daemon: Daemon, what: str = "since", service: str = "ovs") -> Json:
    """What the daemon knows of a claim as soon as it knows this field."""
    found: list[Json] = []

    def is_known() -> bool:
        found[:] = daemon.ok("get_isolation", service_name=service)["claims"]
        return bool(found) and found[0][what] is not None

    wait_until(is_known, f"{what} of {service} is known")
    return found[0]


def test_noise_counts_from_the_grant_and_names_strangers_and_asker(audited: Daemon) -> None:
    audited.cores("ovs", 2)
    first = known(audited)
    assert first["owner"]["pid"] == os.getpid()
    assert [thread["name"] for thread in first["strangers"]] == ["x\N{REPLACEMENT CHARACTER}[2J"]
    write_host(audited, 160.0, 16000)
    audited.cores("other", 1)
    later = known(audited, "now")
    assert (later["since"], later["noise"]["seconds"], later["noise"]["ticks"]) == (first["since"], 60.0, 15000)
    assert "250 a second on CPU 2" in later["culprit"]


def test_baselines_survive_a_restart(audited: Daemon) -> None:
    audited.cores("ovs", 2)
    first = known(audited)
    wait_until((audited.common / "noise.json").exists, "the baselines are stored")
    assert (audited.common / "noise.json").stat().st_mode & 0o777 == 0o600
    audited.stop()
    write_host(audited, 160.0, 1300)
    audited.start()
    later = known(audited, "noise")
    assert (later["since"], later["noise"]["ticks"]) == (first["since"], 300)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff" * 100, b'{"claims":' * 1000])
def test_a_damaged_file_of_baselines_is_started_over(content: bytes, audited: Daemon) -> None:
    audited.cores("ovs", 2)
    known(audited)
    audited.stop()
    (audited.common / "noise.json").write_bytes(content)
    audited.start()
    assert known(audited)["noise"] is None


def test_a_machine_without_a_host_is_not_audited() -> None:
    with Daemon(SHIPPED["vm-8"][1]) as daemon:
        daemon.start().cores("ovs", 2)
        answer = daemon.ok("get_isolation")
        assert (answer["read_at"], answer["checks"]) == (None, [])
        assert [claim["allocated_cores"] for claim in answer["claims"]] == ["2-3"]
