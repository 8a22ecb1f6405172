"""Store: what is committed comes back, what is damaged is refused and left alone, and every change leaves an event."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from epa_orchestrator import store
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.ledger import Change, Claim, ClaimChange, Ledger, PagesChange
from epa_orchestrator.store import CommitError, Origin, StateError

ORIGIN = Origin(pid=7, uid=0, gid=0, action="allocate_cores")


def claim(service: str, cpus: str, explicit: str = "") -> Claim:
    return Claim(service, "isolated", CpuSet.parse(cpus), CpuSet.parse(explicit), "legacy")


LEDGER = Ledger.of([claim("a", "2-3", "2"), claim("b", "5")], {"a": {(0, 2048): 4, (1, 1048576): 1}})


def content(ledger: Ledger) -> tuple[object, ...]:
    return dict(ledger.claims), {service: dict(counts) for service, counts in ledger.pages.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "common" / store.FILE_NAME
    store.create(path, LEDGER, ORIGIN, 1.0)
    return path


def commit(opened: store.Store, *changes: Change) -> None:
    for change in changes:
        opened.stage(change, ORIGIN, 2.0)
    opened.commit()


GROWN = Change((ClaimChange(claim("b", "5"), claim("b", "5-6")),))
GONE = Change((ClaimChange(claim("a", "2-3", "2"), None),))


def test_what_was_created_comes_back(path: Path) -> None:
    assert content(store.load(path).ledger) == content(LEDGER)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == [store.FILE_NAME]


def test_what_was_committed_comes_back(path: Path) -> None:
    opened, loaded = store.open_store(path)
    ledger = loaded.ledger
    for change in (
        Change((*GROWN.claims, *GONE.claims)),
        Change((ClaimChange(None, claim("c", "2")),)),
        Change(pages=PagesChange("a", (0, 2048), 4, 0)),
        Change(pages=PagesChange("c", (0, 2048), 0, 9)),
    ):
        commit(opened, change)
        ledger = ledger.apply(change)
    # Without closing, as after a crash: another connection recovers what is in the log.
    assert content(store.load_copy(path).ledger) == content(ledger)
    opened.close()
    assert content(store.load(path).ledger) == content(ledger)


def test_what_was_staged_only_does_not_come_back(path: Path) -> None:
    opened, _ = store.open_store(path)
    opened.stage(GROWN, ORIGIN, 2.0)
    assert content(store.load_copy(path).ledger) == content(LEDGER)
    opened.close()
    assert content(store.load(path).ledger) == content(LEDGER)


def test_a_failed_commit_undoes_all_that_was_staged(path: Path) -> None:
    opened, _ = store.open_store(path)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA busy_timeout = 0")
        opened.stage(GROWN, ORIGIN, 2.0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        opened.commit()
        other.execute("BEGIN IMMEDIATE")
        opened._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(CommitError, match="locked"):
            opened.stage(GONE, ORIGIN, 3.0)
        other.execute("ROLLBACK")
    other.close()
    commit(opened, Change(pages=PagesChange("a", (0, 2048), 4, 5)))
    ledger = store.load_copy(path).ledger
    assert set(ledger.claims) == {"a", "b"}
    assert ledger.pages["a"][0, 2048] == 5
    opened.close()


def test_events_tell_before_and_after(path: Path) -> None:
    opened, _ = store.open_store(path)
    commit(opened, GROWN, GONE, Change(pages=PagesChange("a", (0, 2048), 4, 0)))
    opened.close()
    events = store.read_events(path, None, 3)
    assert [(event.service, event.at, event.origin) for event in events] == [
        ("b", 2.0, ORIGIN),
        ("a", 2.0, ORIGIN),
        ("a", 2.0, ORIGIN),
    ]
    assert events[0].before == {"pool": "isolated", "cpus": "5", "explicit": "", "policy": "legacy"}
    assert events[0].after == {"pool": "isolated", "cpus": "5-6", "explicit": "", "policy": "legacy"}
    assert events[1].after is None
    assert (events[2].before, events[2].after) == ({"node_id": 0, "size_kb": 2048, "hugepages": 4}, None)
    # The claims that the database was created with are events as well.
    assert [event.id for event in store.read_events(path, "b", 50)] == [2, 5]


def test_tidying_keeps_the_newest_events_and_empties_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_EVENTS", 3)
    opened, _ = store.open_store(path)
    commit(opened, GROWN, GONE)
    opened.tidy()
    assert path.with_name("state.db-wal").stat().st_size == 0
    opened.close()
    assert [event.id for event in store.read_events(path, None, 50)] == [4, 5, 6]


def test_nodes_are_remembered_with_the_next_commit(path: Path) -> None:
    opened, loaded = store.open_store(path)
    assert loaded.nodes == {}
    opened.stage(GROWN, ORIGIN, 2.0)
    opened.stage_nodes({0: CpuSet.parse("0-3"), 4: CpuSet.parse("")})
    opened.commit()
    opened.close()
    assert store.load(path).nodes == {0: CpuSet.parse("0-3"), 4: CpuSet.parse("")}


def test_a_half_made_database_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / store.FILE_NAME
    path.with_name("state.db.new").write_bytes(b"half")
    assert not store.exists(path)
    store.create(path, LEDGER, ORIGIN, 1.0)
    assert content(store.load(path).ledger) == content(LEDGER)


def test_a_log_without_its_database_is_a_trace_of_one(tmp_path: Path) -> None:
    path = tmp_path / store.FILE_NAME
    path.with_name("state.db-wal").write_bytes(b"log")
    assert store.exists(path)
    with pytest.raises(StateError, match="cannot be read: No such file"):
        store.load(path)


def sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("PRAGMA user_version = 2", "its schema version is 2, this daemon knows 1"),
        ("PRAGMA application_id = 1", "not a database of this daemon"),
        ("UPDATE claim SET cpus = '2-4' WHERE service = 'a'", "the checksum of a row is wrong"),
        ("UPDATE hugepages SET count = 5", "the checksum of a row is wrong"),
        ("DELETE FROM claim WHERE service = 'a'", "the checksum over its rows is wrong"),
        ("DELETE FROM meta", "the checksum over its rows is wrong"),
        ("DROP TABLE claim", "cannot be read: no such table: claim"),
    ],
)
def test_what_does_not_verify_is_refused_and_left_alone(path: Path, statement: str, sentence: str) -> None:
    sql(path, statement)
    before = path.read_bytes()
    with pytest.raises(StateError, match=sentence):
        store.open_store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 10_000])
def test_a_truncated_database_is_refused_and_left_alone(path: Path, size: int) -> None:
    before = path.read_bytes()[:size]
    path.write_bytes(before)
    with pytest.raises(StateError, match=r"is empty|does not verify|cannot be read"):
        store.open_store(path)
    assert path.read_bytes() == before


def test_no_scribble_changes_a_claim_unnoticed(path: Path) -> None:
    whole = path.read_bytes()
    rng = random.Random(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        at = rng.randrange(len(damaged))
        for offset in range(rng.choice((1, 4, 64))):
            damaged[(at + offset) % len(damaged)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            ledger = store.load(path).ledger
        except StateError:
            refused += 1
        else:
            assert content(ledger) == content(LEDGER)
    assert refused > 20


def test_reading_a_damaged_database_with_a_log_leaves_both_alone(path: Path, tmp_path: Path) -> None:
    opened, _ = store.open_store(path)
    commit(opened, GROWN)
    crashed = tmp_path / "crashed"
    shutil.copytree(path.parent, crashed)
    opened.close()
    database, log = crashed / store.FILE_NAME, crashed / "state.db-wal"
    assert log.stat().st_size > 0
    scribbled = bytearray(database.read_bytes())
    scribbled[:16] = b"not a database!!"
    database.write_bytes(scribbled)
    before = database.read_bytes(), log.read_bytes()
    with pytest.raises(StateError):
        store.open_store(database)
    assert (database.read_bytes(), log.read_bytes()) == before


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be created: Not a directory"):
        store.create(tmp_path / "file" / "x" / store.FILE_NAME, LEDGER, ORIGIN, 1.0)
