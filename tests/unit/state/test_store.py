"""Store: what is committed comes back, what is damaged is refused and left alone, and every change leaves an event."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.machine import Seen
from epa_orchestrator.peer import Peer
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from epa_orchestrator.state import rows, store
from epa_orchestrator.state.store import CommitError, StateError

PEER = Peer(pid=7, uid=0, gid=0)


def claim(service: str, cpus: str, explicit: str = "") -> Claim:
    return Claim(service, "isolated", CpuSet.parse(cpus), CpuSet.parse(explicit), "legacy")


LEDGER = Ledger.of([claim("a", "2-3", "2"), claim("b", "5")], {"a": {(0, 2048): 4, (1, 1048576): 1}})


def content(ledger: Ledger) -> tuple[object, ...]:
    return dict(ledger.claims), {service: dict(counts) for service, counts in ledger.pages.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "common" / store.FILE_NAME
    store.create(path, LEDGER, PEER, 1.0)
    return path


def commit(opened: store.Store, *changes: Change) -> None:
    for change in changes:
        opened.stage(change, PEER, "allocate_cores", 2.0)
    opened.commit()


GROWN = Change((ClaimChange(claim("b", "5"), claim("b", "5-6")),))
GONE = Change((ClaimChange(claim("a", "2-3", "2"), None),))


def test_what_was_created_comes_back(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == [store.FILE_NAME]
    assert content(store.load(path).ledger) == content(LEDGER)


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
    opened.stage(GROWN, PEER, "allocate_cores", 2.0)
    assert content(store.load_copy(path).ledger) == content(LEDGER)
    opened.close()
    assert content(store.load(path).ledger) == content(LEDGER)


def test_a_failed_commit_undoes_all_that_was_staged(path: Path) -> None:
    opened, _ = store.open_store(path)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA busy_timeout = 0")
        opened.stage(GROWN, PEER, "allocate_cores", 2.0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        opened.commit()
        other.execute("BEGIN IMMEDIATE")
        opened._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(CommitError, match="locked"):
            opened.stage(GONE, PEER, "allocate_cores", 3.0)
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
    assert [(event.service, event.at, event.peer) for event in events] == [
        ("b", 2.0, PEER),
        ("a", 2.0, PEER),
        ("a", 2.0, PEER),
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


def test_seen_cpus_are_kept_with_the_next_commit(path: Path) -> None:
    opened, loaded = store.open_store(path)
    assert loaded.seen == Seen()
    opened.stage(GROWN, PEER, "allocate_cores", 2.0)
    opened.stage_seen(Seen({0: CpuSet.parse("0-3"), 4: CpuSet.parse("")}, {2: 0b10100, 4: 0b10100}))
    opened.commit()
    opened.close()
    seen = store.load(path).seen
    assert seen == Seen({0: CpuSet.parse("0-3"), 4: CpuSet.parse("")}, {2: 0b10100, 4: 0b10100})


def test_a_half_made_database_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / store.FILE_NAME
    path.with_name("state.db.new").write_bytes(b"half")
    assert not store.exists(path)
    store.create(path, LEDGER, PEER, 1.0)
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
        ("PRAGMA user_version = 4", "its schema version is 4, this daemon knows 3"),
        ("PRAGMA application_id = 1", "not a database of this daemon"),
        ("UPDATE claim SET cpus = '2-4' WHERE service = 'a'", "the checksum of a row is wrong"),
        ("UPDATE claim SET placement = '{}' WHERE service = 'a'", "the checksum of a row is wrong"),
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


# --- how a claim was placed ---

PLACED = Ledger.of(
    [
        replace(claim("a", "2-3", "2"), withheld=CpuSet.parse("10-11")),
        replace(claim("b", "5"), placed_by=PlacementPolicy(cpu_thread_policy="share", prefer_closest_numa_nodes=False)),
        replace(
            claim("c", "6-7"),
            withheld=CpuSet.parse("14-15"),
            placed_by=PlacementPolicy("restricted", "spread", True, "none", "isolate", "cores", "performance", 1),
            wishes=Wishes("restricted", "isolate", "none", 1),
        ),
        replace(claim("d", "9"), wishes=Wishes(near=0)),
    ],
    {},
)


def test_how_claims_were_placed_comes_back(path: Path) -> None:
    opened, _ = store.open_store(path)
    commit(opened, GONE, Change((ClaimChange(claim("b", "5"), None),)))
    commit(opened, Change(tuple(ClaimChange(None, each) for each in PLACED.claims.values())))
    opened.close()
    assert store.load(path).ledger.claims == PLACED.claims
    assert store.load(path).ledger.withheld == CpuSet.parse("10-11,14-15")


def test_events_tell_what_is_withheld(tmp_path: Path) -> None:
    path = tmp_path / store.FILE_NAME
    store.create(path, PLACED, PEER, 1.0)
    assert store.load(path).ledger.claims == PLACED.claims
    assert [event.after for event in store.read_events(path, None, 2)] == [
        {"pool": "isolated", "cpus": "6-7", "explicit": "", "policy": "legacy", "withheld": "14-15"},
        {"pool": "isolated", "cpus": "9", "explicit": "", "policy": "legacy"},
    ]


@pytest.mark.parametrize(
    ("placement", "sentence"),
    [
        ({"policy": {"numa_policy": "sideways"}}, "'numa_policy' cannot be 'sideways'"),
        ({"policy": {"prefer_closest_numa_nodes": 1}}, "'prefer_closest_numa_nodes' cannot be 1"),
        ({"policy": {"near": True}}, "'near' cannot be True"),
        ({"policy": {"favourite_cpu": 7}}, "'favourite_cpu' cannot be 7"),
        ({"wishes": {"cpu_thread_policy": "none"}}, "'cpu_thread_policy' cannot be 'none'"),
        ({"wishes": {"near": "eth0"}}, "'near' cannot be 'eth0'"),
        ({"wishes": {"cpu_distribution": "cores"}}, "'cpu_distribution' cannot be 'cores'"),
        ({"withheld": "x"}, "'x'"),
        ({"alone": "x"}, "'x'"),
        ({"alone": "5"}, "holds no CPUs, or explicit ones it does not own"),
        ("not JSON", "Expecting value"),
        ([], ""),
        ({"policy": []}, ""),
        ({"withheld": 5}, ""),
    ],
)
def test_an_unknown_placement_is_refused_although_its_checksum_is_right(
    path: Path, placement: object, sentence: str
) -> None:
    text = placement if isinstance(placement, str) else json.dumps(placement)
    row = ("a", "isolated", "2-3", "2", "legacy", text)
    total = store.load(path).checksum ^ rows.checksum((*row[:-1], "")) ^ rows.checksum(row)
    sql(path, f"UPDATE claim SET placement = '{text}', checksum = {rows.checksum(row)} WHERE service = 'a'")
    sql(path, f"UPDATE meta SET value = '{total}' WHERE key = 'checksum'")
    with pytest.raises(StateError, match=f"^does not verify: .*{sentence}"):
        store.open_store(path)


# --- a database of an older schema ---

#: What the daemon made that knew schema 1, as `iterdump` tells it.
SCHEMA_1 = """
CREATE TABLE claim (service TEXT PRIMARY KEY, pool TEXT NOT NULL, cpus TEXT NOT NULL, explicit TEXT NOT NULL,
                    policy TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO claim VALUES('a','isolated','2-3','2','legacy',21833069709260625);
INSERT INTO claim VALUES('b','general','5','','non-preemptive',9059940418537969);
CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL NOT NULL, pid INTEGER NOT NULL, uid INTEGER NOT NULL,
                    gid INTEGER NOT NULL, action TEXT NOT NULL, service TEXT NOT NULL,
                    before TEXT, after TEXT) STRICT;
