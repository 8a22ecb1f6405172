# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""How much watching clients slow down others: `python -m benchmarks.watch`.

Two daemons run at once, and 200 clients watch one of them: see `watchers`. 64 clients allocate and release CPUs at each
in turn, so that both see the same machine. The ratios are the medians of all pairs. The exit code is 1 if the CPU time
of a request is 10 percent more with watching clients than without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import load
from benchmarks.processes import Process, start_daemon
from benchmarks.requests import claims, machine, scripts
from tools.synthetic import build, write_tree

_CPUS: Final = 256
_SERVICES: Final = 100
_CLIENTS: Final = 64
_WATCHERS: Final = 200
_MOST: Final = 1.1


@dataclass
class Soak:
    """What was measured, by pair of rounds: requests a second and CPU time (µs) of a request, without and with."""

    rates: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    cpu_us: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    #: The memory (MiB) of both daemons at the end.
    memory: tuple[float, float] = (0.0, 0.0)
    lines: int = 0
    dropped: int = 0

    @property
    def rate_ratio(self) -> float:
        """Requests a second with watching clients, as a part of those without."""
        return statistics.median(watched / alone for alone, watched in self.rates)

    @property
    def cpu_ratio(self) -> float:
        """The CPU time of a request with watching clients, in times of that without."""
        return statistics.median(watched / alone for alone, watched in self.cpu_us)


def soak(directory: Path, watchers: int = _WATCHERS, rounds: int = 20, seconds: float = 0.5) -> Soak:
    """Measure pairs of rounds, with the state of the daemons below `directory`."""
    result, shape = Soak(), machine(_CPUS)
    work = scripts("cores", shape, _SERVICES, _CLIENTS)
    assert work is not None
    sysfs = directory / "sys"
    write_tree(build(shape), sysfs)
    with ExitStack() as running:
        alone, watched = (running.enter_context(start_daemon(directory / name, sysfs)) for name in ("alone", "watched"))
        for daemon in (alone, watched):
            load.once(daemon.socket_path, claims(shape, _SERVICES))
            _round(daemon, work, seconds)
        with _watching(watched, watchers, result):
            for number in range(rounds):
                order = (alone, watched) if number % 2 else (watched, alone)
                measured = {daemon: _round(daemon, work, seconds) for daemon in order}
                result.rates.append((measured[alone][0], measured[watched][0]))
                result.cpu_us.append((measured[alone][1], measured[watched][1]))
            result.memory = alone.resident_mib, watched.resident_mib
    return result


def _round(daemon: Process, work: Sequence[load.Script], seconds: float) -> tuple[float, float]:
    before = daemon.cpu_seconds
    seen = load.run(daemon.socket_path, work, seconds)
    return seen.rate, (daemon.cpu_seconds - before) / seen.all_requests * 1e6


@contextmanager
def _watching(daemon: Process, count: int, result: Soak) -> Generator[None]:
    command = [sys.executable, "-m", "benchmarks.watchers", daemon.socket_path, str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "watching\n":
                raise load.LoadError("the clients could not watch")
            yield
            process.stdin.close()
            seen = json.loads(process.stdout.readline() or "{}")
            result.lines, result.dropped = seen.get("lines", 0), seen.get("dropped", 0)
        finally:
            process.kill()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--watchers", type=int, default=_WATCHERS, help=f"clients that watch, default {_WATCHERS}")
    parser.add_argument("--rounds", type=int, default=20, help="pairs of rounds of half a second, default 20")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="a directory on the disk to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="epa-", dir=arguments.directory) as directory:
        result = soak(Path(directory), arguments.watchers, arguments.rounds)
    print(f"{_CLIENTS} clients allocate, {arguments.watchers} watch{'':12} without       with      ratio")
    for title, pairs, ratio in (
        ("requests a second", result.rates, result.rate_ratio),
        ("CPU time of a request (µs)", result.cpu_us, result.cpu_ratio),
    ):
        without, watched = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{title:40} {without:9.0f}  {watched:9.0f}  {ratio:9.3f}")
    print(f"{'memory (MiB)':40} {result.memory[0]:9.1f}  {result.memory[1]:9.1f}")
    print(f"{result.lines} lines were read, {result.dropped} clients were dropped")
    return int(result.cpu_ratio > _MOST)


if __name__ == "__main__":
    sys.exit(main())
