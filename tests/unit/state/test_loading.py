# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Loading: a database that does not verify is refused, and reading never changes or waits for a file."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import epa_orchestrator
from epa_orchestrator.state.database_files import FILE_NAME
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.loading import Loaded, load, load_copy
from epa_orchestrator.state.opening import open_store
from epa_orchestrator.state.reading import read_events
from epa_orchestrator.state.rows import checksum
from epa_orchestrator.state.store import Store
from tests.unit.state.builders import GROWN, LEDGER, commit, content, journal_of, log_of, run_sql

Interrupt = Callable[[], None]


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("PRAGMA user_version = 5", "its schema version is 5, this daemon knows 4"),
        ("PRAGMA application_id = 1", "not a database of this daemon"),
        ("UPDATE claim SET cpus = '2-4' WHERE service = 'a'", "the checksum of a row is wrong"),
        ("UPDATE claim SET placement = '{}' WHERE service = 'a'", "the checksum of a row is wrong"),
        ("UPDATE hugepages SET count = 5", "the checksum of a row is wrong"),
        ("DELETE FROM claim WHERE service = 'a'", "the checksum over its rows is wrong"),
        ("DELETE FROM meta", "the checksum over its rows is wrong"),
        ("DROP TABLE claim", "cannot be read: no such table: claim"),
    ],
)
def test_a_database_that_does_not_verify_is_refused_and_left_alone(path: Path, statement: str, sentence: str) -> None:
    run_sql(path, statement)
    before = path.read_bytes()
    with pytest.raises(StateError, match=sentence):
        open_store(path)
    assert path.read_bytes() == before


def test_a_log_without_its_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    log_of(path).write_bytes(b"log")
    with pytest.raises(StateError, match="cannot be read: No such file"):
        load(path)


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 10_000])
def test_a_truncated_database_is_refused_and_left_alone(path: Path, size: int) -> None:
    before = path.read_bytes()[:size]
    path.write_bytes(before)
    with pytest.raises(StateError, match=r"is empty|does not verify|cannot be read"):
        open_store(path)
    assert path.read_bytes() == before


def test_random_damage_is_refused_or_changes_no_claim(path: Path) -> None:
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
            ledger = load(path).ledger
        except StateError:
            refused += 1
        else:
            assert content(ledger) == content(LEDGER)
    assert refused > 20