INSERT INTO event VALUES(1,1.0,7,0,0,'allocate_cores','a',NULL,
    '{"pool":"isolated","cpus":"2-3","explicit":"2","policy":"legacy"}');
INSERT INTO event VALUES(2,1.0,7,0,0,'allocate_cores','b',NULL,
    '{"pool":"general","cpus":"5","explicit":"","policy":"non-preemptive"}');
INSERT INTO event VALUES(3,1.0,7,0,0,'allocate_cores','a',NULL,'{"node_id":0,"size_kb":2048,"hugepages":4}');
INSERT INTO event VALUES(4,1.0,7,0,0,'allocate_cores','a',NULL,'{"node_id":1,"size_kb":1048576,"hugepages":1}');
CREATE TABLE hugepages (service TEXT NOT NULL, node_id INTEGER NOT NULL, size_kb INTEGER NOT NULL,
                        count INTEGER NOT NULL, checksum INTEGER NOT NULL,
                        PRIMARY KEY (service, node_id, size_kb)) STRICT, WITHOUT ROWID;
INSERT INTO hugepages VALUES('a',0,2048,4,35012458125404674);
INSERT INTO hugepages VALUES('a',1,1048576,1,4893795250373475);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('checksum','210815130179521');
INSERT INTO meta VALUES('nodes','{"0": "0-3"}');
INSERT INTO meta VALUES('undone','0');
PRAGMA application_id = 1162887503;
PRAGMA user_version = 1;
"""
IN_SCHEMA_1 = Ledger.of(
    [claim("a", "2-3", "2"), Claim("b", "general", CpuSet.parse("5"), CpuSet.parse(""), "non-preemptive")],
    {"a": {(0, 2048): 4, (1, 1048576): 1}},
)


@pytest.fixture(params=["delete", "wal"])
def older(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A database of schema 1: as it was created, and as it is after it was in use."""
    path = tmp_path / "older" / store.FILE_NAME
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA_1)
        db.execute(f"PRAGMA journal_mode = {request.param}")
    return path


