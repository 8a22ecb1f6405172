"""Simulation: one seed makes a machine and a story of steps, which the daemon's parts live through in this process.

A story has requests, options and hosts that change between them, disks that fail, and restarts. A step is plain data
that does not depend on what happened before, so steps can be left out: a story that breaks a promise is shortened
before it is shown. The daemon's real parts are used, from the request's model to the database on a file system in
memory; only the sockets are missing. `python -m tests.faults.simulation FIRST COUNT STEPS` lives through the stories of
COUNT seeds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from epa_orchestrator import daemon, store
from epa_orchestrator.host import Host
from epa_orchestrator.orchestrator import Orchestrator
from epa_orchestrator.protocol import validate
from epa_orchestrator.settings import SettingsError, parse_settings
from epa_orchestrator.store import Origin
from epa_orchestrator.sysfs import RecordedSysfs
from tests.faults.hosts import MachineNow
from tests.faults.model import Json, Model, Violation, released, require
from tests.faults.stories import Story, make_story
from tests.functional.harness import MEMORY

ORIGIN: Final = Origin(1, 0, 0, "simulation")

Fault = Literal["", "commit", "statement", "full"]


class LookedAt:
    """A sysfs that shows whatever machine is there now."""

    def __init__(self, machine: MachineNow) -> None:
        self.show(machine)

    def show(self, machine: MachineNow) -> None:
        self._now: RecordedSysfs = machine.sysfs()

    def read(self, path: str) -> str | None:
        return self._now.read(path)

    def names(self, directory: str) -> list[str]:
        return self._now.names(directory)


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
    """Let everybody in this process connect by `FaultyConnection`, without log lines of what goes wrong then."""
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
        self.checks = 0
        self._open()

    def close(self) -> None:
        self._orchestrator.close()

    async def take(self, step: Json) -> None:
        """Live through one step, and check everything after it."""
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
        settings = parse_settings(self._options)
        options = daemon.Options(
            socket_path=self._base / "epa.sock",
            state_directory=self._directory,
            legacy_state=self._base / "state.json",
            settings_file=None,
            sysfs=self._sysfs,
            sysfs_name="a made-up machine",
        )
        state, nodes = daemon.open_state(options)
        require(state.problem is None, "a state that cannot be used", state.problem)
        self._orchestrator = Orchestrator(Host(self._sysfs, settings, nodes), settings, state)

    async def _send(self, *requests: Json) -> list[Json]:
        """The answers to requests that arrive in the same turn of the loop."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[bytes]] = []
        for request in requests:
            answer: asyncio.Future[bytes] = loop.create_future()
            answers.append(answer)
            self._orchestrator.submit(validate(request), ORIGIN, answer.set_result)
        return [json.loads(await answer) for answer in answers]

    async def _check(self) -> None:
        self.checks += 1
        isolated, general, memory = await self._send(*_READINGS)
        self._model.check_listings({"isolated": isolated, "general": general}, memory)
        try:
            stored = store.load(self._directory / store.FILE_NAME)
        except store.StateError as error:
            raise Violation("a state that cannot be loaded", str(error)) from None
        self._model.check_stored(stored.ledger.claims.values(), stored.ledger.pages)

    # --- steps ----------------------------------------------------------------------------------------------------

    async def _ask_and_check(self, step: Json) -> None:
        requests: list[Json] = step["requests"]
        also = step.get("also")
        dry = (await self._send(requests[0] | {"dry_run": True}))[0] if also == "dry run first" else None
        answers = await self._ask(requests)
        if dry is not None:
            _check_dry_run(requests[0], dry, answers[0])
        if also == "again" and "error" not in answers[0] and not released(requests[0]):
            await self._ask_again(requests[0], answers[0])

    async def _ask(self, requests: list[Json]) -> list[Json]:
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
        return answers

    async def _ask_again(self, request: Json, first: Json) -> None:
        (second,) = await self._ask([request])
        if self._options.get("resize-policy") == "reallocate":
            return  # chooses again even for the same number
        told_once = {"taken", "message", "explanation"}
        same = _without(first, told_once) == _without(second, told_once)
        require(same, "the same request again changes something", request, first, "then", second)

    def _use(self, options: Json) -> None:
        if _acceptable(options):  # as in the daemon: otherwise the ones in use stay
            self._options = self._model.options = options
            self._orchestrator.use(parse_settings(options))

    def _change_host(self, step: Json) -> None:
        changes = {name: step[name] for name in ("offline", "isolated") if name in step}
        shape = replace(self._machine.shape, **changes)
        gone = tuple(step.get("gone", self._machine.gone))
        self._show(MachineNow(shape, gone, unreadable=step.get("unreadable", False)))

    def _show(self, machine: MachineNow) -> None:
        self._machine = self._model.machine = machine
        self._sysfs.show(machine)

    async def _restart(self, step: Json) -> None:
        """Stop in good order or not, change what the step says, and start again."""
        before = await self._send(*_READINGS[:2])
        crashed = step.get("crash")
        if crashed:
            self._copy_state()
        self._orchestrator.close()
        if "regroup" in step:
            self._show(MachineNow(replace(self._machine.shape, **step["regroup"])))
        if "options" in step and _acceptable(step["options"]):
            self._options = self._model.options = step["options"]
        if crashed:
            self._directory = self._base / f"state-{self._restarts}"
        self._open()
        await self._check()
        if not {"regroup", "options"} & step.keys():
            after = await self._send(*_READINGS[:2])
            require(after == before, "a restart changes what is listed", before, "then", after)

    def _copy_state(self) -> None:
        """What a daemon that was killed leaves behind."""
        self._restarts += 1
        there = self._base / f"state-{self._restarts}"
        there.mkdir()
        for name in (store.FILE_NAME, f"{store.FILE_NAME}-wal"):
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


