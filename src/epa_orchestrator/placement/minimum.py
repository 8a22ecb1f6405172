"""Needs: how many NUMA nodes and L3 domains a claim would take at least if nobody else had any CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, combinations, islice
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import iter_bits
from epa_orchestrator.placement.policy import CpuThreadPolicy
from epa_orchestrator.placement.topology import Cell, Topology

#: Which numbers of CPUs are possible, as a set of bits: number n is bit n.
Sizes = int

#: How many sets of nodes are looked at, largest nodes first; all of them on machines of up to 12 nodes.
_MAX_NODE_SETS: Final = 1024


class Needs(NamedTuple):
    """The fewest NUMA nodes, and of all sets of so many nodes the fewest L3 domains."""

    numa_nodes: int
    l3_domains: int


@lru_cache(512)
def needs(top: Topology, count: int, threads: CpuThreadPolicy, node_id: int | None = None) -> Needs | None:
    """What `count` CPUs need of the empty pool, or of one empty node of it; None when it cannot hold so many."""
    nodes = [node for node in top.nodes.values() if node_id in (None, node.id)]
    cells = {cell: _sizes(cell, threads) for node in nodes for cell in node.cells}
    if not _sums(cells.values()) >> count & 1:
        return None
    most = {node: sum(cells[cell].bit_length() - 1 for cell in node.cells) for node in nodes}
    nodes.sort(key=lambda node: -most[node])
    for size in range(1, len(nodes) + 1):
        if sum(most[node] for node in nodes[:size]) < count:
            continue
        sets = islice(combinations(nodes, size), _MAX_NODE_SETS)
        caches = {_caches([cell for node in chosen for cell in node.cells], cells) for chosen in sets}
        fewest = [number for number in (_fewest(each, count) for each in caches) if number is not None]
        if fewest:
            return Needs(size, min(fewest))
    return None


def whole_core_sizes(top: Topology, available: int) -> Sizes:
    """How many CPUs can be had in whole cores out of the available ones (a mask)."""
    return _sums(1 | 1 << core.bit_count() for cell in top.cells for core in cell.cores if not core & ~available)


def free_cores(top: Topology, available: int) -> int:
    """How many cores have all their threads among the available CPUs (a mask)."""
    return sum(1 for cell in top.cells for core in cell.cores if not core & ~available)


def _sizes(cell: Cell, threads: CpuThreadPolicy) -> Sizes:
    """How many CPUs of a cell a claim can have under a thread policy."""
    if threads not in ("require", "isolate"):
        return (1 << cell.cpus.bit_count() + 1) - 1
    whole = [core for core in cell.cores if not core & ~cell.cpus]
    return _sums(1 | 1 << (core.bit_count() if threads == "require" else 1) for core in whole)


def _caches(cells: Iterable[Cell], sizes: dict[Cell, Sizes]) -> tuple[Sizes, ...]:
    """The possible sizes in each L3 domain, in an order that makes like sets of nodes equal."""
    by_l3: dict[int, list[Sizes]] = {}
    for cell in cells:
        by_l3.setdefault(cell.l3, []).append(sizes[cell])
    return tuple(sorted(_sums(each) for each in by_l3.values()))


def _fewest(caches: Sequence[Sizes], count: int) -> int | None:
    """The fewest L3 domains that hold exactly `count` CPUs, None when all together do not."""
    if all(not sizes & sizes + 1 for sizes in caches):  # any number of CPUs is possible: the roomiest domains first
        room = accumulate(sorted((sizes.bit_length() - 1 for sizes in caches), reverse=True))
        return next((number for number, total in enumerate(room, 1) if total >= count), None)
    mask = (1 << count + 1) - 1
    with_number: list[Sizes] = [1]
    for sizes in sorted(caches, reverse=True):
        with_number.append(0)
        for number in range(len(with_number) - 1, 0, -1):
            with_number[number] |= _sums((with_number[number - 1], sizes)) & mask
    return next((number for number, sums in enumerate(with_number) if sums >> count & 1), None)


def _sums(parts: Iterable[Sizes]) -> Sizes:
    """The sizes of one of each part, added up."""
    total = 1
    for sizes in parts:
        if not (total & total + 1 or sizes & sizes + 1):  # both are "any number up to"
            total = (1 << total.bit_length() + sizes.bit_length() - 1) - 1
            continue
        small, large = sorted((total, sizes), key=int.bit_count)
        total = 0
        for size in iter_bits(small):
            total |= large << size
    return total
