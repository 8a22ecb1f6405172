# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Current: the state that the daemon serves from, and how it becomes read-only."""

from __future__ import annotations

from pathlib import Path

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.current import Current, State
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files, opening
from tools.synthetic import Shape, build

SHAPE = Shape(cores_per_l3=4, threads_per_core=2, isolated="1-3,5-7")


def current(state: State) -> Current:
    return Current(Host(RecordedSysfs(build(SHAPE)), Settings()), state)


def test_pools_are_known_after_discovery() -> None:
    found = current(State(None, None, "No state."))
    assert found.known_pools() is None
    pools = found.host.pools()
    assert found.known_pools() is pools


def test_without_known_claims_the_ledger_is_empty() -> None:
    assert not current(State(None, None, "No state.")).ledger.claims


def test_ledger_is_put_on_the_cores_of_the_host() -> None:
    claim = Claim("a", "isolated", CpuSet([1]), EMPTY, "legacy", alone=CpuSet([1]))
    found = current(State(Ledger.of([claim], {}), None, None))
    assert str(found.ledger_on(found.host.pools()).withheld) == "5"
    assert str(found.ledger.withheld) == "5"


def test_lost_state_names_the_database_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / database_files.FILE_NAME
    opening.create(path, Ledger(), Peer(1, 0, 0), 1.0)
    store, loaded = opening.open_store(path)
    found = current(State(loaded.ledger, store, None))
    problem = found.lose_state("another process has changed it")
    store.close()
    assert problem == found.problem
    assert problem == (
        f"The state database {path} can no longer be written, because another process has changed it: make sure that no"
        " other process writes it and that the right file is in its place, then restart this daemon"
    )


def test_warnings_about_the_settings_come_first() -> None:
    found = current(State(None, None, None, warnings=("started late",)))
    found.warn("metrics", ("port 1 is taken",))
    found.warn("settings", ("numa-policy='x' is not valid",))
    assert found.warnings == ("numa-policy='x' is not valid", "started late", "port 1 is taken")


def test_a_warning_replaces_those_about_the_same() -> None:
    found = current(State(None, None, None))
    found.warn("metrics", ("port 1 is taken",))
    found.warn("metrics", ("port 2 is taken",))
    assert found.warnings == ("port 2 is taken",)
