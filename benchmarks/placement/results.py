# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The results, their means over all setups, and whether they reach the aims."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.placement.allocators import DEFAULT
from benchmarks.placement.bound import Bound
from benchmarks.placement.replay import Tally
from benchmarks.placement.streams import Profile
from benchmarks.placement.timing import Times

#: The profiles that the aims are for.
AIMED: Final[tuple[Profile, ...]] = ("small", "mixed")

#: The size of machine whose decision time has an aim.
_LARGEST: Final = 1024
_P99_MS: Final = 5.0
_ACCEPTANCE: Final = 0.93


@dataclass(frozen=True)
class Setup:
    """A machine, a profile of sizes and a load."""

    host: str
    profile: Profile
    load: float

    def __str__(self) -> str:
        return f"{self.host}, {self.profile}, {self.load:g}"


@dataclass(frozen=True)
class Replayed:
    """What an allocator did in a setup."""

    allocator: str
    setup: Setup
    tally: Tally


@dataclass(frozen=True)
class Accepted:
    """How many of a setup's requests each single-node allocator accepted, and a bound on that number."""

    setup: Setup
    requests: int
    bound: Bound
    accepted: dict[str, int]

    def share(self, allocator: str) -> float:
        """The share of the bound that an allocator accepted."""
        return self.accepted[allocator] / self.bound.accepted if self.bound.accepted else 1.0


@dataclass(frozen=True)
class Aim:
    """A measured mean or amount, and the aim for it."""

    name: str
    aim: str
    measured: float
    reached: bool


#: The numbers of a replay, by their titles.
MEASURES: Final[dict[str, Callable[[Tally], float]]] = {
    "one node\nif possible": lambda tally: tally.one_node_share,
    "more L3s\nthan needed": lambda tally: tally.more_l3s_share,
    "shared\ncores": lambda tally: tally.shared_share,
    "of these\navoidable": lambda tally: tally.avoidable_share,
    "moved per\nresize": lambda tally: tally.moved_per_resize,
    "refused": lambda tally: tally.refused_share,
}


@dataclass
class Results:
    """The results of a run."""

    replayed: list[Replayed] = field(default_factory=list[Replayed])
    accepted: list[Accepted] = field(default_factory=list[Accepted])
    times: list[Times] = field(default_factory=list[Times])

    def allocators(self) -> list[str]:
        """The allocators that saw the streams with resizes, in the order of the plan."""
        return list(dict.fromkeys(each.allocator for each in self.replayed))

    def of(self, profiles: Collection[Profile], host: str | None = None) -> Results:
        """The replays of some profiles, on all machines or on one."""
        return Results([e for e in self.replayed if e.setup.profile in profiles and host in (None, e.setup.host)])

    def mean(self, allocator: str, measure: Callable[[Tally], float]) -> float:
        """The mean of a number over an allocator's setups."""
        return statistics.fmean(measure(each.tally) for each in self.replayed if each.allocator == allocator)

    def mean_share(self, allocator: str) -> float:
        """The mean share of the bound that an allocator accepted."""
        return statistics.fmean(each.share(allocator) for each in self.accepted)

    def aims(self) -> list[Aim]:
        """Every aim, for the default policy."""
        return [*self._replay_aims(), *self._acceptance_aims(), *self._time_aims()]

    def _replay_aims(self) -> Iterable[Aim]:
        aimed = self.of(AIMED)
        if DEFAULT.name in aimed.allocators():
            one_node, more_l3s, shared, avoidable, moved = [
                aimed.mean(DEFAULT.name, measure) for measure in list(MEASURES.values())[:5]
            ]
            yield Aim("on one NUMA node when one has room", "1.000", one_node, one_node >= 1)
            yield Aim("with more L3 domains than needed", "≤ 0.002", more_l3s, more_l3s <= 0.002)
            yield Aim("with a core shared between owners", "≤ 0.007", shared, shared <= 0.007)
            yield Aim("with a core shared avoidably", "≤ 0.002", avoidable, avoidable <= 0.002)
            yield Aim("CPUs moved per resize", "0", moved, moved == 0)

    def _acceptance_aims(self) -> Iterable[Aim]:
        if self.accepted:
            share = self.mean_share(next(iter(self.accepted[0].accepted)))
            yield Aim("accepted on single nodes / bound", f"≥ {_ACCEPTANCE:g}", share, share >= _ACCEPTANCE)

    def _time_aims(self) -> Iterable[Aim]:
        for each in self.times:
            if each.allocator == DEFAULT.name and each.cpus == _LARGEST:
                name = f"p99 of a decision, {each.cpus} CPUs, ms"
                yield Aim(name, f"< {_P99_MS:g}", each.p99_ms, each.p99_ms < _P99_MS)