def test_reading_a_damaged_database_with_a_log_leaves_both_alone(path: Path, opened: Store, tmp_path: Path) -> None:
    commit(opened, GROWN)
    crashed = tmp_path / "crashed"
    shutil.copytree(path.parent, crashed)
    database = crashed / FILE_NAME
    log = log_of(database)
    assert log.stat().st_size > 0
    scribbled = bytearray(database.read_bytes())
    scribbled[:16] = b"not a database!!"
    database.write_bytes(scribbled)
    before = database.read_bytes(), log.read_bytes()
    with pytest.raises(StateError):
        open_store(database)
    assert (database.read_bytes(), log.read_bytes()) == before


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
        ("not JSON", "'placement' cannot be 'not JSON'"),
        ([], r"'placement' cannot be \[\]"),
        ({"policy": []}, r"'policy' cannot be \[\]"),
        ({"withheld": 5}, "'withheld' cannot be 5"),
    ],
)
def test_an_unknown_placement_with_a_right_checksum_is_refused(path: Path, placement: object, sentence: str) -> None:
    text = placement if isinstance(placement, str) else json.dumps(placement)
    row = ("a", "isolated", "2-3", "2", "legacy", text)
    total = load(path).checksum ^ checksum((*row[:-1], "")) ^ checksum(row)
    run_sql(path, f"UPDATE claim SET placement = '{text}', checksum = {checksum(row)} WHERE service = 'a'")
    run_sql(path, f"UPDATE meta SET value = '{total}' WHERE key = 'checksum'")
    with pytest.raises(StateError, match=f"^does not verify: .*{sentence}"):
        open_store(path)


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
    """SQLite checks our own tables; here another program has made the table, with checksums that are right."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        table_rows = db.execute(f"SELECT * FROM {table}").fetchall()
        changed = [dict(zip(names, row, strict=True)) for row in table_rows]
        changed[0][column] = value
        db.execute(f"DROP TABLE {table}")
        db.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        total = int(db.execute("SELECT value FROM meta WHERE key = 'checksum'").fetchone()[0])
        for row, before in zip(changed, table_rows, strict=True):
            row["checksum"] = checksum(tuple(row.values())[:-1])
            total ^= before[-1] ^ row["checksum"]
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(total),))
    with pytest.raises(StateError, match=r"^does not verify: a row holds a value of another type$"):
        load(path)


def test_an_interrupted_transaction_is_not_loaded(path: Path, interrupt_transaction: Interrupt) -> None:
    interrupt_transaction()
    assert content(load(path).ledger) == content(LEDGER)


def test_loading_after_an_interrupted_transaction_changes_no_file(path: Path, interrupt_transaction: Interrupt) -> None:
    interrupt_transaction()
    before = path.read_bytes(), journal_of(path).read_bytes()
    load(path)
    assert (path.read_bytes(), journal_of(path).read_bytes()) == before


def test_opening_after_an_interrupted_transaction_undoes_it(path: Path, interrupt_transaction: Interrupt) -> None:
    interrupt_transaction()
    opened, loaded = open_store(path)
    assert content(loaded.ledger) == content(LEDGER)
    commit(opened, GROWN)
    opened.close()
    assert set(load(path).ledger.claims) == {"a", "b"}
    assert not journal_of(path).exists()


@pytest.fixture
def link(path: Path, tmp_path: Path) -> Path:
    """A link to the database from another directory."""
    link = tmp_path / "elsewhere" / FILE_NAME
    link.parent.mkdir()
    link.symlink_to(path)
    return link


@pytest.mark.parametrize("reader", [load, load_copy])
def test_a_linked_database_is_read_with_the_log_of_its_target(
    reader: Callable[[Path], Loaded], link: Path, opened: Store
) -> None:
    commit(opened, GROWN)
    assert str(reader(link).ledger.claims["b"].cpus) == "5-6"


@pytest.mark.parametrize("reader", [load, load_copy])
def test_a_linked_database_is_read_with_the_journal_of_its_target(
    reader: Callable[[Path], Loaded], link: Path, interrupt_transaction: Interrupt
) -> None:
    interrupt_transaction()
    assert set(reader(link).ledger.claims) == {"a", "b"}


def test_a_linked_database_can_be_opened(link: Path) -> None:
    opened, loaded = open_store(link)
    opened.close()
    assert content(loaded.ledger) == content(LEDGER)


@pytest.fixture
def limited_disk() -> Iterator[None]:
    """Nothing may write more than 1 MiB: a device may have no end."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.usefixtures("limited_disk")
@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a device"])
def test_only_a_regular_file_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    for read in (lambda: read_events(path, 1), lambda: load_copy(path)):
        with pytest.raises(StateError, match=r"^cannot be read: state\.db is not a regular file$"):
            read()


#: Reads a database in each way, and prints the errors.
READERS = """
import sys
from pathlib import Path
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.reading import read_events
from epa_orchestrator.state.loading import load, load_copy
from epa_orchestrator.state.opening import open_store
for read in (load, load_copy, open_store, lambda path: read_events(path, 1)):
    try:
        read(Path(sys.argv[1]))
    except StateError as error:
        print(error)
"""


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_fifo_next_to_the_database_is_refused_without_waiting(suffix: str, path: Path) -> None:
    """SQLite would open it, and so wait for a writer."""
    os.mkfifo(path.with_name(path.name + suffix))
    done = subprocess.run(
        [sys.executable, "-c", READERS, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(epa_orchestrator.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines() == [f"cannot be read: state.db{suffix} is not a regular file"] * 4
