# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Two writers of one state: no CPU has two owners, and nothing that was acknowledged is missing after a SIGKILL.

The other writer is a second daemon, a person who restores or deletes files, or a process that writes the database.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files, opening
from tests.functional.harness import Daemon, Json, error_of, parse_cpus, wait_until

#: How much longer than a reading an immediate refusal may take: waiting for a lock takes thousands of times as long.
IMMEDIATE: Final = 200

#: After this time (s) without a change the daemon has moved its log into the file that it has open.
TIDIED_AFTER: Final = 1.5


def claims_of(daemon: Daemon) -> dict[str, set[int]]:
    """The CPUs of each service; the state must be usable."""
    listing = daemon.ok("list_allocations")
    assert "state_error" not in listing, listing["state_error"]
    return daemon.claims()


def database(daemon: Daemon) -> Path:
    return daemon.common / database_files.FILE_NAME


def log_of(daemon: Daemon) -> Path:
    return daemon.common / f"{database_files.FILE_NAME}-wal"


# --- two daemons --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def second_daemon(first: Daemon) -> Generator[Daemon]:
    """A second daemon with its own socket, on the machine and the state of the first; not started yet."""
    with Daemon() as second:
        second.environment |= {"SNAP_COMMON": str(first.common), "EPA_SYSFS": str(first.host.root)}
        yield second
        if second.process is not None:
            second.process.close()


def launch(daemon: Daemon) -> None:
    """Start it and wait until it answers or has ended."""
    process = daemon.launch()

    def settled() -> bool:
        if not process.running:
            return True
        try:
            return "version" in daemon.call("list_allocations")
        except OSError:
            return False

    wait_until(settled, "the daemon answers or ends")


def runs(daemon: Daemon) -> bool:
    return daemon.process is not None and daemon.process.running


def ask_in_turn(daemons: list[Daemon]) -> list[tuple[str, set[int]]]:
    """Ask all running daemons in turn for CPUs for new services; returns the services with the CPUs granted."""
    granted: list[tuple[str, set[int]]] = []
    for turn in range(4):
        for number, daemon in enumerate(daemons):
            service = f"svc-{turn}-{number}"
            answer = daemon.call("allocate_cores", service_name=service, num_of_cores=1) if runs(daemon) else {}
            if "allocated_cores" in answer:
                granted.append((service, parse_cpus(answer["allocated_cores"])))
    return granted


def assert_no_cpu_twice(granted: list[tuple[str, set[int]]]) -> None:
    cpus = [cpu for _, each in granted for cpu in each]
    assert len(cpus) == len(set(cpus)), f"granted twice: {granted}"


def assert_all_stored(daemon: Daemon, granted: list[tuple[str, set[int]]]) -> None:
    """After a SIGKILL and a start everything that was acknowledged is there."""
    daemon.kill()
    daemon.start()
    claims = claims_of(daemon)
    assert {service: claims.get(service) for service, _ in granted} == dict(granted)


def nothing(_: Path) -> None:
    """The lock stays as it is."""


def remove(lock: Path) -> None:
    if lock.is_dir():
        lock.rmdir()
    else:
        lock.unlink(missing_ok=True)


def directory(lock: Path) -> None:
    remove(lock)
    lock.mkdir()


def loop_of_links(lock: Path) -> None:
    """A name that cannot be opened."""
    remove(lock)
    lock.symlink_to(lock.name)


def empty_file(lock: Path) -> None:
    new = lock.with_name("lock.new")
    new.touch()
    new.replace(lock)


def check_first_daemon(first: Daemon, second: Daemon) -> None:
    """Check that only the first of two daemons grants CPUs, none of them twice."""
    granted = ask_in_turn([first, second])
    assert [service for service, _ in granted] == [f"svc-{turn}-0" for turn in range(4)]
    assert_no_cpu_twice([("before", first.claims()["before"]), *granted])
    if second.process is not None:
        second.process.close()
    remove(first.common / "lock")
    assert_all_stored(first, granted)


@pytest.mark.parametrize("change", [nothing, remove, empty_file], ids=["as it is", "removed", "another file"])
def test_second_daemon_ends(change: Callable[[Path], None]) -> None:
    with Daemon() as first, second_daemon(first) as second:
        first.start()
        first.cores("before", 2)
        change(first.common / "lock")
        launch(second)
        ended_with_a_sentence(second)
        check_first_daemon(first, second)


@pytest.mark.parametrize("change", [directory, loop_of_links], ids=["a directory", "cannot be opened"])
def test_second_daemon_that_cannot_lock_only_reads(change: Callable[[Path], None]) -> None:
    with Daemon() as first, second_daemon(first) as second:
        first.start()
        first.cores("before", 2)
        change(first.common / "lock")
        launch(second)
        assert "cannot be locked" in second.ok("list_allocations")["state_error"]
        check_first_daemon(first, second)


