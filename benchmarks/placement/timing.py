# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""How long one decision takes, compared with the simplest allocator.

It is the processor time of the thread: a decision only computes, so on a quiet machine that is the time that passes,
and on a busy one it leaves out what others took.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from benchmarks.placement.allocators import Allocator, LowestFirst
from benchmarks.placement.hosts import Host, made_of
from benchmarks.placement.replay import Replay, Tally
from benchmarks.placement.streams import Scenario, stream
from tools.synthetic import Shape, build

#: By their CPUs: 1 node of 2 L3 domains, 2 of 12, 16 of 4.
SHAPES: Final = {
    16: Shape(l3_per_node=2, threads_per_core=2),
    384: Shape(packages=2, l3_per_node=12, cores_per_l3=8, threads_per_core=2, l3_ids="scattered"),
    1024: Shape(packages=4, nodes_per_package=4, l3_per_node=4, cores_per_l3=8, threads_per_core=2),
}

_LOAD: Final = 0.95


@dataclass(frozen=True)
class Times:
    """How long decisions on a machine of `cpus` CPUs took, in ms, and the ratio to those of lowest-first."""

    allocator: str
    cpus: int
    decisions: int
    p50_ms: float
    p99_ms: float
    p50_ratio: float
    p99_ratio: float


class _Stopwatch:
    """An allocator whose decisions are timed."""

    def __init__(self, allocator: Allocator) -> None:
        self.name = allocator.name
        self.in_place = allocator.in_place
        self.took: list[int] = []
        self._place = allocator.place

    def place(self, host: Host, free: int, own: int, count: int) -> int | None:
        before = time.thread_time_ns()
        chosen = self._place(host, free, own, count)
        self.took.append(time.thread_time_ns() - before)
        return chosen

    def percentile(self, part: float) -> float:
        took = sorted(self.took)
        return took[min(int(len(took) * part), len(took) - 1)] / 1e6


def times(allocators: tuple[Allocator, ...], cpus: int, requests: int, rounds: int, seed: int) -> list[Times]:
    """Time each allocator on streams of sizes 1 to 32, a new stream in each round so that no answer is remembered.

    Other work cools the caches, which makes decisions slower and never faster: the round with the lowest p99 counts.
    """
    host = made_of(f"{cpus} CPUs", build(SHAPES[cpus]))
    found: dict[str, list[_Stopwatch]] = {}
    for number in range(rounds):
        events = stream(Scenario(cpus, 2, "any", _LOAD, requests, seed + number))
        for allocator in (LowestFirst(), *allocators):
            watch = _Stopwatch(allocator)
            running = Replay(host, watch)
            for event in events:
                running.take(event, Tally())
            found.setdefault(allocator.name, []).append(watch)
    best = {name: min(watches, key=lambda watch: watch.percentile(0.99)) for name, watches in found.items()}
    least = best[LowestFirst().name]
    return [_summed(best[allocator.name], least, cpus) for allocator in allocators]


def _summed(watch: _Stopwatch, least: _Stopwatch, cpus: int) -> Times:
    p50, p99 = watch.percentile(0.5), watch.percentile(0.99)
    ratios = p50 / least.percentile(0.5), p99 / least.percentile(0.99)
    return Times(watch.name, cpus, len(watch.took), p50, p99, *ratios)
