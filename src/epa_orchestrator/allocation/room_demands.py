# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room demands: whether a request and the claims to move fit into the NUMA nodes together, by their numbers of CPUs.

If not, these claims make no room, whichever CPUs they get. Rules about cores and L3 domains are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from epa_orchestrator.allocation.moving import Movable
from epa_orchestrator.allocation.pools import Pool
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.placement.policy import ContradictionError, PlacementPolicy, with_wishes
from epa_orchestrator.placement.rules import limits
from epa_orchestrator.placement.task import Task

#: How many ways to divide demands among the nodes are tried; then they count as fitting.
_MOST_WAYS: Final = 2000


class Demand(NamedTuple):
    """How many CPUs are needed: in each of some nodes, in one node (whichever it is), and anywhere."""

    by_node: Mapping[int, int]
    in_one_node: int = 0
    anywhere: int = 0


def demand_of(how: Movable) -> Demand:
    """What a claim needs after it is released."""
    by_node = {step.node.id: step.count for step in how.steps if step.node is not None}
    rest = len(how.claim.cpus) - sum(by_node.values())
    try:
        policy = with_wishes(how.pool.settings.placement, how.steps[0].wishes)
    except ContradictionError:
        return Demand(by_node, anywhere=rest)
    if not by_node and needs_one_node(how.pool, policy, rest):
        return Demand(by_node, in_one_node=rest)
    return Demand(by_node, anywhere=rest)


def needs_one_node(pool: Pool, policy: PlacementPolicy, count: int) -> bool:
    """Whether the rules of a policy allow a new claim of this size one NUMA node only."""
    if count > len(pool.eligible):
        return False
    return limits(Task(pool.topology(), pool.eligible, EMPTY, count, policy)).numa_nodes == 1


def fit(room: Mapping[int, int], demands: Sequence[Demand]) -> bool:
    """Whether all demands fit into the nodes; `room` is the number of CPUs of each."""
    left = dict(room)
    for demand in demands:
        for node, count in demand.by_node.items():
            left[node] = left.get(node, 0) - count
    if min(left.values(), default=0) < 0:
        return False
    whole = sorted([demand.in_one_node for demand in demands if demand.in_one_node], reverse=True)
    anywhere = sum(demand.anywhere for demand in demands)
    if sum(left.values()) < anywhere + sum(whole):
        return False
    return _Division(whole).is_possible(sorted(left.values()))


class _Division:
    """The ways to put numbers, the largest first, into nodes as a whole."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self._ways_left = _MOST_WAYS

    def is_possible(self, room: Sequence[int], first: int = 0) -> bool:
        """Whether the numbers from `first` on fit, or too many ways would have to be tried."""
        if first == len(self._numbers):
            return True
        self._ways_left -= 1
        if self._ways_left < 0:
            return True
        number = self._numbers[first]
        for size in sorted({size for size in room if size >= number}):
            rest = [*room]
            rest.remove(size)
            if self.is_possible([*rest, size - number], first + 1):
                return True
        return False
