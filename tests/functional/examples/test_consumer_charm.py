# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The consumer charm claims CPUs of a real daemon, and says in its status what to do; only systemctl is a stand-in."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from charmcraft.models.project import PlatformCharm
from ops import testing

from tests.functional.harness import Daemon
from tests.functional.library.older_daemon import OlderDaemon
from tools.packing import ROOT, document

EXAMPLE: Final = ROOT / "examples" / "consumer-charm"
PROJECT: Final[dict[str, Any]] = document(EXAMPLE / "charmcraft.yaml")

SYSTEMCTL: Final = '#!/bin/sh\necho "$@" >>"$(dirname "$0")/called"\n'


def load(name: str) -> ModuleType:
    """A module of the example: the charm of this repository has a module `charm` as well."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / "src" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Deployed:
    """A unit of the charm. `service` is the file of its systemd service."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = directory / "epa-consumer.service"
        self._called = directory / "called"
        program = directory / "systemctl"
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
        workload: Any = load("workload")
        workload.UNIT = self.service
        monkeypatch.setitem(sys.modules, "workload", workload)
        charm: Any = load("charm")
        self._context: testing.Context[Any] = testing.Context(charm.ConsumerCharm, meta=PROJECT)

    def run(self, event: Callable[[Any], Any], cpus: int = 2) -> testing.State:
        """Run an event, with this value of the option `cpus`."""
        return self._context.run(event(self._context.on), testing.State(config={"cpus": cpus}))

    def calls(self) -> list[str]:
        """The calls of systemctl since the last look."""
        if not self._called.exists():
            return []
        lines = self._called.read_text().splitlines()
        self._called.unlink()
        return lines


def config_changed(on: Any) -> Any:
    return on.config_changed()


def start(on: Any) -> Any:
    return on.start()


def upgrade_charm(on: Any) -> Any:
    return on.upgrade_charm()


def update_status(on: Any) -> Any:
    return on.update_status()


def remove(on: Any) -> Any:
    return on.remove()


@pytest.fixture
def deployed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deployed:
    monkeypatch.setenv("SNAP_DATA", str(daemon.data))
    return Deployed(tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore:The 'charmhub' field is deprecated")  # charmcraft itself reads it
def test_charmcraft_accepts_the_project() -> None:
    project: Any = PlatformCharm
    assert project.unmarshal(dict(PROJECT)).name == "epa-consumer"


def test_program_runs_on_the_claimed_cpus(deployed: Deployed, daemon: Daemon) -> None:
    state = deployed.run(config_changed)
    assert daemon.claims() == {"epa-consumer/0": {1, 9}}
    assert state.unit_status == testing.ActiveStatus("pinned to CPUs 1,9")
    assert "CPUAffinity=1,9\n" in deployed.service.read_text()
    assert deployed.calls() == ["daemon-reload", "restart epa-consumer.service"]


def test_later_events_change_nothing(deployed: Deployed, daemon: Daemon) -> None:
    deployed.run(config_changed)
    deployed.calls()
    before = daemon.claims()
    assert deployed.run(update_status).unit_status == testing.ActiveStatus("pinned to CPUs 1,9")
    assert daemon.claims() == before
    assert deployed.calls() == ["start epa-consumer.service"]


@pytest.mark.parametrize("event", [start, config_changed, update_status, upgrade_charm])
def test_each_event_claims_what_is_missing(deployed: Deployed, daemon: Daemon, event: Callable[[Any], Any]) -> None:
    """A reboot comes with `start`; a claim can be lost to another service before `update-status`."""
    assert deployed.run(event).unit_status == testing.ActiveStatus("pinned to CPUs 1,9")
    assert daemon.claims() == {"epa-consumer/0": {1, 9}}


def test_option_changes_the_number_of_cpus(deployed: Deployed, daemon: Daemon) -> None:
    deployed.run(config_changed)
    deployed.run(config_changed, cpus=4)
    assert len(daemon.claims()["epa-consumer/0"]) == 4


def test_impossible_numbers_block_with_a_remedy(deployed: Deployed, daemon: Daemon) -> None:
    state = deployed.run(config_changed, cpus=0)
    assert state.unit_status == testing.BlockedStatus("cpus must be 1 or more, not 0: juju config epa-consumer cpus=2")
    state = deployed.run(config_changed, cpus=40)
    refusal = "Insufficient CPUs available. Requested: 40, Available: 12"
    assert state.unit_status == testing.BlockedStatus(refusal)
    assert daemon.claims() == {}


def test_host_without_isolated_cpus_runs_the_program_unpinned(deployed: Deployed, daemon: Daemon) -> None:
    daemon.host.set_isolated([])
    state = deployed.run(config_changed)
    assert state.unit_status == testing.ActiveStatus("not pinned: the host isolates no CPUs")
    assert "CPUAffinity" not in deployed.service.read_text()


def test_missing_daemon_lets_the_unit_wait(deployed: Deployed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SNAP_DATA", str(tmp_path))
    monkeypatch.delenv("SNAP_INSTANCE_NAME", raising=False)
    state = deployed.run(update_status)
    assert state.unit_status.name == "waiting"
    assert state.unit_status.message.endswith("start it: sudo snap start epa-orchestrator")
    assert deployed.calls() == []
    deployed.run(remove)


def test_removed_unit_stops_its_program_and_releases_its_cpus(deployed: Deployed, daemon: Daemon) -> None:
    deployed.run(config_changed)
    deployed.calls()
    deployed.run(remove)
    assert daemon.claims() == {}
    assert deployed.calls() == ["stop epa-consumer.service", "daemon-reload"]
    assert not deployed.service.exists()


@pytest.fixture
def elsewhere(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of a socket that this test serves, in place of the daemon's."""
    deployed.run(config_changed)
    deployed.calls()
    directory = Path(tempfile.mkdtemp(prefix="epa-"))
    (directory / "data").mkdir()
    monkeypatch.setenv("SNAP_DATA", str(directory))
    yield directory / "data" / "epa.sock"
    shutil.rmtree(directory)


def test_removal_without_an_answer_fails_after_the_program_has_ended(
    deployed: Deployed, elsewhere: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Juju runs a failed hook again, and the CPUs must not be free while the program runs on them."""
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(elsewhere))
    with pytest.raises(testing.errors.UncaughtCharmError, match="No daemon serves"):
        deployed.run(remove)
    assert deployed.calls() == ["stop epa-consumer.service", "daemon-reload"]
    monkeypatch.setenv("SNAP_DATA", str(daemon.data))
    deployed.run(remove)
    assert daemon.claims() == {}


def test_oldest_daemon_does_not_hold_up_the_removal(deployed: Deployed, elsewhere: Path) -> None:
    with OlderDaemon(elsewhere, None) as older:
        deployed.run(remove)
        assert not older.is_dead
        assert [request["action"] for request in older.requests] == ["list_allocations"]
