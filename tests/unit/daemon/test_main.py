# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Main: the state that a start opens, for every condition of the files on disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import main, peer_names
from epa_orchestrator.daemon.main import Locations, StartError, open_state, run
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.metrics import scrapers
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files
from epa_orchestrator.state.lock import Locked
from epa_orchestrator.state.reading import read_events
from tools.synthetic import Shape, build

CLAIMS = {"version": 1, "allocations_db": {"allocations": {"ovs": "2-3", "nova": "4"}}}


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    return Locations(
        socket_path=tmp_path / "data" / "epa.sock",
        state_directory=tmp_path / "common",
        legacy_state=tmp_path / "data" / "state.json",
        settings_file=None,
        sysfs=RecordedSysfs(build(Shape(isolated="2-3"))),
        sysfs_name="a made-up machine",
    )


def leave_legacy_state(locations: Locations, text: str) -> None:
    locations.legacy_state.parent.mkdir(parents=True, exist_ok=True)
    locations.legacy_state.write_text(text)


def database(locations: Locations) -> Path:
    return locations.state_directory / database_files.FILE_NAME


def test_first_start_makes_an_empty_database(locations: Locations) -> None:
    state = open_state(locations)
    assert state.store is not None
    state.store.close()
    assert (state.problem, state.seen) == (None, LastSeen())
    assert state.ledger is not None
    assert not state.ledger.claims
    assert database(locations).exists()


def test_only_the_first_start_imports_the_older_daemons_claims(locations: Locations) -> None:
    leave_legacy_state(locations, json.dumps(CLAIMS))
    for _ in range(2):
        state = open_state(locations)
        assert state.store is not None
        state.store.close()
        assert state.ledger is not None
        assert {name: str(claim.cpus) for name, claim in state.ledger.claims.items()} == {"ovs": "2-3", "nova": "4"}
        leave_legacy_state(locations, json.dumps({"allocations_db": {"allocations": {"ovs": "7"}}}))
    assert [event.action for event in read_events(database(locations), 9)] == ["import", "import"]


def test_changes_nothing_when_the_import_fails(locations: Locations) -> None:
    leave_legacy_state(locations, "[]")
    state = open_state(locations)
    assert (state.ledger, state.store) == (None, None)
    assert state.problem is not None
    assert "state.json was not imported, because the file is not a JSON object" in state.problem
    assert not database(locations).exists()
    assert locations.legacy_state.read_text() == "[]"


def test_an_empty_database_is_not_a_first_start(locations: Locations) -> None:
    locations.state_directory.mkdir()
    database(locations).touch()
    leave_legacy_state(locations, json.dumps(CLAIMS))
    state = open_state(locations)
    assert (state.ledger, state.store) == (None, None)
    assert state.problem is not None
    assert "state.db is empty, although it once held the claims: nothing in it was changed" in state.problem
    assert database(locations).stat().st_size == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the functional tests mount it read-only")
def test_reads_a_database_that_cannot_be_written(locations: Locations) -> None:
    state = open_state(locations)
    assert state.store is not None
    state.store.close()
    locations.state_directory.chmod(0o500)
    state = open_state(locations)
    locations.state_directory.chmod(0o700)
    assert state.store is None
    assert state.ledger is not None