def is_schema_1(path: Path) -> bool:
    loaded = store.load_copy(path)
    assert content(loaded.ledger) == content(IN_SCHEMA_1)
    assert loaded.seen.nodes == {0: CpuSet.parse("0-3")}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(claim)")]
    assert ("placement" in columns) is (loaded.version == 3)
    return loaded.version == 1


def test_an_older_database_is_brought_up_to_date_and_keeps_everything(older: Path) -> None:
    before = store.read_events(older, None, 50)
    assert [event.id for event in before] == [1, 2, 3, 4]
    assert is_schema_1(older)
    opened, loaded = store.open_store(older)
    assert content(loaded.ledger) == content(IN_SCHEMA_1)
    assert not is_schema_1(older), "and it verifies with its new checksums"
    assert store.read_events(older, None, 50) == before
    commit(opened, Change((ClaimChange(claim("a", "2-3", "2"), PLACED.claims["a"]),)))
    opened.close()
    opened, loaded = store.open_store(older)
    opened.close()
    assert loaded.ledger.claims["a"] == PLACED.claims["a"]
    assert [event.id for event in store.read_events(older, None, 50)] == [1, 2, 3, 4, 5]


def test_reading_an_older_database_leaves_it_alone(older: Path) -> None:
    before = older.read_bytes()
    assert store.load(older).version == 1
    assert is_schema_1(older)
    assert older.read_bytes() == before


