# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Simulation: one seed makes a machine and a story of steps, which runs on the daemon's parts in this process.

A story has requests, options and hosts that change between them, disks that fail, and restarts. A step is plain data
that does not depend on what happened before, so steps can be left out: a story that breaks a promise is shortened
before it is shown. The daemon's real parts are used, from the request's model to the database on a file system in
memory; only the sockets are missing. `survey.py` runs many of them.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.settings import SettingsError, parse_settings
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.daemon import main as daemon
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files, loading
from epa_orchestrator.state.errors import StateError
from tests.faults.asking import ask
from tests.faults.claims import Json, Violation, released, require, without
from tests.faults.hosts import MachineNow
from tests.faults.model import Model
from tests.faults.stories import Story
from tests.faults.usable import in_force
from tests.functional.harness import MEMORY

PEER: Final = Peer(1, 0, 0)

Fault = Literal["", "commit", "statement", "full"]


class LookedAt:
    """A sysfs that shows the present machine."""

    def __init__(self, machine: MachineNow) -> None:
        self.show(machine)

    def show(self, machine: MachineNow) -> None:
        self._now: RecordedSysfs = machine.sysfs()

    def read(self, path: str) -> str | None:
        return self._now.read(path)

    def read_list(self, path: str) -> str | None:
        return self._now.read_list(path)

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        return self._now.contents(paths)

    def names(self, directory: str) -> list[str] | None:
        return self._now.names(directory)

    def exists(self, path: str) -> bool | None:
        return self._now.exists(path)


class FaultyConnection(sqlite3.Connection):
    """A connection whose disk can fail: at COMMIT, at the next statement that writes, or by being full."""

    fault: Fault = ""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        word = sql.split(None, 1)[0].upper()
        if self.fault == "commit" and word == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        if self.fault == "statement" and word in {"INSERT", "REPLACE", "DELETE", "UPDATE"}:
            raise sqlite3.OperationalError("disk I/O error")
        if word == "BEGIN":
            # A database may not become larger than it is already, as on a full disk.
            limit = 1 if self.fault == "full" else 2**31 - 1
            super().execute(f"PRAGMA max_page_count = {limit}")
        return super().execute(sql, *parameters)


@contextmanager
def faulty_connections() -> Generator[None]:
    """Use `FaultyConnection` in this whole process, without log lines about its faults."""
    connect = sqlite3.connect

    def connect_faulty(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, **{"factory": FaultyConnection} | options)

    sqlite3.connect = connect_faulty
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        sqlite3.connect = connect
        logging.disable(logging.NOTSET)