def _without(answer: Json, names: set[str]) -> Json:
    return {name: value for name, value in answer.items() if name not in names}


def _check_dry_run(request: Json, dry: Json, wet: Json) -> None:
    """A dry run says what the same request without it would be answered."""
    if request["action"] != "allocate_hugepages" and not request.get("dry_run"):
        expected = wet if "error" in wet else wet | {"dry_run": True}
        require(dry == expected, "a dry run that says something else", request, dry, "then", wet)


# --- running, and shortening what fails ---------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a story: the steps taken, the CPU time (s) that took, and the promise that was broken."""

    steps: int
    seconds: float
    violation: Violation | None = None

    @property
    def kind(self) -> str | None:
        """Which promise was broken."""
        return self.violation.kind if self.violation else None


def live(story: Story) -> Outcome:
    """Live through a story from the beginning, up to the first broken promise."""
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

    memory = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="epa-simulation-", dir=memory) as directory, faulty_connections():
        try:
            asyncio.run(run(Path(directory)))
        except Violation as error:
            violation = error
    return Outcome(steps, time.process_time() - began, violation)


def shorten(story: Story, outcome: Outcome, *, most_seconds: float = 60.0) -> tuple[Story, Outcome]:
    """Leave out steps, and requests of a batch, as long as the same promise is still broken."""
    kind = outcome.kind
    assert kind is not None
    deadline = time.process_time() + most_seconds
    best = replace(story, steps=story.steps[: outcome.steps])
    size = max(len(best.steps) // 2, 1)
    while time.process_time() < deadline:
        shorter = _first_that_fails(best, size, kind, deadline)
        if shorter is not None:
            best, outcome = shorter
            size = min(size, max(len(best.steps) // 2, 1))
        elif size > 1:
            size //= 2
        else:
            break
    return best, outcome


def _first_that_fails(story: Story, size: int, kind: str, deadline: float) -> tuple[Story, Outcome] | None:
    for steps in _shorter(story.steps, size):
        if time.process_time() > deadline:
            return None
        candidate = replace(story, steps=steps)
        outcome = live(candidate)
        if outcome.kind == kind:
            return replace(story, steps=steps[: outcome.steps]), outcome
    return None


def _shorter(steps: list[Json], size: int) -> Iterator[list[Json]]:
    for start in range(len(steps) - size, -1, -size):
        yield steps[:start] + steps[start + size :]
    if size == 1:
        for number, step in enumerate(steps):
            for simpler in _simpler(step):
                yield [*steps[:number], simpler, *steps[number + 1 :]]


def _simpler(step: Json) -> Iterator[Json]:
    """The step without one of its parts."""
    requests: list[Json] = step.get("requests", [])
    if len(requests) > 1:
        for number in range(len(requests)):
            yield step | {"requests": requests[:number] + requests[number + 1 :]}
    for number, request in enumerate(requests):
        for name in _OPTIONAL & request.keys():
            yield step | {"requests": [*requests[:number], _without(request, {name}), *requests[number + 1 :]]}
    for name in step.get("options", {}):
        yield step | {"options": _without(step["options"], {name})}
    for name in {"also", "crash", "regroup", "gone", "offline", "isolated"} & step.keys():
        yield _without(step, {name})


_OPTIONAL: Final = {
    "pool",
    "preemption_policy",
    "dry_run",
    "explain",
    "numa_policy",
    "cpu_thread_policy",
    "uncore_cache_alignment",
    "near",
}


def describe(story: Story, violation: Violation) -> str:
    """A story as text that a person can follow."""
    lines = [f"seed {story.seed}: {violation}", story.describe_machine()]
    lines += [f"  {number}. {json.dumps(step)}" for number, step in enumerate(story.steps, 1)]
    return "\n".join(lines)


@dataclass
class Finding:
    """A promise that some story breaks: the first seed, and what had been lived through up to there."""

    seed: int
    steps: int
    all_steps: int
    seconds: float
    times: int = 1


@dataclass
class Survey:
    """What came of the stories of some seeds; `seconds` are CPU time."""

    findings: dict[str, Finding] = field(default_factory=dict[str, Finding])
    stories: int = 0
    steps: int = 0
    seconds: float = 0.0

    def live(self, seed: int, steps: int) -> None:
        """Live through one more story."""
        outcome = live(make_story(random.Random(seed), seed, steps))
        self.stories += 1
        self.steps += outcome.steps
        self.seconds += outcome.seconds
        if outcome.kind is None:
            return
        found = self.findings.get(outcome.kind)
        if found is not None:
            found.times += 1
        else:
            self.findings[outcome.kind] = Finding(seed, outcome.steps, self.steps, self.seconds)

    def table(self) -> str:
        """The findings in columns, with the sums at the end."""
        lines = ["   seed  step  all steps  CPU s  stories  promise"]
        for kind, found in self.findings.items():
            columns = f"{found.seed:7} {found.steps:5} {found.all_steps:10} {found.seconds:6.1f} {found.times:8}"
            lines.append(f"{columns}  {kind}")
        lines.append(f"{self.stories} stories, {self.steps} steps, {self.seconds:.1f} s of CPU time")
        return "\n".join(lines)

    def stories_shortened(self, steps: int, *, most_seconds: float = 20.0) -> str:
        """For each finding a short story that shows it."""
        shown: list[str] = []
        for found in self.findings.values():
            story = make_story(random.Random(found.seed), found.seed, steps)
            shortened, outcome = shorten(story, live(story), most_seconds=most_seconds)
            assert outcome.violation is not None
            shown.append(describe(shortened, outcome.violation))
        return "\n\n".join(shown)


def main(arguments: list[str]) -> int:
    """Live through the stories of the seeds FIRST to FIRST + COUNT - 1, and show what they find."""
    first, count, steps = (int(argument) for argument in arguments)
    survey = Survey()
    for seed in range(first, first + count):
        survey.live(seed, steps)
    print(survey.table())
    print(survey.stories_shortened(steps))
    return bool(survey.findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
