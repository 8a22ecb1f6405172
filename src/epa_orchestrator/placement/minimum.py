# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Minimum: the fewest NUMA nodes and L3 domains that a claim would need if no other service had any CPU."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, combinations, islice
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import iter_bits
from epa_orchestrator.placement.policy import CpuThreadPolicy
from epa_orchestrator.placement.topology import NO_NODE, Cell, Node, Topology

#: The numbers of CPUs that are possible, as a set of bits: bit n is set when n CPUs are possible. Two cores of two
#: threads, whole cores only, give 0, 2 or 4 CPUs: 0b10101. Any number up to 4 is 0b11111.
Sizes = int

#: How many sets of nodes are tried, largest nodes first; all of them on machines of up to 12 nodes.
_MAX_NODE_SETS: Final = 1024


class MinimumDomains(NamedTuple):
    """The fewest NUMA nodes, and the fewest L3 domains of all sets of that many nodes."""

    numa_nodes: int
    l3_domains: int


@lru_cache(512)
def minimum_domains(
    topology: Topology, count: int, threads: CpuThreadPolicy, node_id: int | None = None, *, mixed: bool = True
) -> MinimumDomains | None:
    """The minimum for `count` CPUs of the empty pool, or of one empty node; None when it cannot hold them.

    CPUs in no NUMA node count as one node more. Unless `mixed`, they are not taken together with those of others.
    """
    nodes = [node for node in topology.nodes.values() if node_id in (None, node.id)]
    sizes = {cell: _sizes(cell, threads) for node in nodes for cell in node.cells}
    if not _contains(_sums(sizes.values()), count):
        return None
    room = {node: sum(_largest(sizes[cell]) for cell in node.cells) for node in nodes}
    nodes.sort(key=lambda node: -room[node])
    for number in range(1, len(nodes) + 1):
        if sum(room[node] for node in nodes[:number]) < count:
            continue
        allowed = (chosen for chosen in combinations(nodes, number) if mixed or not is_mixed(chosen))
        sets = islice(allowed, _MAX_NODE_SETS)
        by_l3 = {_sizes_by_l3([cell for node in chosen for cell in node.cells], sizes) for chosen in sets}
        fewest = [found for found in (_fewest_l3s(each, count) for each in by_l3) if found is not None]
        if fewest:
            return MinimumDomains(number, min(fewest))
    return None


def is_mixed(nodes: Collection[Node]) -> bool:
    """Whether CPUs in no NUMA node would be taken together with those of others."""
    return len(nodes) > 1 and any(node.id == NO_NODE for node in nodes)


def whole_core_sizes(topology: Topology, available: int) -> Sizes:
    """The numbers of CPUs that whole cores of the available CPUs (a mask) can give."""
    cores = (core for cell in topology.cells for core in cell.cores if not core & ~available)
    return _sums(_none_or(core.bit_count()) for core in cores)


def free_cores(topology: Topology, available: int) -> int:
    """How many cores have all their threads among the available CPUs (a mask)."""
    return sum(1 for cell in topology.cells for core in cell.cores if not core & ~available)


def _sizes(cell: Cell, threads: CpuThreadPolicy) -> Sizes:
    """The numbers of CPUs of a cell that a claim can have under a thread policy."""
    if threads not in ("require", "isolate"):
        return _up_to(cell.cpus.bit_count())
    whole = [core for core in cell.cores if not core & ~cell.cpus]
    return _sums(_none_or(core.bit_count() if threads == "require" else 1) for core in whole)


def _sizes_by_l3(cells: Iterable[Cell], sizes: dict[Cell, Sizes]) -> tuple[Sizes, ...]:
    """The sizes of each L3 domain, in an order that makes similar sets of nodes equal."""
    by_l3: dict[int, list[Sizes]] = {}
    for cell in cells:
        by_l3.setdefault(cell.l3, []).append(sizes[cell])
    return tuple(sorted(_sums(each) for each in by_l3.values()))


def _fewest_l3s(domains: Sequence[Sizes], count: int) -> int | None:
    """The fewest L3 domains that hold exactly `count` CPUs, None when all together cannot."""
    if all(map(_has_no_gap, domains)):  # the roomiest domains are the fewest
        room = accumulate(sorted(map(_largest, domains), reverse=True))
        return next((number for number, total in enumerate(room, 1) if total >= count), None)
    sizes_of = [_up_to(0)]  # entry n: the sizes of n of the domains so far
    for sizes in sorted(domains, reverse=True):
        sizes_of.append(0)
        for number in range(len(sizes_of) - 1, 0, -1):
            sizes_of[number] |= _sums((sizes_of[number - 1], sizes)) & _up_to(count)
    return next((number for number, sizes in enumerate(sizes_of) if _contains(sizes, count)), None)


def _sums(parts: Iterable[Sizes]) -> Sizes:
    """The possible sums of one size of each part: of {0, 2} and {0, 1} these are {0, 1, 2, 3}."""
    total = _up_to(0)
    for sizes in parts:
        if _has_no_gap(total) and _has_no_gap(sizes):
            total = _up_to(_largest(total) + _largest(sizes))
            continue
        small, large = sorted((total, sizes), key=int.bit_count)
        total = 0
        for size in iter_bits(small):
            total |= large << size
    return total


def _none_or(size: int) -> Sizes:
    return 1 | 1 << size


def _up_to(size: int) -> Sizes:
    return (1 << size + 1) - 1


def _largest(sizes: Sizes) -> int:
    return sizes.bit_length() - 1


def _contains(sizes: Sizes, size: int) -> bool:
    return bool(sizes >> size & 1)


def _has_no_gap(sizes: Sizes) -> bool:
    """Whether every number up to the largest is possible: then adding 1 carries over all bits."""
    return not sizes & sizes + 1