def test_a_second_daemon_gives_up(locations: Locations) -> None:
    locations.state_directory.mkdir()
    program = (
        "import pathlib, sys; from epa_orchestrator.state.lock import sole_daemon\n"
        "with sole_daemon(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(locations.state_directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(StartError, match=r"Another daemon already uses the state in .*common: stop it first"):
            run(locations)
        first.communicate(b"")


def test_only_a_state_from_after_the_first_start_is_named(locations: Locations) -> None:
    leave_legacy_state(locations, json.dumps(CLAIMS))
    for _ in range(2):
        state = open_state(locations)
        assert state.store is not None
        state.store.close()
        assert state.warnings == ()
    leave_legacy_state(locations, json.dumps({"allocations_db": {"allocations": {"ovs": "7", "ceph": "8"}}}))
    for _ in range(2):
        state = open_state(locations)
        assert state.store is not None
        state.store.stage_seen(LastSeen({3: CpuSet.parse("1-2")}))
        state.store.commit()
        state.store.close()
        (warning,) = state.warnings
        assert "was written after this daemon took over" in warning
        assert "hold no CPUs here: 'ceph'." in warning
    locations.legacy_state.unlink()
    state = open_state(locations)
    assert state.store is not None
    state.store.close()
    assert state.warnings == ()


def test_database_of_an_earlier_release_knows_its_own_time_only(locations: Locations) -> None:
    state = open_state(locations)
    assert state.store is not None
    state.store.close()
    with contextlib.closing(sqlite3.connect(database(locations), isolation_level=None)) as db:
        db.execute("DELETE FROM meta WHERE key = 'created'")
    leave_legacy_state(locations, json.dumps(CLAIMS))
    for age, count in ((-60, 0), (60, 1)):
        at = database(locations).stat().st_mtime + age
        os.utime(locations.legacy_state, (at, at))
        state = open_state(locations)
        assert state.store is not None
        state.store.close()
        assert len(state.warnings) == count


def test_the_places_of_seen_cpus_are_stored(locations: Locations) -> None:
    state = open_state(locations)
    assert state.store is not None
    state.store.stage_seen(LastSeen({3: CpuSet.parse("1-2")}, (CpuSet.parse("1-2"),)))
    state.store.commit()
    state.store.close()
    state = open_state(locations)
    assert state.seen == LastSeen({3: CpuSet.parse("1-2")}, (CpuSet.parse("1-2"),))
    assert state.store is not None
    state.store.close()


def test_a_daemon_that_serves_readings_only_knows_them_too(locations: Locations) -> None:
    seen = LastSeen({3: CpuSet.parse("1-2")}, (CpuSet.parse("1-2"),))
    state = open_state(locations)
    assert state.store is not None
    state.store.stage_seen(seen)
    state.store.commit()
    state.store.close()
    state = open_state(locations, "cannot be locked: Is a directory")
    assert (state.store, state.seen) == (None, seen)


def test_without_a_lock_nothing_is_written(locations: Locations) -> None:
    state = open_state(locations, "cannot be locked: Is a directory")
    assert (state.store, database(locations).exists()) == (None, False)
    leave_legacy_state(locations, json.dumps(CLAIMS))
    state = open_state(locations)
    assert state.store is not None
    state.store.close()
    state = open_state(locations, "cannot be locked: Is a directory")
    assert state.store is None
    assert state.ledger is not None
    assert set(state.ledger.claims) == {"ovs", "nova"}
    assert state.problem is not None
    assert "state.db cannot be locked: Is a directory" in state.problem


def test_refuses_a_database_that_another_daemon_writes(locations: Locations) -> None:
    """Even if the lock of the directory has been removed."""
    first = open_state(locations)
    with pytest.raises(Locked, match=r"Another daemon already uses the state in .*common: stop it first"):
        open_state(locations)
    assert first.store is not None
    first.store.close()
    again = open_state(locations)
    assert again.store is not None
    again.store.close()


def test_a_daemon_without_a_lock_reads_the_state_at_one_moment(
    locations: Locations, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = open_state(locations)
    writer = state.store
    assert writer is not None
    claim = Claim("early", "isolated", CpuSet.parse("2"), EMPTY, "legacy")
    writer.stage(Change((ClaimChange(None, claim),)), Peer(1, 0, 0), "allocate_cores", 0.0)
    writer.commit()
    copy = shutil.copyfile

    def copy_then_tidy(source: Path, target: Path) -> None:
        copy(source, target)
        writer.tidy()  # moves the log into the database, which is copied already

    monkeypatch.setattr(shutil, "copyfile", copy_then_tidy)
    state = open_state(locations, "cannot be locked")
    assert state.ledger is not None
    assert set(state.ledger.claims) == {"early"}
    assert state.store is None
    writer.close()


def test_connections_leave_files_to_all_others() -> None:
    """All that a daemon has open at once, and as many again as an idle one has."""
    names, idle = peer_names._MOST_REMEMBERED, 30
    of_metrics = scrapers._MOST_SILENT + scrapers._MOST_READING + scrapers._MOST_ACCEPTED
    assert names + of_metrics + idle <= main._OTHER_FDS


@pytest.mark.parametrize(
    "module",
    [
        "allocation.make_room",
        "daemon.audit",
        "daemon.claim_story",
        "isolation.facts",
        "metrics.exporter",
        "protocol.history",
        "protocol.isolation",
        "protocol.machine",
        "cli.map",
    ],
)
def test_start_does_not_import_what_few_daemons_need(module: str) -> None:
    name = f"epa_orchestrator.{module}"
    assert find_spec(name) is not None
    code = f"import sys, epa_orchestrator.cli.serve, epa_orchestrator.daemon.main; print({name!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
