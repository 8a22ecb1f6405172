# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Replays a stream through an allocator and counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.placement.allocators import Allocator
from benchmarks.placement.hosts import Host
from benchmarks.placement.judge import case_of, judge
from benchmarks.placement.streams import Event


@dataclass
class Tally:
    """What was counted after the warm-up; a request is an allocation or a resize."""

    requests: int = 0
    #: Requests without enough CPUs; and those that a rule refused although there were enough.
    lost: int = 0
    refused: int = 0
    one_node_possible: int = 0
    one_node: int = 0
    more_l3s: int = 0
    shared: int = 0
    avoidable: int = 0
    resizes: int = 0
    moved: int = 0

    @property
    def placed(self) -> int:
        """How many requests got their CPUs."""
        return self.requests - self.lost - self.refused

    @property
    def one_node_share(self) -> float:
        """Of the requests for which some node had enough CPUs, those that are on one."""
        return self.one_node / self.one_node_possible if self.one_node_possible else 1.0

    @property
    def more_l3s_share(self) -> float:
        """Of the placed requests, those with more L3 domains than needed."""
        return self._of_placed(self.more_l3s)

    @property
    def shared_share(self) -> float:
        """Of the placed requests, those that share a core with another owner."""
        return self._of_placed(self.shared)

    @property
    def avoidable_share(self) -> float:
        """Of the placed requests, those that do so although it could be avoided."""
        return self._of_placed(self.avoidable)

    @property
    def moved_per_resize(self) -> float:
        """CPUs that a resize took away though as many or more were asked for, or added when it shrank."""
        return self.moved / self.resizes if self.resizes else 0.0

    @property
    def refused_share(self) -> float:
        """Of the requests that there were CPUs for, those that a rule refused."""
        fitting = self.requests - self.lost
        return self.refused / fitting if fitting else 0.0

    def _of_placed(self, count: int) -> float:
        return count / self.placed if self.placed else 0.0


class Replay:
    """A machine and its claims while a stream passes."""

    def __init__(self, host: Host, allocator: Allocator) -> None:
        self._host = host
        self._allocator = allocator
        self._free = host.cpus
        self._held: dict[int, int] = {}

    def take(self, event: Event, tally: Tally) -> None:
        """Apply the event. A request that does not fit is lost: the claim is not made, or keeps its size."""
        if event.kind == "release":
            self._free |= self._held.pop(event.claim, 0)
        elif event.kind == "allocate" or event.claim in self._held:
            self._request(event, tally)

    def _request(self, event: Event, tally: Tally) -> None:
        own = self._held.get(event.claim, 0)
        tally.requests += 1
        if (self._free | own).bit_count() < event.count:
            tally.lost += 1
            return
        chosen = self._allocator.place(self._host, self._free, own, event.count)
        if chosen is None:
            tally.refused += 1
            return
        self._count(own, event.count, chosen, tally)
        self._free = (self._free | own) & ~chosen
        self._held[event.claim] = chosen

    def _count(self, own: int, count: int, chosen: int, tally: Tally) -> None:
        if chosen & ~(self._free | own) or chosen.bit_count() != count:
            raise AssertionError(f"{self._allocator.name} chose what is not free, or not {count} CPUs")
        case = case_of(self._host, self._free, own, count, in_place=self._allocator.in_place)
        verdict = judge(self._host, case, chosen)
        tally.one_node_possible += verdict.one_node_possible
        tally.one_node += verdict.one_node_possible and verdict.one_node
        tally.more_l3s += verdict.more_l3s
        tally.shared += verdict.shared
        tally.avoidable += verdict.avoidable
        if own:
            tally.resizes += 1
            tally.moved += min(own.bit_count(), count) - (own & chosen).bit_count()


def replay(host: Host, events: Iterable[Event], allocator: Allocator, warm_up: float) -> Tally:
    """Replay a stream; events before the time `warm_up` are not counted, as the machine only fills then."""
    running = Replay(host, allocator)
    tally, uncounted = Tally(), Tally()
    for event in events:
        running.take(event, tally if event.time >= warm_up else uncounted)
    return tally
