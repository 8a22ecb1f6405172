"""Scopes: the sets of NUMA nodes that are compared for a request, smallest and closest first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from epa_orchestrator.placement.topology import Topology

#: Node ids.
Scope = tuple[int, ...]

#: How many sets of nodes of one size are compared one by one, for a request of one CPU; for a larger one fewer, as each
#: takes longer. Beyond (12 of 24 nodes are 2.7 million sets) one set is grown from each node by closeness instead.
_MAX_SETS_OF_ONE: Final = 16384


def max_sets(need: int) -> int:
    """How many sets of nodes are compared one by one for a request of so many CPUs."""
    return min(max(_MAX_SETS_OF_ONE // max(need, 1), 16), 1024)


class Wanted(NamedTuple):
    """What scopes are for: `need` CPUs out of `capacity` (by node), beside those in `base`, in at most `most` nodes."""

    top: Topology
    capacity: dict[int, int]
    base: Scope
    need: int
    most: int


def scopes(wanted: Wanted, *, closest: bool) -> Iterator[list[Scope]]:
    """Lists of scopes with CPUs enough, each list better than the next.

    Fewer nodes are better. Of several nodes, `closest` makes those better that span fewer packages, and of these those
    with the least distance between them.
    """
    top, capacity, base, need, most = wanted
    missing = need - sum(capacity[node] for node in base)
    others = [node for node, count in capacity.items() if count and node not in base]
    for size in range(len(others) + 1):
        if size and len(base) + size > most:
            return
        sets = [(*base, *extra) for extra in _sets(wanted, others, size, missing)] if base or size else []
        if size + len(base) == 1 or not closest:
            if sets:
                yield sets
            continue
        apart = {scope: _apart(top, scope) for scope in sets}
        for _, alike in itertools.groupby(sorted(sets, key=apart.__getitem__), key=apart.__getitem__):
            yield list(alike)


def _sets(wanted: Wanted, others: list[int], size: int, missing: int) -> Iterable[Scope]:
    """Sets of `size` of the other nodes that have the missing CPUs."""
    capacity = wanted.capacity
    if sum(sorted((capacity[node] for node in others), reverse=True)[:size]) < missing:
        return ()
    if math.comb(len(others), size) <= max_sets(wanted.need):
        sets: Iterable[Scope] = itertools.combinations(others, size)
    else:
        sets = sorted({_closest_set(wanted, others, size, missing, seed) for seed in others})
    return [extra for extra in sets if sum([capacity[node] for node in extra]) >= missing]


def _closest_set(wanted: Wanted, others: list[int], size: int, missing: int, seed: int) -> Scope:
    """`size` of the `others`, starting at `seed`, each time the closest node that leaves the rest possible."""
    nodes, distances = wanted.top.nodes, wanted.top.distance
    packages: frozenset[int] = frozenset[int]().union(*(nodes[node].packages for node in wanted.base))
    distance = {node: sum(distances[node][member] for member in wanted.base) for node in others}
    by_capacity = sorted(others, key=lambda node: (-wanted.capacity[node], node))
    chosen = [seed]
    while len(chosen) < size:
        added = chosen[-1]
        missing -= wanted.capacity[added]
        packages |= nodes[added].packages
        by_capacity.remove(added)
        distance = {node: distance[node] + distances[node][added] for node in by_capacity}
        best_rest = sum(wanted.capacity[node] for node in by_capacity[: size - len(chosen) - 1])
        possible = [node for node in by_capacity if wanted.capacity[node] + best_rest >= missing]
        chosen.append(
            min(
                possible or by_capacity[:1],
                key=lambda node: (len(packages | nodes[node].packages), distance[node], node),
            )
        )
    return tuple(sorted(chosen))


def _apart(top: Topology, scope: Scope) -> tuple[int, int]:
    """How far apart nodes are: the packages that they span, and the sum of the distances between them."""
    return len(packages_of(top, scope)), node_distance(top, scope)


def packages_of(top: Topology, scope: Scope) -> frozenset[int]:
    """The packages of the nodes."""
    return frozenset[int]().union(*(top.nodes[node].packages for node in scope))


def node_distance(top: Topology, scope: Scope) -> int:
    """The sum of the distances between the nodes."""
    return sum(top.distance[a][b] for a, b in itertools.combinations(sorted(scope), 2))