def ended_with_a_sentence(daemon: Daemon) -> None:
    assert daemon.process is not None
    assert daemon.wait() != 0
    assert "Traceback" not in daemon.log()
    assert "Another daemon already uses the state" in daemon.log()


@pytest.mark.parametrize("change", [directory, loop_of_links])
def test_daemon_without_a_lock_only_reads(change: Callable[[Path], None]) -> None:
    with Daemon() as daemon:
        daemon.start()
        daemon.cores("a", 2)
        daemon.stop()
        change(daemon.common / "lock")
        daemon.start()
        assert "cannot be locked" in daemon.ok("list_allocations")["state_error"]
        assert "cannot be locked" in error_of(daemon.call("allocate_cores", service_name="b", num_of_cores=1))
        remove(daemon.common / "lock")
        daemon.restart()
        assert set(claims_of(daemon)) == {"a"}


def test_only_one_of_four_daemons_serves() -> None:
    with Daemon() as first, contextlib.ExitStack() as stack:
        daemons = [first, *(stack.enter_context(second_daemon(first)) for _ in range(3))]
        for daemon in daemons:
            daemon.launch()
        wait_until(lambda: sum(runs(daemon) for daemon in daemons) <= 1, "all but one have ended")
        (winner,) = [daemon for daemon in daemons if runs(daemon)]
        wait_until(winner.socket_path.exists, "the one serves")
        assert winner.cores("a", 2)
        for daemon in daemons:
            if daemon is not winner:
                ended_with_a_sentence(daemon)
        if winner is not first:
            assert winner.stop() == 0
            first.process = None


# --- a database that is changed under a running daemon --------------------------------------------------------------


def restore_by_rename(daemon: Daemon) -> Callable[[], None]:
    """`cp -a state.db copy` now, `mv copy state.db` later."""
    copy = database(daemon).with_name("copy")
    shutil.copy2(database(daemon), copy)
    return lambda: os.replace(copy, database(daemon))


def restore_in_place(daemon: Daemon) -> Callable[[], None]:
    """`cp -a state.db copy` now, `cp -a copy state.db` later: the same file with older content."""
    copy = database(daemon).with_name("copy")
    shutil.copy2(database(daemon), copy)

    def restore() -> None:
        shutil.copy2(copy, database(daemon))

    return restore


def restore_all_files(daemon: Daemon) -> Callable[[], None]:
    """The database, its log and its index, as a backup has them."""
    files = [file for file in daemon.common.iterdir() if file.name.startswith(database_files.FILE_NAME)]
    backup = daemon.base / "backup"
    backup.mkdir()
    for file in files:
        shutil.copy2(file, backup / file.name)

    def restore() -> None:
        for file in files:
            file.unlink()
            shutil.copy2(backup / file.name, file)

    return restore


def rename_away(daemon: Daemon) -> Callable[[], None]:
    return lambda: os.rename(database(daemon), daemon.common / "elsewhere")


def delete(daemon: Daemon) -> Callable[[], None]:
    return database(daemon).unlink


def delete_the_log(daemon: Daemon) -> Callable[[], None]:
    return lambda: log_of(daemon).unlink()


def empty_the_log(daemon: Daemon) -> Callable[[], None]:
    """`: > state.db-wal`: SQLite then writes its next frames behind no header."""
    return lambda: os.truncate(log_of(daemon), 0)


def restore_many_records_in_place(daemon: Daemon) -> Callable[[], None]:
    """As `restore_in_place`, with records that fill several pages; later changes touch few of these pages."""
    services = [f"{number:02}-{'service' * 30}" for number in range(40)]
    for service in services:
        daemon.pages(service, 0, 2048, 1)
    time.sleep(TIDIED_AFTER)
    restore = restore_in_place(daemon)
    for service in services:
        daemon.pages(service, 0, 2048, -1)
    return restore


def delete_everything(daemon: Daemon) -> Callable[[], None]:
    def delete_all() -> None:
        for file in daemon.common.iterdir():
            if file.name.startswith(database_files.FILE_NAME):
                file.unlink()

    return delete_all


REPLACEMENTS: Final[dict[str, Callable[[Daemon], Callable[[], None]]]] = {
    "restored by a rename": restore_by_rename,
    "restored in place": restore_in_place,
    "many records restored in place": restore_many_records_in_place,
    "its log emptied": empty_the_log,
    "restored with its log": restore_all_files,
    "renamed": rename_away,
    "deleted": delete,
    "its log deleted": delete_the_log,
    "deleted with its log": delete_everything,
}