class Interrupted(sqlite3.Connection):
    """A connection whose COMMIT fails, as on a full disk; what a crash at this moment leaves is copied before."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            directory = Path(super().execute("PRAGMA database_list").fetchone()[2]).parent
            shutil.copytree(directory, directory.with_name("crashed"))
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *parameters)


def test_an_interrupted_upgrade_leaves_the_older_database_whole(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            store.open_store(older)
    for connection in connections:
        connection.close()
    crashed = older.parent.with_name("crashed") / older.name
    for path in (older, crashed):
        assert is_schema_1(path)
        opened, _ = store.open_store(path)
        opened.close()
        assert not is_schema_1(path)


def test_a_damaged_older_database_is_refused_and_left_alone(older: Path) -> None:
    sql(older, "UPDATE claim SET cpus = '2-4' WHERE service = 'a'")
    before = older.read_bytes()
    with pytest.raises(StateError, match="the checksum of a row is wrong"):
        store.open_store(older)
    assert older.read_bytes() == before


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be created: Not a directory"):
        store.create(tmp_path / "file" / "x" / store.FILE_NAME, LEDGER, PEER, 1.0)


# --- files that others write, and files after a crash ---


def make_hot_journal(path: Path) -> None:
    """Leave the files of an interrupted transaction: some of its pages, and the journal that undoes them."""
    program = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = DELETE")
db.execute("PRAGMA cache_size = 1")
db.execute("PRAGMA cache_spill = 1")
db.execute("BEGIN")
db.execute("DELETE FROM claim")
db.execute("UPDATE meta SET value = 'half' WHERE key = 'checksum'")
db.executemany("INSERT INTO meta VALUES (?, ?)", [(f"x{number}", "y" * 2000) for number in range(500)])
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.with_name("state.db-journal").stat().st_size > 0


def test_a_transaction_that_was_cut_off_is_undone(path: Path) -> None:
    make_hot_journal(path)
    before = path.read_bytes(), path.with_name("state.db-journal").read_bytes()
    assert content(store.load(path).ledger) == content(LEDGER)
    assert (path.read_bytes(), path.with_name("state.db-journal").read_bytes()) == before, "reading changes nothing"
    opened, loaded = store.open_store(path)
    assert content(loaded.ledger) == content(LEDGER)
    commit(opened, GROWN)
    opened.close()
    assert set(store.load(path).ledger.claims) == {"a", "b"}
    assert not path.with_name("state.db-journal").exists()


def test_the_journal_of_a_first_start_that_was_cut_off_does_no_harm(path: Path, tmp_path: Path) -> None:
    make_hot_journal(path)
    place = tmp_path / "first"
    place.mkdir()
    path.rename(place / "state.db.new")
    path.with_name("state.db-journal").rename(place / "state.db.new-journal")
    store.create(place / store.FILE_NAME, LEDGER, PEER, 1.0)
    assert [file.name for file in place.iterdir()] == [store.FILE_NAME]
    assert content(store.load(place / store.FILE_NAME).ledger) == content(LEDGER)


def test_a_new_database_takes_no_name_that_is_in_use(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StateError, match="cannot be created: File exists"):
        store.create(path, Ledger.of([], {}), PEER, 1.0)
    assert path.read_bytes() == before


def test_a_new_database_is_in_its_final_mode(path: Path) -> None:
    assert path.read_bytes()[18:20] == b"\x02\x02", "the file format version of the write-ahead log (fileformat2.html)"


def test_one_process_writes_a_database(path: Path) -> None:
    opened, _ = store.open_store(path)
    with pytest.raises(store.InUse, match=r"^is in use by another daemon$"):
        store.open_store(path)
    commit(opened, GROWN)
    opened.close()
    again, _ = store.open_store(path)
    again.close()


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
def test_a_file_that_was_replaced_is_noticed(name: str, path: Path) -> None:
    opened, _ = store.open_store(path)
    commit(opened, GROWN)
    file = path.with_name(name)
    copy = shutil.copyfile(file, path.with_name("copy"))
    copy.rename(file)
    assert not opened.in_place()
    opened.close()


def test_a_change_by_another_process_is_not_written_over(path: Path) -> None:
    opened, _ = store.open_store(path)
    sql(path, "DELETE FROM claim WHERE service = 'a'")
    with pytest.raises(store.Overtaken, match="another process has changed the database"):
        opened.stage(GONE, PEER, "allocate_cores", 2.0)
    opened.close()


def test_others_may_not_write_the_database(path: Path) -> None:
    path.chmod(0o666)
    opened, _ = store.open_store(path)
    opened.close()
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("events", "size"), [(50, 10**9), (10**9, 1_000_000)])
def test_the_history_is_bounded_while_changes_go_on(
    events: int, size: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_EVENTS", events)
    monkeypatch.setattr(store, "MAX_HISTORY_BYTES", size)
    opened, _ = store.open_store(path)
    wide = ",".join(str(cpu) for cpu in range(100, 3000, 2))
    most = 0
    for number in range(200):
        commit(opened, Change((ClaimChange(None, claim("w", wide)),)), Change((ClaimChange(claim("w", wide), None),)))
        if number > 100:
            most = max(most, len(store.read_events(path, None, 10**6)))
    used = opened._used_bytes()
    opened.close()
    newest = store.read_events(path, None, 1)[0]
    assert newest.id == 4 + 400, "none of the new ones is dropped"
    assert most <= events + 2 * 2 * store._COMMITS_PER_LOOK
    assert used <= size + 3 * 2 * store._COMMITS_PER_LOOK * 7000, (
        "what came since the last look, and as much again until it is dropped"
    )


def test_a_change_that_leaves_the_claims_alone_is_no_reason_to_stop(path: Path) -> None:
    opened, loaded = store.open_store(path)
    sql(path, "UPDATE event SET service = 'damaged'")
    assert not opened.untouched()
    opened.verify()
    assert opened.untouched()
    commit(opened, Change(claims=(ClaimChange(None, claim("later", "7")),)))
    opened.close()
    assert store.load(path).ledger.claims.keys() == {*loaded.ledger.claims, "later"}


def test_a_store_takes_its_own_commits_and_checkpoints_for_no_change_by_others(path: Path) -> None:
    opened, _ = store.open_store(path)
    size = path.stat().st_size
    for count in range(1, 601):
        commit(opened, Change(pages=PagesChange(f"{count:03}{'x' * 250}", (0, 2048), 0, count)))
        assert opened.untouched()
    assert path.stat().st_size > size + 100_000, "the log is moved into the database while changes go on"
    assert path.with_name("state.db-wal").stat().st_size < 8 * 1024 * 1024
    assert opened.tidy() is False
    assert opened.untouched()
    opened.close()


def test_a_database_that_was_replaced_while_it_was_opened_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = store.load

    def replace_and_load(path: Path) -> store.Loaded:
        shutil.copyfile(path, path.with_name("copy")).rename(path)
        return load(path)

    with monkeypatch.context() as patch:
        patch.setattr(store, "load", replace_and_load)
        with pytest.raises(StateError, match=r"^was replaced by another file while it was opened$"):
            store.open_store(path)
    opened, _ = store.open_store(path)
    opened.close()


def test_a_directory_in_the_place_of_a_half_made_database_does_not_stop_a_start(path: Path) -> None:
    path.with_name("state.db.new").mkdir()
    opened, _ = store.open_store(path)
    commit(opened, GROWN)
    opened.close()


@pytest.mark.parametrize("reader", [store.load, store.load_copy])
def test_a_link_to_the_database_is_read_with_the_log_and_journal_of_its_target(
    reader: Callable[[Path], store.Loaded], path: Path, tmp_path: Path
) -> None:
    link = tmp_path / "elsewhere" / "state.db"
    link.parent.mkdir()
    link.symlink_to(path)
    opened, _ = store.open_store(path)
    commit(opened, GROWN)
    assert set(reader(link).ledger.claims) == {"a", "b"}
    opened.close()
    make_hot_journal(path)
    assert set(reader(link).ledger.claims) == {"a", "b"}
    opened, _ = store.open_store(link)
    opened.close()


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a device"])
def test_what_is_no_file_is_not_read(kind: str, tmp_path: Path) -> None:
    """A FIFO would make the reader wait, and a device may have no end."""
    path = tmp_path / "state.db"
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        for read in (lambda: store.read_events(path, None, 1), lambda: store.load_copy(path)):
            with pytest.raises(StateError, match=r"^cannot be read: state\.db is not a regular file$"):
                read()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_fifo_by_the_database_is_told_without_waiting(suffix: str, path: Path) -> None:
    """SQLite would open it, and so wait for somebody who writes."""
    os.mkfifo(path.with_name(path.name + suffix))
    command = "import sys; from pathlib import Path; from epa_orchestrator.state import store\n"
    command += (
        "for read in (store.load, store.load_copy, store.open_store, lambda path: store.read_events(path, None, 1)):\n"
    )
    command += "    try: read(Path(sys.argv[1])); print('read')\n"
    command += "    except store.StateError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", command, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines() == [f"cannot be read: state.db{suffix} is not a regular file"] * 4


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("claim", "service", None),
        ("claim", "service", b"a"),
        ("claim", "cpus", 2),
        ("claim", "cpus", b"2-3"),
        ("claim", "explicit", 2),
        ("claim", "placement", 5),
        ("hugepages", "service", None),
        ("hugepages", "service", b"a"),
        ("hugepages", "count", None),
        ("hugepages", "count", "x"),
        ("hugepages", "count", 1.5),
    ],
)
def test_values_of_another_type_do_not_verify(table: str, column: str, value: object, path: Path) -> None:
    """Ours are checked by SQLite; here another program has made the table, with checksums that are right."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        table_rows = db.execute(f"SELECT * FROM {table}").fetchall()
        changed = [dict(zip(names, row, strict=True)) for row in table_rows]
        changed[0][column] = value
        db.execute(f"DROP TABLE {table}")
        db.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        total = int(db.execute("SELECT value FROM meta WHERE key = 'checksum'").fetchone()[0])
        for row, before in zip(changed, table_rows, strict=True):
            row["checksum"] = rows.checksum(tuple(row.values())[:-1])
            total ^= before[-1] ^ row["checksum"]
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(total),))
    with pytest.raises(StateError, match=r"^does not verify: a row holds a value of another type$"):
        store.load(path)
