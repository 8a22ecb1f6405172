# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A full, read-only or failing disk, and a damaged database: the daemon answers with an error and loses nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import pytest

from .faults import Fault, compile_library
from .harness import Daemon, Json, error_of, in_threads, run_all, wait_until

CHANGES: Final[list[tuple[str, Json]]] = [
    ("allocate_cores", {"service_name": "new", "num_of_cores": 2}),
    ("allocate_cores", {"service_name": "keep", "num_of_cores": 5}),
    ("allocate_cores", {"service_name": "keep", "num_of_cores": 1}),
    ("allocate_cores", {"service_name": "keep", "num_of_cores": -1}),
    ("allocate_cores", {"service_name": "keep", "num_of_cores": 3, "preemption_policy": "non-preemptive"}),
    ("allocate_cores_percent", {"service_name": "new", "percent": 25}),
    ("allocate_cores_percent", {"service_name": "keep", "percent": 0}),
    ("allocate_numa_cores", {"service_name": "new", "numa_node": 0, "num_of_cores": 2}),
    ("allocate_numa_cores", {"service_name": "pinned", "numa_node": 1, "num_of_cores": -1}),
    ("allocate_hugepages", {"service_name": "new", "node_id": 0, "size_kb": 2048, "hugepages_requested": 3}),
    ("allocate_hugepages", {"service_name": "keep", "node_id": 0, "size_kb": 2048, "hugepages_requested": -1}),
]


