"""Daemon: what it starts from, for every condition that the state on disk can be in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from epa_orchestrator import store
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import Options, StartError, open_state, run
from epa_orchestrator.ledger import Change, Claim, ClaimChange
from epa_orchestrator.lock import Locked
from epa_orchestrator.machine import Seen
from epa_orchestrator.store import Origin
from epa_orchestrator.sysfs import RecordedSysfs
from tools.synthetic import Shape, build

CLAIMS = {"version": 1, "allocations_db": {"allocations": {"ovs": "2-3", "nova": "4"}}}


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(
        socket_path=tmp_path / "data" / "epa.sock",
        state_directory=tmp_path / "common",
        legacy_state=tmp_path / "data" / "state.json",
        settings_file=None,
        sysfs=RecordedSysfs(build(Shape(isolated="2-3"))),
        sysfs_name="a made-up machine",
    )


def leave_legacy_state(options: Options, text: str) -> None:
    options.legacy_state.parent.mkdir(parents=True, exist_ok=True)
    options.legacy_state.write_text(text)


def database(options: Options) -> Path:
    return options.state_directory / store.FILE_NAME


def test_first_start_makes_an_empty_database(options: Options) -> None:
    state, seen = open_state(options)
    assert state.store is not None
    state.store.close()
    assert (state.problem, seen) == (None, Seen())
    assert state.ledger is not None
    assert not state.ledger.claims
    assert database(options).exists()


def test_first_start_imports_what_the_older_daemon_left_and_only_then(options: Options) -> None:
    leave_legacy_state(options, json.dumps(CLAIMS))
    for _ in range(2):
        state, _ = open_state(options)
        assert state.store is not None
        state.store.close()
        assert state.ledger is not None
        assert {name: str(claim.cpus) for name, claim in state.ledger.claims.items()} == {"ovs": "2-3", "nova": "4"}
        leave_legacy_state(options, json.dumps({"allocations_db": {"allocations": {"ovs": "7"}}}))
    assert [event.origin.action for event in store.read_events(database(options), None, 9)] == ["import", "import"]


def test_what_cannot_be_imported_leaves_everything_alone(options: Options) -> None:
    leave_legacy_state(options, "[]")
    state, _ = open_state(options)
    assert (state.ledger, state.store) == (None, None)
    assert state.problem is not None
    assert "state.json was not imported, because the file is not a JSON object" in state.problem
    assert not database(options).exists()
    assert options.legacy_state.read_text() == "[]"


def test_an_empty_database_is_not_taken_for_a_new_one(options: Options) -> None:
    options.state_directory.mkdir()
    database(options).touch()
    leave_legacy_state(options, json.dumps(CLAIMS))
    state, _ = open_state(options)
    assert (state.ledger, state.store) == (None, None)
    assert state.problem is not None
    assert "state.db is empty, although it once held the claims: nothing in it was changed" in state.problem
    assert database(options).stat().st_size == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the functional tests mount it read-only")
def test_a_database_that_cannot_be_written_is_still_told(options: Options) -> None:
    state, _ = open_state(options)
    assert state.store is not None
    state.store.close()
    options.state_directory.chmod(0o500)
    state, _ = open_state(options)
    options.state_directory.chmod(0o700)
    assert state.store is None
    assert state.ledger is not None


def test_a_second_daemon_gives_up(options: Options) -> None:
    options.state_directory.mkdir()
    program = (
        "import pathlib, sys; from epa_orchestrator.lock import sole_daemon\n"
        "with sole_daemon(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(options.state_directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(StartError, match=r"Another daemon already uses the state in .*common: stop it first"):
            run(options)
        first.communicate(b"")


def test_settings_that_cannot_be_used_stop_the_start(options: Options, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"numa-policy": "yes"}')
    with pytest.raises(StartError, match=r"settings.json: numa-policy='yes' is not valid: set it to 'best-effort'"):
        run(replace(options, settings_file=settings))


def test_seen_cpus_are_kept(options: Options) -> None:
    state, _ = open_state(options)
    assert state.store is not None
    state.store.stage_seen(Seen({3: CpuSet.parse("1-2")}, {1: 0b110, 2: 0b110}))
    state.store.commit()
    state.store.close()
    state, seen = open_state(options)
    assert seen == Seen({3: CpuSet.parse("1-2")}, {1: 0b110, 2: 0b110})
    assert state.store is not None
    state.store.close()


def test_without_a_lock_nothing_is_written(options: Options) -> None:
    state, _ = open_state(options, "cannot be locked: Is a directory")
    assert (state.store, database(options).exists()) == (None, False)
    leave_legacy_state(options, json.dumps(CLAIMS))
    state, _ = open_state(options)
    assert state.store is not None
    state.store.close()
    state, _ = open_state(options, "cannot be locked: Is a directory")
    assert state.store is None
    assert state.ledger is not None
    assert set(state.ledger.claims) == {"ovs", "nova"}
    assert state.problem is not None
    assert "state.db cannot be locked: Is a directory" in state.problem


def test_a_database_that_another_daemon_writes_is_left_alone(options: Options) -> None:
    """Also where the lock of the directory has been removed."""
    first, _ = open_state(options)
    with pytest.raises(Locked, match=r"Another daemon already uses the state in .*common: stop it first"):
        open_state(options)
    assert first.store is not None
    first.store.close()
    again, _ = open_state(options)
    assert again.store is not None
    again.store.close()


def test_a_daemon_without_a_lock_reads_the_state_at_one_moment(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = open_state(options)
    writer = state.store
    assert writer is not None
    claim = Claim("early", "isolated", CpuSet.parse("2"), EMPTY, "legacy")
    writer.stage(Change((ClaimChange(None, claim),)), Origin(1, 0, 0, "test"), 0.0)
    writer.commit()
    copy = shutil.copyfile

    def copy_then_tidy(source: Path, target: Path) -> None:
        copy(source, target)
        writer.tidy()  # what was in the log is then in the database, which has been copied already

    monkeypatch.setattr(shutil, "copyfile", copy_then_tidy)
    state, _ = open_state(options, "cannot be locked")
    assert state.ledger is not None
    assert set(state.ledger.claims) == {"early"}
    assert state.store is None
    writer.close()
