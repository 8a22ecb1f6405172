# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The results of a run of the benchmarks, and whether they reach the aims of the project."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.floors import Commits
from benchmarks.load import Load
from benchmarks.requests import KINDS, TITLES, Kind


@dataclass(frozen=True, order=True)
class Size:
    """The CPUs and services of a daemon."""

    cpus: int
    services: int

    def __str__(self) -> str:
        return f"{self.cpus} CPUs, {self.services} service{'s' * (self.services != 1)}"


@dataclass(frozen=True)
class Cell:
    """One measurement of the daemon."""

    size: Size
    kind: Kind
    load: Load
    #: The daemon's processor time for one request, without that of the load generator.
    cpu_us: float


@dataclass(frozen=True)
class Echo:
    """One measurement of an echo that answers as many bytes as a listing at this size."""

    size: Size
    payload: int
    load: Load


@dataclass(frozen=True)
class Start:
    """The time from the start of the process to the first listing, as the median of some starts."""

    size: Size
    seconds: float


@dataclass(frozen=True)
class Memory:
    """The resident memory after the load."""

    size: Size
    mib: float


@dataclass(frozen=True)
class Aim:
    """A measured ratio or amount, and the aim for it."""

    name: str
    aim: str
    measured: float
    reached: bool
    #: The size that was measured, the worst one of many.
    where: str


@dataclass
class Results:
    """All measurements of a run; of each kind the fastest one."""

    #: By size, kind of request and clients.
    requests: dict[tuple[Size, Kind, int], Cell] = field(default_factory=dict[tuple[Size, Kind, int], Cell])
    #: By size and clients.
    echoes: dict[tuple[Size, int], Echo] = field(default_factory=dict[tuple[Size, int], Echo])
    commits: dict[Size, Commits] = field(default_factory=dict[Size, Commits])
    starts: list[Start] = field(default_factory=list[Start])
    memory: list[Memory] = field(default_factory=list[Memory])

    def keep(self, seen: Cell | Echo) -> None:
        """Keep a measurement if it is the fastest of its kind."""
        clients = seen.load.clients
        if isinstance(seen, Cell):
            before = self.requests.setdefault((seen.size, seen.kind, clients), seen)
            if seen.load.typical_us < before.load.typical_us:
                self.requests[seen.size, seen.kind, clients] = seen
        else:
            known = self.echoes.setdefault((seen.size, clients), seen)
            if seen.load.typical_us < known.load.typical_us:
                self.echoes[seen.size, clients] = seen

    def keep_commits(self, size: Size, seen: Commits) -> None:
        """Keep a measurement of the disk if it is the fastest."""
        if seen.p50_us < self.commits.setdefault(size, seen).p50_us:
            self.commits[size] = seen

    def load(self, kind: Kind, size: Size, clients: int) -> Load | None:
        """The load that was measured, None when there is none."""
        cell = self.requests.get((size, kind, clients))
        return cell and cell.load

    def aims(self) -> list[Aim]:
        """All aims that this run has the figures for."""
        found = [*self._listings(), *self._lone_mutations(), *self._many_mutations(), *self._flat()]
        found += _at_most(
            "seconds from start to first answer", 0.4, ((start.seconds, str(start.size)) for start in self.starts)
        )
        found += _at_most("MiB resident", 50, ((memory.mib, str(memory.size)) for memory in self.memory))
        return found

    def _listings(self) -> Iterable[Aim]:
        ratios: dict[int, list[tuple[float, str]]] = {}
        for (size, clients), echo in self.echoes.items():
            listing = self.load("list", size, clients)
            if listing is not None:
                ratios.setdefault(clients, []).append((listing.typical_us / echo.load.typical_us, str(size)))
        for clients, measured in ratios.items():
            name = f"time of a listing / of the echo, {clients} client{'s' * (clients != 1)}"
            yield from _at_most(name, 3, measured)

    def _lone_mutations(self) -> Iterable[Aim]:
        for kind in KINDS[1:]:
            yield from _at_most(
                f"time of {TITLES[kind]}, 1 client / of a synced commit",
                2,
                (
                    (lone.typical_us / commits.p50_us, str(size))
                    for size, commits in self.commits.items()
                    if (lone := self.load(kind, size, 1)) is not None
                ),
            )

    def _many_mutations(self) -> Iterable[Aim]:
        for kind in KINDS[1:]:
            yield from _at_least(
                f"rate of {TITLES[kind]}, 64 clients / 1 client",
                5,
                (
                    (many.rate / lone.rate, str(size))
                    for size in self.commits
                    if (lone := self.load(kind, size, 1)) is not None
                    and (many := self.load(kind, size, 64)) is not None
                ),
            )

    def _flat(self) -> Iterable[Aim]:
        sizes = sorted(self.commits)
        if len(sizes) < 2:
            return
        small, large = sizes[0], sizes[-1]
        for kind in KINDS:
            least, most = self.load(kind, small, 1), self.load(kind, large, 1)
            if least is not None and most is not None:
                yield from _at_most(
                    f"time of {TITLES[kind]}, largest / smallest size",
                    2,
                    [(most.typical_us / least.typical_us, str(large))],
                )


def _at_most(name: str, limit: float, measured: Iterable[tuple[float, str]]) -> list[Aim]:
    worst = max(measured, default=None)
    return [] if worst is None else [Aim(name, f"≤ {limit:g}", worst[0], worst[0] <= limit, worst[1])]


def _at_least(name: str, limit: float, measured: Iterable[tuple[float, str]]) -> list[Aim]:
    worst = min(measured, default=None)
    return [] if worst is None else [Aim(name, f"≥ {limit:g}", worst[0], worst[0] >= limit, worst[1])]
