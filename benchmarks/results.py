"""What a run of the benchmarks found, and how it stands beside what the project aims at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.echo import Loop
from benchmarks.floors import Commits
from benchmarks.load import Load
from benchmarks.requests import KINDS, TITLES, Kind


@dataclass(frozen=True, order=True)
class Size:
    """How much a daemon had to look after."""

    cpus: int
    services: int

    def __str__(self) -> str:
        return f"{self.cpus} CPUs, {self.services} service{'s' * (self.services != 1)}"


@dataclass(frozen=True)
class Cell:
    """One measurement of the daemon."""

    loop: Loop
    size: Size
    kind: Kind
    load: Load
    #: Processor time of the daemon per request, which the load generator has no part in.
    cpu_us: float


@dataclass(frozen=True)
class Echo:
    """One measurement of an echo that answers as many bytes as a listing at this size."""

    loop: Loop
    size: Size
    payload: int
    load: Load


@dataclass(frozen=True)
class Start:
    """How long it took from the start of the process to the first listing: the median of some starts."""

    size: Size
    seconds: float


@dataclass(frozen=True)
class Memory:
    """What was resident after the load."""

    size: Size
    mib: float


@dataclass(frozen=True)
class Aim:
    """A ratio or amount, and what it should be."""

    name: str
    aim: str
    measured: float
    reached: bool
    #: Where it was measured: of many places, the worst.
    where: str


@dataclass
class Results:
    """All of it."""

    #: The daemon's usual loop.
    loop: Loop
    #: By loop, size, kind of request and clients.
    requests: dict[tuple[Loop, Size, Kind, int], Cell] = field(default_factory=dict[tuple[Loop, Size, Kind, int], Cell])
    #: By loop, size and clients.
    echoes: dict[tuple[Loop, Size, int], Echo] = field(default_factory=dict[tuple[Loop, Size, int], Echo])
    commits: dict[Size, Commits] = field(default_factory=dict[Size, Commits])
    starts: list[Start] = field(default_factory=list[Start])
    memory: list[Memory] = field(default_factory=list[Memory])

    def keep(self, seen: Cell | Echo) -> None:
        """Take in a measurement, if it is the fastest of its kind."""
        clients = seen.load.clients
        if isinstance(seen, Cell):
            before = self.requests.setdefault((seen.loop, seen.size, seen.kind, clients), seen)
            if seen.load.typical_us < before.load.typical_us:
                self.requests[seen.loop, seen.size, seen.kind, clients] = seen
        else:
            known = self.echoes.setdefault((seen.loop, seen.size, clients), seen)
            if seen.load.typical_us < known.load.typical_us:
                self.echoes[seen.loop, seen.size, clients] = seen

    def keep_commits(self, size: Size, seen: Commits) -> None:
        """Take in a measurement of the disk, if it is the fastest."""
        if seen.p50_us < self.commits.setdefault(size, seen).p50_us:
            self.commits[size] = seen

    def load(self, kind: Kind, size: Size, clients: int) -> Load | None:
        """What was seen of the daemon on its usual loop."""
        cell = self.requests.get((self.loop, size, kind, clients))
        return cell and cell.load

    def aims(self) -> list[Aim]:
        """Every aim that this run has the numbers for."""
        found = [*self._listings(), *self._lone_mutations(), *self._many_mutations(), *self._flat()]
        found += _at_most(
            "seconds from start to first answer", 0.4, ((start.seconds, str(start.size)) for start in self.starts)
        )
        found += _at_most("MiB resident", 50, ((memory.mib, str(memory.size)) for memory in self.memory))
        return found

    def _listings(self) -> Iterable[Aim]:
        ratios: dict[tuple[Loop, int], list[tuple[float, str]]] = {}
        for (loop, size, clients), echo in self.echoes.items():
            cell = self.requests.get((loop, size, "list", clients))
            if cell is not None:
                ratio = cell.load.typical_us / echo.load.typical_us
                ratios.setdefault((loop, clients), []).append((ratio, str(size)))
        for (loop, clients), measured in ratios.items():
            name = f"time of a listing / of the {loop} echo, {clients} client{'s' * (clients != 1)}"
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
