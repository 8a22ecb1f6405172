# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Node sets: the sets of NUMA nodes that are compared for a request, smallest and closest first.

CPUs in no NUMA node count as one node more, `NO_NODE`. Its distance to others is unknown, so known nodes come first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from epa_orchestrator.placement.topology import NO_NODE, Topology

#: Node ids.
NodeSet = tuple[int, ...]

#: How many sets of nodes of one size are compared one by one, for a request of one CPU; for a larger one fewer, as each
#: takes longer. When there are more (12 of 24 nodes are 2.7 million sets), one set is grown from each node by distance.
_MAX_SETS_OF_ONE: Final = 16384


def max_sets(count: int) -> int:
    """How many sets of nodes are compared one by one for a request of `count` CPUs."""
    return min(max(_MAX_SETS_OF_ONE // max(count, 1), 16), 1024)


class Demand(NamedTuple):
    """`cpu_count` CPUs out of `capacity` (by node), in the nodes of `base` and others, at most `most_nodes` in all."""

    topology: Topology
    capacity: dict[int, int]
    base: NodeSet
    cpu_count: int
    most_nodes: int


def node_sets(demand: Demand, *, closest: bool) -> Iterator[list[NodeSet]]:
    """Lists of node sets that can meet the demand, each list better than the next.

    Fewer nodes are better, and known ones. Of several known nodes, `closest` makes those better that span fewer
    packages, and of these those with the least distance between them.
    """
    capacity, base, cpu_count, most_nodes = demand.capacity, demand.base, demand.cpu_count, demand.most_nodes
    missing = cpu_count - sum(capacity[node] for node in base)
    others = [node for node, room in capacity.items() if room and node not in base]
    for size in range(len(others) + 1):
        if size and len(base) + size > most_nodes:
            return
        sets = [(*base, *added) for added in _added(demand, others, size, missing)] if base or size else []
        known = [nodes for nodes in sets if NO_NODE not in nodes] if NO_NODE in capacity else sets
        if size + len(base) > 1 and closest:
            yield from _closest_first(demand.topology, known)
        elif known:
            yield known
        if len(known) < len(sets):
            yield [nodes for nodes in sets if NO_NODE in nodes]


def _closest_first(topology: Topology, sets: list[NodeSet]) -> Iterator[list[NodeSet]]:
    """The sets in lists of those that are equally far apart."""
    apart = {nodes: _apart(topology, nodes) for nodes in sets}
    for _, alike in itertools.groupby(sorted(sets, key=apart.__getitem__), key=apart.__getitem__):
        yield list(alike)


def _added(demand: Demand, others: list[int], size: int, missing: int) -> Iterable[NodeSet]:
    """Sets of `size` of the other nodes that have the missing CPUs."""
    capacity = demand.capacity
    if sum(sorted((capacity[node] for node in others), reverse=True)[:size]) < missing:
        return ()
    if math.comb(len(others), size) <= max_sets(demand.cpu_count):
        sets: Iterable[NodeSet] = itertools.combinations(others, size)
    else:
        sets = sorted({_closest_set(demand, others, size, missing, seed) for seed in others})
    return [added for added in sets if sum([capacity[node] for node in added]) >= missing]


def _closest_set(demand: Demand, others: list[int], size: int, missing: int, seed: int) -> NodeSet:
    """`size` of the `others`, starting at `seed`, each time the closest node that leaves the rest possible."""
    nodes, distances = demand.topology.nodes, demand.topology.distance
    packages = packages_of(demand.topology, demand.base)
    distance = {node: sum(distances[node][member] for member in demand.base) for node in others}
    by_capacity = sorted(others, key=lambda node: (-demand.capacity[node], node))
    chosen = [seed]
    while len(chosen) < size:
        added = chosen[-1]
        missing -= demand.capacity[added]
        packages |= nodes[added].packages
        by_capacity.remove(added)
        distance = {node: distance[node] + distances[node][added] for node in by_capacity}
        best_rest = sum(demand.capacity[node] for node in by_capacity[: size - len(chosen) - 1])
        possible = [node for node in by_capacity if demand.capacity[node] + best_rest >= missing]
        chosen.append(
            min(
                possible or by_capacity[:1],
                key=lambda node: (len(packages | nodes[node].packages), distance[node], node),
            )
        )
    return tuple(sorted(chosen))


def _apart(topology: Topology, nodes: NodeSet) -> tuple[int, int]:
    """How far apart nodes are: the packages that they span, and the sum of the distances between them."""
    return len(packages_of(topology, nodes)), node_distance(topology, nodes)


def packages_of(topology: Topology, nodes: NodeSet) -> frozenset[int]:
    """The packages of the nodes."""
    return frozenset[int]().union(*(topology.nodes[node].packages for node in nodes))


def node_distance(topology: Topology, nodes: NodeSet) -> int:
    """The sum of the distances between the nodes."""
    return sum(topology.distance[a][b] for a, b in itertools.combinations(sorted(nodes), 2))
