# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Schema: an older database keeps everything when it is upgraded, and is not changed when it is only read."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings_text import SettingsText
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.state.database_files import FILE_NAME
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.events import NOTED, Note
from epa_orchestrator.state.loading import load, load_copy
from epa_orchestrator.state.opening import open_store
from epa_orchestrator.state.reading import read_events
from epa_orchestrator.state.schema import SCHEMA_VERSION
from tests.unit.state.builders import PEER, PLACED, claim, commit, content, older_database, run_sql

IN_SCHEMA_1 = Ledger.of(
    [claim("a", "2-3", "2"), Claim("b", "general", CpuSet.parse("5"), CpuSet.parse(""), "non-preemptive")],
    {"a": {(0, 2048): 4, (1, 1048576): 1}},
)

GROWN_IN_1 = Change((ClaimChange(claim("a", "2-3", "2"), claim("a", "2-4", "2")),))


@pytest.fixture(params=[1, 2, 3])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=["delete", "wal"])
def older(tmp_path: Path, version: int, request: pytest.FixtureRequest) -> Path:
    """A database of an older schema: as it was created, and as it is after it was in use."""
    path = tmp_path / "older" / FILE_NAME
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        older_database(db, version)
        db.execute(f"PRAGMA journal_mode = {request.param}")
    return path


def checked_version(path: Path) -> int:
    """The schema version of a database that holds all of IN_SCHEMA_1, in tables of that version."""
    loaded = load_copy(path)
    assert content(loaded.ledger) == content(IN_SCHEMA_1)
    assert loaded.seen.nodes == {0: CpuSet.parse("0-3")}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(claim)")]
        noted = [row[1] for row in db.execute("PRAGMA table_info(event)")][9:]
        settings = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'settings'").fetchone()[0]
    assert ("placement" in columns) is (loaded.version > 1)
    assert (tuple(noted), settings) == ((NOTED, 1) if loaded.version == SCHEMA_VERSION else ((), 0))
    return loaded.version


def upgrade(path: Path) -> None:
    opened, _ = open_store(path)
    opened.close()


def test_opening_an_older_database_loads_its_ledger(older: Path) -> None:
    opened, loaded = open_store(older)
    opened.close()
    assert content(loaded.ledger) == content(IN_SCHEMA_1)


def test_an_upgraded_database_holds_the_same_and_verifies(older: Path, version: int) -> None:
    assert checked_version(older) == version
    upgrade(older)
    assert checked_version(older) == SCHEMA_VERSION


def test_an_upgrade_keeps_the_events(older: Path) -> None:
    before = read_events(older, 50)
    assert [event.id for event in before] == [1, 2, 3, 4]
    upgrade(older)
    assert read_events(older, 50) == before


def test_an_upgraded_database_stores_placements(older: Path) -> None:
    opened, _ = open_store(older)
    commit(opened, Change((ClaimChange(claim("a", "2-3", "2"), PLACED.claims["a"]),)))
    opened.close()
    assert load(older).ledger.claims["a"] == PLACED.claims["a"]
    assert [event.id for event in read_events(older, 50)] == [1, 2, 3, 4, 5]


def test_an_upgraded_database_keeps_more_of_its_new_events(older: Path) -> None:
    opened, _ = open_store(older)
    opened.stage(GROWN_IN_1, PEER, "allocate_cores", 2.0, Note('{"num_of_cores":3}', SettingsText("d1", "{}"), "Why."))
    opened.commit()
    opened.close()
    *before, after = read_events(older, 50)
    assert [(event.request, event.settings, event.decided_by) for event in before] == [(None, None, None)] * 4
    assert (after.request, after.settings, after.decided_by) == ({"num_of_cores": 3}, "d1", "Why.")


def test_reading_an_older_database_leaves_it_alone(older: Path, version: int) -> None:
    before = older.read_bytes()
    assert load(older).version == version
    assert checked_version(older) == version
    assert older.read_bytes() == before


class Interrupted(sqlite3.Connection):
    """A connection whose COMMIT fails, as on a full disk; the files that a crash then would leave are copied before."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            directory = Path(super().execute("PRAGMA database_list").fetchone()[2]).parent
            shutil.copytree(directory, directory.with_name("crashed"))
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *parameters)


@pytest.mark.parametrize("after", ["the error", "a crash"])
def test_an_interrupted_upgrade_leaves_the_older_database_whole(
    after: str, older: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Interrupted] = []
    connect = sqlite3.connect

    def interrupted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        if "check_same_thread" not in options:
            return connect(*arguments, **options)
        connections.append(connect(*arguments, **options, factory=Interrupted))
        return connections[-1]

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", interrupted)
        with pytest.raises(StateError, match="cannot be written: database or disk is full"):
            open_store(older)
    for connection in connections:
        connection.close()
    path = older if after == "the error" else older.parent.with_name("crashed") / older.name
    assert checked_version(path) == version
    upgrade(path)
    assert checked_version(path) == SCHEMA_VERSION


def test_a_damaged_older_database_is_refused_and_left_alone(older: Path) -> None:
    run_sql(older, "UPDATE claim SET cpus = '2-4' WHERE service = 'a'")
    before = older.read_bytes()
    with pytest.raises(StateError, match="the checksum of a row is wrong"):
        open_store(older)
    assert older.read_bytes() == before