class Simulation:
    """The daemon's parts in one story, with a model that judges what they do."""

    def __init__(self, directory: Path, machine: MachineNow) -> None:
        self._base = directory
        self._directory = directory / "state-0"
        self._directory.mkdir()
        self._machine = machine
        self._sysfs = LookedAt(machine)
        self._options: Json = {}
        self._model = Model(machine, self._options)
        self._restarts = 0
        self._granted: list[Json] = []
        self.checks = 0
        self._open()

    def close(self) -> None:
        self._orchestrator.close()

    async def take(self, step: Json) -> None:
        """Run one step, and check everything after it."""
        match step["do"]:
            case "ask":
                await self._ask_and_check(step)
            case "options":
                self._use(step["options"])
                await self._check()
            case "host":
                self._change_host(step)
                await self._check()
            case "restart":
                await self._restart(step)
            case "fault":
                await self._fail(step)
            case other:
                raise AssertionError(other)

    # --- the daemon's parts ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        settings = usable_settings(self._options)
        self._model.use(*in_force(self._options))
        require(settings.unusable.keys() == self._model.unusable, "other unusable options", settings.unusable)
        options = daemon.Locations(
            socket_path=self._base / "epa.sock",
            state_directory=self._directory,
            legacy_state=self._base / "state.json",
            settings_file=None,
            sysfs=self._sysfs,
            sysfs_name="a made-up machine",
        )
        state = daemon.open_state(options)
        require(state.problem is None, "a state that cannot be used", state.problem)
        self._orchestrator = Orchestrator(Host(self._sysfs, settings, state.seen), settings, state)

    async def _send(self, *requests: Json) -> list[Json]:
        """The answers to requests that arrive in one turn of the event loop."""
        return await ask(self._orchestrator, PEER, *requests)

    async def _check(self) -> None:
        self.checks += 1
        isolated, general, memory = await self._send(*_READINGS)
        self._model.check_listings({"isolated": isolated, "general": general}, memory)
        try:
            stored = loading.load(self._directory / database_files.FILE_NAME)
        except StateError as error:
            raise Violation("a state that cannot be loaded", str(error)) from None
        self._model.check_stored(stored.ledger.claims.values(), stored.ledger.pages)
        self._check_memory(stored)

    def _check_memory(self, stored: loading.Loaded) -> None:
        """The claims that a restart would find are those in memory, with how they were placed."""
        ledger = self._orchestrator._current.ledger
        require(
            stored.ledger.on(ledger.cores).claims == ledger.claims,
            "other claims in memory than stored",
            stored.ledger.claims,
            "in memory",
            ledger.claims,
        )

    # --- steps ----------------------------------------------------------------------------------------------------

    async def _ask_and_check(self, step: Json) -> None:
        requests: list[Json] = step["requests"]
        also = step.get("also")
        dry = (await self._send(requests[0] | {"dry_run": True}))[0] if also == "dry run first" else None
        if also == "explained":
            await self._explain(requests[0])
        if also == "an old one" and self._granted:
            requests = [self._granted[-1 - len(self._granted) // 2]]
        answers = await self._ask(requests)
        if dry is not None:
            _check_dry_run(requests[0], dry, answers[0])
        if also == "again" and "error" not in answers[0] and not released(requests[0]):
            await self._ask_again(requests[0], answers[0])

    async def _explain(self, request: Json) -> None:
        """Check that a request is decided in the same way when it asks for the reasons."""
        plain, explained = await self._send(request | {"dry_run": True}, request | {"dry_run": True, "explain": True})
        if request["action"] != "allocate_hugepages" and not request.get("explain"):
            require(without(explained, {"explanation"}) == plain, "an explained request is decided otherwise", request)

    async def _ask(self, requests: list[Json]) -> list[Json]:
        if len(requests) > 1 and not self._model.all_online:
            requests = [_without_release_by_node(request) for request in requests]
        answers = await self._send(*requests)
        for request, answer in zip(requests, answers, strict=True):
            self._model.judge(request, answer, lone=len(requests) == 1)
        await self._check()
        changes = [
            (request, answer)
            for request, answer in zip(requests, answers, strict=True)
            if "error" not in answer and not request.get("dry_run") and "pool" in answer
        ]
        if changes:
            self._model.check_totals(*changes[-1])
            self._granted.append(changes[-1][0])
        return answers

    async def _ask_again(self, request: Json, first: Json) -> None:
        (second,) = await self._ask([request])
        if self._options.get("resize-policy") == "reallocate":
            return  # chooses again even for the same number
        told_once = {"taken", "message", "explanation"}
        same = without(first, told_once) == without(second, told_once)
        require(same, "the same request again changes something", request, first, "then", second)

    def _use(self, options: Json) -> None:
        if _acceptable(options):  # as in the daemon: otherwise the ones in use stay
            self._options = options
            self._model.use(options)
            self._orchestrator.use(parse_settings(options))

    def _change_host(self, step: Json) -> None:
        changes = {name: step[name] for name in ("offline", "isolated") if name in step}
        changes |= {name: step[name] for name in ("hugepages", "promised") if name in step}
        shape = replace(self._machine.shape, **changes)
        gone = tuple(step.get("gone", self._machine.gone))
        self._show(replace(self._machine, shape=shape, gone=gone, unreadable=step.get("unreadable", False)))

    def _show(self, machine: MachineNow) -> None:
        if machine.siblings != self._machine.siblings:
            self._model.met = {}  # another machine
        self._machine = self._model.machine = machine
        self._sysfs.show(machine)

    async def _restart(self, step: Json) -> None:
        """Stop cleanly or as after a crash, change what the step says, and start again."""
        crashed = step.get("crash")
        if crashed:
            await self._let_it_keep_what_it_has_seen()
        before = await self._listings()
        if crashed:
            self._copy_state()
        self._orchestrator.close()
        if "regroup" in step:
            self._show(replace(self._machine, shape=replace(self._machine.shape, **step["regroup"]), gone=()))
        if "rewire" in step:
            self._show(MachineNow(replace(self._machine.shape, **step["rewire"])))
        if "options" in step:
            self._options = step["options"]
        if crashed:
            self._directory = self._base / f"state-{self._restarts}"
        self._open()
        await self._check()
        if not {"regroup", "rewire", "options"} & step.keys():
            after = await self._listings()
            require(after == before, "a restart changes what is listed", before, "then", after)

    async def _listings(self) -> list[Json]:
        """The listings of both pools without the outdated placements, which come a moment after a change."""
        return [without(listing, {"outdated_placements"}) for listing in await self._send(*_READINGS[:2])]

    async def _let_it_keep_what_it_has_seen(self) -> None:
        """Wait until the daemon has stored what it knows of cores and nodes, which it does in a quiet moment."""
        if self._orchestrator._upkeep._must_store_seen():
            await asyncio.sleep(0.15)

    def _copy_state(self) -> None:
        """The files that a killed daemon leaves."""
        self._restarts += 1
        there = self._base / f"state-{self._restarts}"
        there.mkdir()
        for name in (database_files.FILE_NAME, f"{database_files.FILE_NAME}-wal"):
            if (self._directory / name).exists():
                shutil.copyfile(self._directory / name, there / name)

    async def _fail(self, step: Json) -> None:
        FaultyConnection.fault = step["kind"]
        try:
            answers = await self._send(*step["requests"])
        finally:
            FaultyConnection.fault = ""
        for request, answer in zip(step["requests"], answers, strict=True):
            self._model.judge(request, answer, lone=len(answers) == 1)
        await self._check()


_READINGS: Final[list[Json]] = [
    {"action": "list_allocations"},
    {"action": "list_allocations", "pool": "general"},
    {"action": "get_memory_info"},
]


def _acceptable(options: Json) -> bool:
    """Whether the options do not contradict each other."""
    try:
        parse_settings(options)
    except SettingsError:
        return False
    return True


def _without_release_by_node(request: Json) -> Json:
    """The request; one CPU in the place of a release by node, which only a listing can judge."""
    by_node = request["action"] == "allocate_numa_cores" and request["num_of_cores"] < 1
    return request | {"num_of_cores": 1} if by_node else request


def _check_dry_run(request: Json, dry: Json, wet: Json) -> None:
    """Check that a dry run has the same answer as the request itself."""
    if request["action"] != "allocate_hugepages" and not request.get("dry_run"):
        expected = wet if "error" in wet else wet | {"dry_run": True}
        require(dry == expected, "a dry run that says something else", request, dry, "then", wet)


@dataclass
class Outcome:
    """The outcome of a story: the steps taken, their CPU time (s), and the broken promise."""

    steps: int
    seconds: float
    violation: Violation | None = None

    @property
    def kind(self) -> str | None:
        """Which promise was broken."""
        return self.violation.kind if self.violation else None


def run_story(story: Story) -> Outcome:
    """Run a story from the beginning to the first broken promise."""
    began, steps = time.process_time(), 0
    violation: Violation | None = None

    async def run(directory: Path) -> None:
        nonlocal steps
        simulation = Simulation(directory, story.machine)
        try:
            for step in story.steps:
                steps += 1
                await simulation.take(step)
        finally:
            simulation.close()

    with tempfile.TemporaryDirectory(prefix="epa-simulation-", dir=MEMORY) as directory, faulty_connections():
        try:
            asyncio.run(run(Path(directory)))
        except Violation as error:
            violation = error
    return Outcome(steps, time.process_time() - began, violation)