#: Harmless replacements: the log still has the newer pages, or the log was empty already.
HARMLESS: Final = {
    ("restored in place", "busy"),
    ("many records restored in place", "busy"),
    ("its log emptied", "idle"),
}


@pytest.mark.parametrize("moment", ["busy", "idle"])
@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_replaced_database_loses_no_later_change(kind: str, moment: str) -> None:
    pause = TIDIED_AFTER if moment == "idle" else 0
    with Daemon() as daemon:
        daemon.start()
        daemon.cores("early", 1)
        replace = REPLACEMENTS[kind](daemon)
        daemon.cores("before", 2)
        time.sleep(pause)
        replace()
        granted = [
            (service, parse_cpus(answer["allocated_cores"]))
            for service in ("x", "y", "z")
            if "allocated_cores" in (answer := daemon.call("allocate_cores", service_name=service, num_of_cores=1))
        ]
        listing = daemon.ok("list_allocations")
        assert "before" in [entry["service_name"] for entry in listing["allocations"]], "readings go on"
        if (kind, moment) in HARMLESS:
            assert len(granted) == 3
            assert "state_error" not in listing
        else:
            assert not granted
            assert "no longer" in listing["state_error"]
        time.sleep(pause)
        daemon.kill()
        daemon.start()
        claims = daemon.claims()
        assert {service: claims.get(service) for service, _ in granted} == dict(granted)


def foreign_claim(path: Path, service: str, cpu: int, scratch: Path) -> None:
    """Write a claim with correct checksums into a database, as a foreign process.

    The store's own functions change a copy; then the rows that differ are written into the database.
    """
    with contextlib.closing(sqlite3.connect(path)) as live, contextlib.closing(sqlite3.connect(scratch)) as copy:
        live.backup(copy)
    opened, _ = opening.open_store(scratch)
    cpus = CpuSet((cpu,))
    opened.stage(
        Change((ClaimChange(None, Claim(service, "isolated", cpus, cpus, "legacy")),)), PEER, "allocate_cores", 1.0
    )
    opened.commit()
    opened.close()
    with contextlib.closing(sqlite3.connect(scratch)) as copy:
        claim = copy.execute("SELECT * FROM claim WHERE service = ?", (service,)).fetchone()
        meta = copy.execute("SELECT key, value FROM meta").fetchall()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("BEGIN IMMEDIATE")
        live.execute(f"INSERT INTO claim VALUES ({', '.join('?' * len(claim))})", claim)
        live.executemany("REPLACE INTO meta VALUES (?, ?)", meta)
        live.execute("COMMIT")


PEER: Final = Peer(1, 0, 0)


def test_foreign_row_stops_changes() -> None:
    with Daemon() as daemon:
        daemon.start()
        daemon.cores("a", 1)
        before = daemon.claims()
        cpu = max(daemon.host.isolated - before["a"])
        foreign_claim(database(daemon), "foreign", cpu, daemon.base / "scratch.db")
        for service in ("b", "c"):
            error_of(daemon.call("allocate_cores", service_name=service, num_of_cores=11))
        assert daemon.ok("list_allocations")["state_error"]
        daemon.kill()
        daemon.start()
        assert claims_of(daemon) == before | {"foreign": {cpu}}
        assert daemon.cores("b", 10)
        assert claims_of(daemon)["foreign"] == {cpu}


# --- a held write lock ----------------------------------------------------------------------------------------------


def timed(daemon: Daemon, action: str, **fields: object) -> tuple[float, Json]:
    """How long an answer takes (s), and the answer."""
    began = time.monotonic()
    answer = daemon.call(action, **fields)
    return time.monotonic() - began, answer


def test_held_write_lock_refuses_changes_at_once() -> None:
    with Daemon() as daemon:
        daemon.start()
        daemon.cores("a", 1)
        before = daemon.snapshot()
        readings = [timed(daemon, "list_allocations")[0] for _ in range(20)]
        with contextlib.closing(sqlite3.connect(database(daemon), isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            refusals: list[float] = []
            for turn in range(3):
                seconds, answer = timed(daemon, "allocate_cores", service_name=f"b{turn}", num_of_cores=1)
                refusals.append(seconds)
                error_of(answer)
                assert daemon.snapshot()[0]["allocations"] == before[0]["allocations"]
            foreign.execute("ROLLBACK")
        assert min(refusals) < IMMEDIATE * statistics.median(readings), (refusals, readings)
        granted = [("after", daemon.cores("after", 2)), ("a", daemon.cores("a", 3))]
        assert_all_stored(daemon, granted)
