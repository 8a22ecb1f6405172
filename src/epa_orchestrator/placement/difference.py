# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Difference: the level that makes the best candidate better than the second, read from the costs that were compared.

A cost from `tables` is one integer, and the search has those of all candidates. To take two of them apart costs 3 µs;
to work out two cost vectors costs up to 60 µs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.tables import FIELD_BITS, Weights
from epa_orchestrator.placement.task import Task


class Difference(NamedTuple):
    """The NUMA nodes of the second candidate, the level that decides, and its value for both candidates.

    `level` is empty when only the CPU ids differ. `equal` then has the nodes of each candidate that is known to be as
    good as the first one.
    """

    nodes: tuple[int, ...]
    level: str = ""
    best: int = 0
    second: int = 0
    equal: tuple[tuple[int, ...], ...] = ()


def of_costs(task: Task, weights: Weights, costs: Sequence[tuple[int, tuple[int, ...]]]) -> Difference:
    """The difference between the first two of these costs from the tables, in ascending order, each with its nodes."""
    (best, _), (second, nodes) = costs[:2]
    mine, other = _without_cpus(best, weights.width), _without_cpus(second, weights.width)
    # The value of a level is less than half of what its field holds, above or below 0. So all less important levels
    # together are less than half a unit of it.
    place = (other - mine).bit_length() // FIELD_BITS
    if not place:  # the last level is the lowest CPU id
        highest = mine + (1 << FIELD_BITS - 1) - 1 << weights.width
        number = bisect_right(costs, highest, key=lambda each: each[0])
        return Difference(nodes, equal=tuple([each for _, each in costs[1:number]]))
    name, sign = task.levels[-1 - place]
    # The tables subtract all CPUs of the service from what they take, also those that it keeps.
    kept = len(task.own) if name in ("l3_left_over", "scope_left_over") else 0
    return Difference(nodes, name, sign * _field(mine, place) + kept, sign * _field(other, place) + kept)


def of_choices(task: Task, best: CpuSet, second: CpuSet) -> Difference:
    """The difference between two choices, from their cost vectors."""
    mine, other = task.cost(best), task.cost(second)
    nodes = tuple([node.id for node in task.topology.nodes_of(second.mask)])
    for name, _ in task.levels[:-1]:
        if getattr(mine, name) != getattr(other, name):
            return Difference(nodes, name, getattr(mine, name), getattr(other, name))
    return Difference(nodes)


def _without_cpus(value: int, width: int) -> int:
    """The levels of a cost, without the chosen CPUs, which are subtracted in its lowest bits."""
    return value + (-value & (1 << width) - 1) >> width


def _field(levels: int, place: int) -> int:
    """The value in a field. It may be negative, and so may those in less important fields."""
    below = FIELD_BITS * place
    value = (levels + (1 << below - 1) >> below) & (1 << FIELD_BITS) - 1
    return value - (value >> FIELD_BITS - 1 << FIELD_BITS)
