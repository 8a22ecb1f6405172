# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Readers of the database while the daemon changes it at full speed: every reading is of one moment, and verifies."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.allocation.settings import load_settings
from epa_orchestrator.configure.hook import apply_options
from epa_orchestrator.hardware.sysfs import SysfsTree
from epa_orchestrator.state import database_files, loading
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.reading import read_events
from tests.functional.harness import Daemon, in_threads, wait_until
from tools.synthetic import Shape

SHAPE: Final = Shape(
    packages=2,
    cores_per_l3=8,
    threads_per_core=2,
    isolated="2-7,10-15,18-23,26-31",
    node_hugepages={0: {2048: (64, 64)}},
)

#: How many clients change something all the time, and how many services each of them has.
CLIENTS: Final = 3
SERVICES: Final = 4

LOADS: Final = 300
HOOKS: Final = 40


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with a few claims that stay."""
    with Daemon(SHAPE) as started:
        started.start()
        started.cores("stays", 2)
        started.pages("stays", 0, 2048, 2)
        yield started


class Changes:
    """How many changes the clients have had acknowledged."""

    def __init__(self) -> None:
        self.count = 0
        self.stop = threading.Event()


def client(daemon: Daemon, number: int, changes: Changes) -> None:
    """Claim and release in turn, without a pause."""
    for turn in itertools.count():
        if changes.stop.is_set():
            return
        service = f"client-{number}-{turn % SERVICES}"
        daemon.cores(service, 1 + turn % 3)
        daemon.pages(service, 0, 2048, 1 + turn % 2)
        daemon.pages(service, 0, 2048, -1)
        daemon.cores(service, -1)
        changes.count += 4


@contextlib.contextmanager
def stream_of_changes(daemon: Daemon) -> Generator[Changes]:
    """Clients that change the state all the time while the body runs."""
    changes = Changes()
    jobs = [lambda number=number: client(daemon, number, changes) for number in range(CLIENTS)]
    with in_threads(*jobs):
        try:
            wait_until(lambda: changes.count > 0, "clients make changes")
            yield changes
        finally:
            changes.stop.set()


def read_often(daemon: Daemon, times: int, read: Callable[[Path], None]) -> None:
    """Read the database often in a stream of changes, and count the failures."""
    failures: list[str] = []
    path = daemon.common / database_files.FILE_NAME
    with stream_of_changes(daemon) as changes:
        before = changes.count
        for _ in range(times):
            try:
                read(path)
            except StateError as error:
                failures.append(str(error))
        assert changes.count > before, "changes were made meanwhile"
    assert not failures, f"{len(failures)} of {times} readings failed, first: {failures[0]}"


def test_every_load_verifies(daemon: Daemon) -> None:
    def load(path: Path) -> None:
        ledger = loading.load(path).ledger
        assert len(ledger.claims["stays"].cpus) == 2
        assert ledger.pages["stays"] == {(0, 2048): 2}

    read_often(daemon, LOADS, load)


def test_configure_hook_accepts_valid_options(daemon: Daemon) -> None:
    """No service owns CPU 0, so the hook has to look at all claims to reserve it."""
    reserved = itertools.cycle(["0", "0-1"])
    file = daemon.settings_path
    file.write_text("{}")

    def configure(_: Path) -> None:
        options = {"reserved-cpus": next(reserved)}
        apply_options({}, file, daemon.common, SysfsTree(daemon.host.root))
        try:
            apply_options(options, file, daemon.common, SysfsTree(daemon.host.root))
        except Exception as error:
            raise StateError(f"the hook refused: {error}") from error
        assert str(load_settings(file).reserved_cpus) == options["reserved-cpus"]

    read_often(daemon, HOOKS, configure)


def test_history_is_consistent(daemon: Daemon) -> None:
    """Each event of a service begins with the state that the previous one left."""

    def history(path: Path) -> None:
        events = read_events(path, 200)
        assert [event.id for event in events] == list(range(events[0].id, events[0].id + len(events)))
        left: dict[tuple[str, bool], object] = {}
        for event in events:
            about = event.service, event.action == "allocate_hugepages"
            assert left.get(about, event.before) == event.before, event
            left[about] = event.after

    read_often(daemon, LOADS, history)


def test_history_command_succeeds(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "epa_orchestrator", "history", "--json", "--limit", "20"]

    def history(_: Path) -> None:
        done = subprocess.run(command, env=daemon.environment, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise StateError(done.stderr)
        assert len(json.loads(done.stdout)) == 20

    read_often(daemon, 5, history)


def test_every_loaded_copy_verifies(daemon: Daemon) -> None:
    """A daemon that cannot write the database shows a copy."""

    def load(path: Path) -> None:
        assert len(loading.load_copy(path).ledger.claims["stays"].cpus) == 2

    read_often(daemon, LOADS // 3, load)
