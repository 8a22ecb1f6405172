"""Runs the measurements: a daemon for each size, and the floors beside it, so that both see the same machine.

Everything is measured in several short rounds, floors and daemon in turn, and the fastest round counts, for both: other
work on the machine comes in bursts, and makes things slower but never faster.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import load
from benchmarks.echo import Loop
from benchmarks.floors import synced_commits
from benchmarks.processes import Process, start_daemon, start_echo
from benchmarks.requests import KINDS, LIST, TITLES, Kind, claims, machine, scripts
from benchmarks.results import Cell, Echo, Memory, Results, Size, Start
from tools.synthetic import build, write_tree

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    sizes: tuple[Size, ...]
    clients: tuple[int, ...]
    rounds: int
    #: For one measurement in one round: of the daemon, of an echo, of the disk.
    seconds: float
    echo_seconds: float
    commit_seconds: float
    starts: int


FULL: Final = Plan(
    sizes=tuple(Size(cpus, services) for cpus in (16, 256, 1024) for services in (1, 100, 500)),
    clients=(1, 8, 64),
    rounds=3,
    seconds=0.45,
    echo_seconds=0.3,
    commit_seconds=0.3,
    starts=5,
)
QUICK: Final = Plan(
    sizes=(Size(16, 1), Size(256, 100), Size(1024, 500)),
    clients=(1, 8, 64),
    rounds=2,
    seconds=0.25,
    echo_seconds=0.2,
    commit_seconds=0.2,
    starts=3,
)


def measure(plan: Plan, loop: Loop, directory: Path, machines: Path, say: Say) -> Results:
    """Measure everything in the plan, with state below `directory` and the made-up machines below `machines`.

    `loop` is the daemon's; when it is uvloop, the smallest and the largest size are listed on asyncio, too.
    """
    results = Results(loop)
    for size in plan.sizes:
        sysfs = machines / str(size.cpus)
        if not sysfs.exists():
            write_tree(build(machine(size.cpus)), sysfs)
        say(f"{size}: the daemon on {loop}")
        place = directory / f"{size.cpus}-{size.services}"
        _measure_size(plan, results, size, place, sysfs)
        if loop == "uvloop" and size in (plan.sizes[0], plan.sizes[-1]):
            say(f"{size}: the daemon on asyncio, other echoes")
            _measure_other_loops(plan, results, size, place, sysfs)
    return results


def _measure_size(plan: Plan, results: Results, size: Size, place: Path, sysfs: Path) -> None:
    shape = machine(size.cpus)
    with start_daemon(place, sysfs, results.loop) as daemon:
        load.once(daemon.socket_path, claims(shape, size.services))
        payload = len(load.ask(daemon.socket_path, LIST))
        with start_echo(place, results.loop, payload) as echo:
            for _ in range(plan.rounds):
                for clients in plan.clients:
                    _listings(plan, results, size, clients, daemon, results.loop)
                    _echoes(plan, results, size, clients, echo, results.loop, payload)
                results.keep_commits(size, synced_commits(place, plan.commit_seconds))
                for kind in KINDS[1:]:
                    for clients in plan.clients:
                        work = scripts(kind, shape, size.services, clients)
                        if work is not None:
                            results.keep(_cell(daemon, results.loop, size, kind, work, plan.seconds))
        results.memory.append(Memory(size, daemon.resident_mib))
    starts: list[float] = []
    for _ in range(plan.starts):
        with start_daemon(place, sysfs, results.loop) as daemon:
            starts.append(daemon.start_seconds)
    results.starts.append(Start(size, statistics.median(starts)))


def _measure_other_loops(plan: Plan, results: Results, size: Size, place: Path, sysfs: Path) -> None:
    with ExitStack() as running:
        daemon = running.enter_context(start_daemon(place, sysfs, "asyncio"))
        payload = len(load.ask(daemon.socket_path, LIST))
        loops: tuple[Loop, ...] = ("asyncio", "blocking")
        echoes: list[tuple[Loop, Process]] = [
            (loop, running.enter_context(start_echo(place, loop, payload))) for loop in loops
        ]
        for _ in range(plan.rounds):
            for clients in plan.clients:
                _listings(plan, results, size, clients, daemon, "asyncio")
                for loop, echo in echoes:
                    _echoes(plan, results, size, clients, echo, loop, payload)


def _listings(plan: Plan, results: Results, size: Size, clients: int, daemon: Process, loop: Loop) -> None:
    results.keep(_cell(daemon, loop, size, "list", [[LIST]] * clients, plan.seconds))


def _echoes(plan: Plan, results: Results, size: Size, clients: int, echo: Process, loop: Loop, payload: int) -> None:
    seen = load.run(echo.socket_path, [[LIST]] * clients, plan.echo_seconds)
    results.keep(Echo(loop, size, payload, seen))


def _cell(daemon: Process, loop: Loop, size: Size, kind: Kind, work: Sequence[load.Script], seconds: float) -> Cell:
    before = daemon.cpu_seconds
    try:
        seen = load.run(daemon.socket_path, work, seconds)
    except load.LoadError as error:
        raise load.LoadError(f"{TITLES[kind]} by {len(work)} clients, {size}: {error}") from error
    used = daemon.cpu_seconds - before
    return Cell(loop, size, kind, seen, used / seen.all_requests * 1e6)
