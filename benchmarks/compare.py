# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Compares the daemon of this checkout with an earlier one: `python -m benchmarks.compare EARLIER`.

EARLIER is the directory of the earlier sources. Both daemons run at once and are measured in turn, so that both see the
same machine. The ratio is the median of all pairs; above 1 this checkout is faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import load
from benchmarks.processes import Process, start_daemon
from benchmarks.requests import KINDS, TITLES, Kind, claims, machine, scripts
from benchmarks.results import Size
from tools.synthetic import build, write_tree

_SIZES: Final = (Size(16, 1), Size(256, 100), Size(1024, 500))
_CLIENTS: Final = (1, 64)
_SECONDS: Final = 0.5


class Pair(NamedTuple):
    """One measurement of each daemon, in requests per second."""

    earlier: float
    now: float


def main() -> int:
    """Measure and print. The exit code is always 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("earlier", type=Path, help="the sources of the earlier daemon: the `src` of a checkout")
    parser.add_argument("--rounds", type=int, default=6, help="pairs of measurements, default 6")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="a directory on the disk to measure")
    arguments = parser.parse_args()
    now = Path(__file__).parents[1] / "src"
    print(f"{'size':24} {'request':22} {'clients':>7} {'earlier/s':>10} {'now/s':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory(prefix="epa-", dir=arguments.directory) as directory:
        for size in _SIZES:
            for (kind, clients), pairs in _compare(size, Path(directory), arguments.earlier, now, arguments.rounds):
                best = Pair(max(pair.earlier for pair in pairs), max(pair.now for pair in pairs))
                ratio = statistics.median(pair.now / pair.earlier for pair in pairs)
                row = f"{TITLES[kind]:22} {clients:7} {best.earlier:10.0f} {best.now:10.0f} {ratio:6.2f}"
                print(f"{size!s:24} {row}", flush=True)
    return 0


def _compare(
    size: Size, directory: Path, earlier: Path, now: Path, rounds: int
) -> Iterator[tuple[tuple[Kind, int], list[Pair]]]:
    shape, place = machine(size.cpus), directory / f"{size.cpus}"
    write_tree(build(shape), place / "sys")
    found: dict[tuple[Kind, int], list[Pair]] = defaultdict(list)
    with ExitStack() as running:
        daemons = [
            running.enter_context(start_daemon(place / name, place / "sys", source))
            for name, source in (("earlier", earlier), ("now", now))
        ]
        for daemon in daemons:
            load.once(daemon.socket_path, claims(shape, size.services))
        for number in range(rounds):
            for kind in KINDS:
                for clients in _CLIENTS:
                    work = scripts(kind, shape, size.services, clients)
                    if work is not None:
                        found[kind, clients].append(_pair(daemons, work, turned=bool(number % 2)))
    yield from found.items()


def _pair(daemons: list[Process], work: Sequence[load.Script], *, turned: bool) -> Pair:
    """Measure both daemons, the later one first when `turned`."""
    order = daemons[::-1] if turned else daemons
    rates = [load.run(daemon.socket_path, work, _SECONDS).rate for daemon in order]
    return Pair(*(rates[::-1] if turned else rates))


if __name__ == "__main__":
    sys.exit(main())
