# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the measurements: for each size a daemon, an echo server and commits, in turn.

The daemon and its floors are measured in several short rounds, and the fastest round counts: other work on the machine
comes in bursts, and only ever makes a round slower.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import load
from benchmarks.floors import synced_commits
from benchmarks.processes import Process, start_daemon, start_echo
from benchmarks.requests import KINDS, LIST, TITLES, Kind, claims, machine, scripts
from benchmarks.results import Cell, Echo, Memory, Results, Size, Start
from tools.synthetic import build, write_tree

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """The sizes and loads to measure, and the time for each."""

    sizes: tuple[Size, ...]
    clients: tuple[int, ...]
    rounds: int
    #: The time of one measurement in one round: of the daemon, of an echo, of the disk.
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


def measure(plan: Plan, directory: Path, machines: Path, say: Say) -> Results:
    """Measure everything in the plan, with the state below `directory` and the made-up machines below `machines`."""
    results = Results()
    for size in plan.sizes:
        sysfs = machines / str(size.cpus)
        if not sysfs.exists():
            write_tree(build(machine(size.cpus)), sysfs)
        say(str(size))
        _measure_size(plan, results, size, directory / f"{size.cpus}-{size.services}", sysfs)
    return results


def _measure_size(plan: Plan, results: Results, size: Size, place: Path, sysfs: Path) -> None:
    shape = machine(size.cpus)
    with start_daemon(place, sysfs) as daemon:
        load.once(daemon.socket_path, claims(shape, size.services))
        payload = len(load.ask(daemon.socket_path, LIST))
        with start_echo(place, payload) as echo:
            for _ in range(plan.rounds):
                for clients in plan.clients:
                    listings = [[LIST]] * clients
                    results.keep(_cell(daemon, size, "list", listings, plan.seconds))
                    results.keep(Echo(size, payload, load.run(echo.socket_path, listings, plan.echo_seconds)))
                results.keep_commits(size, synced_commits(place, plan.commit_seconds))
                for kind in KINDS[1:]:
                    for clients in plan.clients:
                        work = scripts(kind, shape, size.services, clients)
                        if work is not None:
                            results.keep(_cell(daemon, size, kind, work, plan.seconds))
        results.memory.append(Memory(size, daemon.resident_mib))
    starts: list[float] = []
    for _ in range(plan.starts):
        with start_daemon(place, sysfs) as daemon:
            starts.append(daemon.start_seconds)
    results.starts.append(Start(size, statistics.median(starts)))


def _cell(daemon: Process, size: Size, kind: Kind, work: Sequence[load.Script], seconds: float) -> Cell:
    before = daemon.cpu_seconds
    try:
        seen = load.run(daemon.socket_path, work, seconds)
    except load.LoadError as error:
        raise load.LoadError(f"{TITLES[kind]} by {len(work)} clients, {size}: {error}") from error
    used = daemon.cpu_seconds - before
    return Cell(size, kind, seen, used / seen.all_requests * 1e6)