def populate(daemon: Daemon) -> None:
    """Claims of every kind."""
    daemon.cores("keep", 3)
    daemon.numa("pinned", 1, 2, preemption_policy="non-preemptive")
    daemon.pages("keep", 0, 2048, 6)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail."""
    compiled = compile_library(tmp_path_factory.mktemp("fault"))
    if compiled is None:
        pytest.skip("no C compiler")
    return compiled


NOT_STORED: Final = "Nothing was changed because the state could not be stored"


def all_refused(daemon: Daemon, reason: str = NOT_STORED) -> None:
    """Check that every change is refused for this reason, alone and at the same time as others, and shows nowhere."""
    before = daemon.snapshot()

    def refused(action: str, fields: Json) -> None:
        assert reason in error_of(daemon.call(action, **fields))

    for action, fields in CHANGES:
        refused(action, fields)
        assert daemon.snapshot() == before, action

    run_all([lambda action=action, fields=fields: refused(action, fields) for action, fields in CHANGES * 2])
    assert daemon.snapshot() == before


def all_work(daemon: Daemon) -> None:
    """Check that changes are granted again, from the state before the fault."""
    daemon.cores("after", 2)
    daemon.cores("keep", 4)
    daemon.pages("after", 0, 2048, 2)
    daemon.cores("brief", 1)
    daemon.cores("brief", -1)
    assert set(daemon.claims()) == {"keep", "pinned", "after"}


FAULTS: Final = {
    "sync fails": ("sync", errno.EIO),
    "disk full": ("write", errno.ENOSPC),
    "read-only": ("write", errno.EROFS),
    "disk full in the middle of a write": ("torn", errno.ENOSPC),
}


@pytest.mark.parametrize(("kind", "number"), FAULTS.values(), ids=FAULTS.keys())
def test_failed_writes_refuse_changes(library: Path, kind: str, number: int) -> None:
    with Daemon() as daemon:
        fault = Fault(daemon, library, kind, number)
        daemon.start(fault.environment)
        populate(daemon)
        before = daemon.snapshot()
        fault.on()
        all_refused(daemon)
        daemon.kill()
        fault.off()
        daemon.start(fault.environment)
        assert daemon.snapshot() == before, "a refused change must not come back"
        all_work(daemon)


@pytest.mark.parametrize(("kind", "number"), FAULTS.values(), ids=FAULTS.keys())
def test_changes_between_faults_are_kept(library: Path, kind: str, number: int) -> None:
    with Daemon() as daemon:
        fault = Fault(daemon, library, kind, number)
        daemon.start(fault.environment)
        expected = daemon.claims()
        for turn in range(4):
            fault.on()
            assert NOT_STORED in daemon.refused("allocate_cores", service_name=f"refused-{turn}", num_of_cores=1)
            fault.off()
            expected[f"svc-{turn}"] = daemon.cores(f"svc-{turn}", 1)
            assert daemon.claims() == expected
        before = daemon.snapshot()
        fault.on()
        assert NOT_STORED in daemon.refused("allocate_cores", service_name="refused", num_of_cores=2)
        daemon.kill()
        daemon.start()
        assert daemon.snapshot() == before, "a refused change must not come back"


def test_stop_after_failed_syncs_loses_nothing(library: Path) -> None:
    with Daemon() as daemon:
        fault = Fault(daemon, library, "sync")
        daemon.start(fault.environment)
        populate(daemon)
        before = daemon.snapshot()
        fault.on()
        all_refused(daemon)
        assert daemon.stop() == 0
        fault.off()
        daemon.start()
        assert daemon.snapshot() == before


@pytest.mark.parametrize("kind", ["sync", "write", "torn"])
def test_faults_while_idle_lose_nothing(library: Path, kind: str) -> None:
    # An idle daemon moves its log into the database, which may fail too.
    with Daemon() as daemon:
        fault = Fault(daemon, library, kind)
        daemon.start(fault.environment)
        populate(daemon)
        before = daemon.snapshot()
        fault.on()
        wait_until(lambda: fault.hits > 0, "the idle daemon meets the fault")
        assert daemon.snapshot() == before
        daemon.kill()
        daemon.start()
        assert daemon.snapshot() == before


def test_unsynced_changes_are_invisible(library: Path) -> None:
    with Daemon() as daemon:
        fault = Fault(daemon, library, "sync", milliseconds=300)
        daemon.start(fault.environment)
        populate(daemon)
        before = daemon.claims()
        fault.on()
        for action, fields in CHANGES[:4]:
            with in_threads(lambda action=action, fields=fields: error_of(daemon.call(action, **fields))):
                for _ in range(5):  # during the slow sync, which then fails
                    assert daemon.claims() == before
                    time.sleep(0.1)


def test_waiting_changes_share_a_sync(library: Path) -> None:
    with Daemon() as daemon:
        fault = Fault(daemon, library, "sync", number=0, milliseconds=100)
        daemon.start(fault.environment)
        daemon.cores("warm", 1)
        daemon.cores("warm", -1)
        fault.on()
        run_all([lambda number=number: daemon.pages(f"svc-{number}", 0, 2048, 1) for number in range(32)])
        shared = fault.hits
        assert 0 < shared < 16
        for number in range(4):
            daemon.cores(f"svc-{number}", 1)
        assert fault.hits >= shared + 4, "a lone change waits for a sync of its own"


def test_sigterm_waits_for_a_sync(library: Path) -> None:
    with Daemon() as daemon:
        fault = Fault(daemon, library, "sync", number=0, milliseconds=500)
        daemon.start(fault.environment)
        fault.on()
        granted: list[set[int]] = []
        with in_threads(lambda: granted.append(daemon.cores("svc", 3))):
            wait_until(lambda: fault.hits > 0, "the change is on its way to the disk")
            assert daemon.stop() == 0
        daemon.start()
        assert daemon.claims() == {"svc": granted[0]}


def test_file_size_limit_refuses_changes() -> None:
    # The kernel refuses every write to a file with EFBIG, which needs neither root nor a compiler.
    with Daemon() as daemon:
        daemon.start()
        populate(daemon)
        before = daemon.snapshot()
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, hard))
        all_refused(daemon)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert daemon.snapshot() == before
        all_work(daemon)
        before = daemon.snapshot()
        daemon.kill()
        daemon.start()
        assert daemon.snapshot() == before


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Generator[Callable[[str], None]]:
    """A file system of its own at `directory`; yields a function that remounts it with other options."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("no permission to mount here")
    try:
        yield lambda changed: subprocess.run(["mount", "-o", f"remount,{changed}", str(directory)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(path: Path) -> None:
    """Write until the file system is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)


def test_full_disk_loses_nothing() -> None:
    with Daemon() as daemon, mounted(daemon.common, "size=4m"):
        daemon.start()
        populate(daemon)
        fill(daemon.common / "filler")
        # Some changes may still fit into free space inside the database.
        expected = daemon.claims()
        answer: Json = {}
        for turn in range(20_000):
            count = 1 + turn % 3
            answer = daemon.call("allocate_cores", service_name="busy", num_of_cores=count)
            if "error" in answer:
                break
            expected = daemon.claims()
            assert len(expected["busy"]) == count
        assert NOT_STORED in error_of(answer)
        assert daemon.claims() == expected
        all_refused(daemon)
        before = daemon.snapshot()
        daemon.kill()
        daemon.start()
        assert daemon.snapshot()[0]["allocations"] == before[0]["allocations"], "a full disk can still be read"
        (daemon.common / "filler").unlink()
        daemon.kill()
        daemon.start()
        assert daemon.snapshot() == before
        daemon.cores("busy", -1)
        all_work(daemon)
        daemon.stop()


def test_full_disk_at_the_first_start_refuses_changes() -> None:
    with Daemon() as daemon, mounted(daemon.common, "size=64k"):
        fill(daemon.common / "filler")
        daemon.start()
        assert daemon.claims() == {}
        before = daemon.snapshot()
        for action, fields in CHANGES:
            assert "state.db cannot be created" in error_of(daemon.call(action, **fields))
        assert daemon.snapshot() == before
        daemon.stop()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_read_only_directory_refuses_changes(end: str) -> None:
    with Daemon() as daemon, mounted(daemon.common, "size=4m") as remount:
        daemon.start()
        populate(daemon)
        expected = daemon.snapshot()
        getattr(daemon, end)()
        content = {path.name: path.read_bytes() for path in daemon.common.glob("state.db*")}
        remount("ro")
        daemon.start()
        assert daemon.ok("list_allocations")["allocations"] == expected[0]["allocations"]
        all_refused(daemon, "Read-only file system")
        daemon.stop()
        assert {path.name: path.read_bytes() for path in daemon.common.glob("state.db*")} == content
        remount("rw")
        daemon.start()
        assert daemon.snapshot() == expected
        all_work(daemon)
        daemon.stop()


@pytest.fixture(scope="module")
def good_database() -> tuple[bytes, tuple[Json, Json, Json]]:
    """A database with claims and some history, and the answers of a daemon that uses it."""
    with Daemon() as daemon:
        daemon.start()
        populate(daemon)
        for number in range(40):  # some history
            daemon.cores("keep", 3 + number % 2)
        daemon.cores("keep", 3)
        expected = daemon.snapshot()
        daemon.stop()
        path = daemon.common / "state.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return path.read_bytes(), expected


def with_sql(content: bytes, directory: Path, *statements: str) -> bytes:
    """The database after some SQL."""
    path = directory / "changed.db"
    path.write_bytes(content)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE").fetchall()
        for statement in statements:
            database.execute(statement)
        database.commit()
        database.execute("PRAGMA journal_mode=WAL").fetchall()
    return path.read_bytes()


def scribble(content: bytes, at: int, text: bytes) -> bytes:
    """The bytes with other ones in one place."""
    return content[:at] + text + content[at + len(text) :]


DAMAGE: Final[dict[str, Callable[[bytes, Path], bytes]]] = {
    "emptied": lambda content, _: b"",
    "one byte": lambda content, _: b"S",
    "header only": lambda content, _: content[:100],
    "first page only": lambda content, _: content[:4096],
    "truncated to half": lambda content, _: content[: len(content) // 8192 * 4096],
    "last page gone": lambda content, _: content[:-4096],
    "zeros": lambda content, _: bytes(len(content)),
    "text": lambda content, _: b"this is not a database\n" * 400,
    "no SQLite header": lambda content, _: scribble(content, 0, b"SQLite format 2\0"),
    "schema scribbled": lambda content, _: scribble(content, 100, b"\xa5" * 400),
    "all but the header scribbled": lambda content, _: content[:100] + b"\xa5" * (len(content) - 100),
    "service renamed": lambda content, _: content.replace(b"keep", b"kelp"),
    "newer schema": lambda content, tmp: with_sql(content, tmp, "PRAGMA user_version = 1000"),
    "another program's database": lambda content, tmp: with_sql(
        b"", tmp, "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_database_is_left_unchanged(
    tmp_path: Path, good_database: tuple[bytes, tuple[Json, Json, Json]], damage: Callable[[bytes, Path], bytes]
) -> None:
    damaged = damage(good_database[0], tmp_path)
    assert damaged != good_database[0]
    with Daemon() as daemon:
        path = daemon.common / "state.db"
        path.write_bytes(damaged)
        daemon.start()
        state_error = daemon.ok("list_allocations")["state_error"]
        assert isinstance(state_error, str)
        assert "state.db" in state_error
        assert daemon.ok("list_allocations")["remaining_available_cpus"] == 0
        assert daemon.ok("get_memory_info")["numa_hugepages"].keys() == {"node0", "node1", "node2"}
        before = daemon.snapshot()
        for action, fields in CHANGES:
            assert "state.db" in error_of(daemon.call(action, **fields))
        assert daemon.snapshot() == before
        assert path.read_bytes() == damaged
        daemon.stop()
        assert path.read_bytes() == damaged


def test_restored_copy_replaces_a_damaged_database(good_database: tuple[bytes, tuple[Json, Json, Json]]) -> None:
    good, expected = good_database
    with Daemon() as daemon:
        path = daemon.common / "state.db"
        path.write_bytes(scribble(good, 4096, b"\xa5" * 100))
        for end in (daemon.kill, daemon.stop):
            daemon.start()
            assert "state_error" in daemon.ok("list_allocations")
            end()
        path.write_bytes(good)
        daemon.start()
        assert daemon.snapshot() == expected
        all_work(daemon)


def test_newer_schema_is_named(tmp_path: Path, good_database: tuple[bytes, tuple[Json, Json, Json]]) -> None:
    with Daemon() as daemon:
        (daemon.common / "state.db").write_bytes(DAMAGE["newer schema"](good_database[0], tmp_path))
        daemon.start()
        sentence = error_of(daemon.call("allocate_cores", service_name="new", num_of_cores=1))
        assert "schema version is 1000" in sentence


def test_refuses_a_directory_as_database() -> None:
    with Daemon() as daemon:
        (daemon.common / "state.db").mkdir()
        daemon.start()
        assert "state.db" in daemon.ok("list_allocations")["state_error"]
        assert "state.db" in error_of(daemon.call("allocate_cores", service_name="new", num_of_cores=1))
        daemon.stop()
        assert (daemon.common / "state.db").is_dir()


def test_small_damage_never_changes_a_claim(good_database: tuple[bytes, tuple[Json, Json, Json]]) -> None:
    # A flipped bit may be in a byte without meaning. Otherwise the daemon must notice it and use no claim.
    good, expected = good_database
    chance = random.Random(3)
    used = [at for at in range(100, len(good)) if good[at]]
    flipped = {at: scribble(good, at, bytes([good[at] ^ (1 << chance.randrange(8))])) for at in chance.sample(used, 12)}
    noticed = 0
    with Daemon() as daemon:
        path = daemon.common / "state.db"
        for where, damaged in (flipped | {-cut: good[:-cut] for cut in (1, 100)}).items():
            for leftover in daemon.common.glob("state.db*"):
                leftover.unlink()
            path.write_bytes(damaged)
            daemon.start()
            if "state_error" in daemon.ok("list_allocations"):
                noticed += 1
                assert "state.db" in error_of(daemon.call("allocate_cores", service_name="new", num_of_cores=1))
            else:
                assert daemon.snapshot() == expected, f"byte {where}"
            daemon.kill()
    assert noticed > 1, "none of the flipped bits mattered"


def test_missing_database_is_a_first_start(daemon: Daemon) -> None:
    populate(daemon)
    daemon.stop()
    shutil.rmtree(daemon.common)
    daemon.common.mkdir()
    daemon.start()
    assert daemon.claims() == {}
    daemon.cores("new", 2)


def test_state_is_not_where_other_snaps_can_write(daemon: Daemon) -> None:
    populate(daemon)
    names: set[str] = {path.name for path in (daemon.data / "data").iterdir()}
    assert names == {"epa.sock"}
    assert any(daemon.common.iterdir())


def all_rows(database: Path) -> list[Any]:
    """Every row of every table."""
    with contextlib.closing(sqlite3.connect(database)) as opened:
        tables = [row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [row for table in tables for row in opened.execute(f"SELECT * FROM {table}")]


def test_released_service_stays_in_the_history(daemon: Daemon) -> None:
    populate(daemon)
    daemon.cores("brief", 1)
    daemon.cores("brief", -1)
    daemon.refused("allocate_cores", service_name="greedy", num_of_cores=100)
    daemon.stop()
    rows = [str(row) for row in all_rows(daemon.common / "state.db")]
    # The grant and the release; a refusal changes nothing and is no event.
    brief = [row for row in rows if "brief" in row]
    assert len(brief) == 2
    assert all(str(os.getpid()) in row for row in brief), "the peer that asked"
    assert not any("greedy" in row for row in rows)
