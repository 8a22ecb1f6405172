# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tables: which CPUs inside a set of NUMA nodes are best, for any number of them.

A table is a list whose entry n is the cost of the best choice of n CPUs, as one integer. Its high bits hold the levels
of the cost vector, each in a field of its own, the most important on top; its low bits hold the chosen CPUs, so that of
equal choices the one with the lower CPU ids is the smaller number. Such costs add up, and the best choice from two
disjoint parts is made of best choices from each. So small tables are folded into larger ones (the knapsack recurrence,
a min-plus convolution), which is exact for every policy. Tables of a few cores and of domains are remembered, as
little changes from one request to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import combinations
from operator import add
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import CpuSet, iter_bits, lowest_bits, union
from epa_orchestrator.placement.cost import LEVELS, Cost, levels_on, other_type
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.topology import NO_NODE, Cell, Kind, Part, Topology

Table = list[int]

#: Bits of a level's field: a sum of squares over 8192 CPUs takes 27.
FIELD_BITS: Final = 40
_MOST_LEVELS: Final = 16

#: How many tables of a few cores are remembered: on 4,096 CPUs each has 11 KB.
_MAX_PARTS: Final = 1024
#: How many domains are remembered, and tables of domains by their size (CPUs). On 4,096 CPUs an entry has 0.7 KB, so
#: the table of all CPUs has 2.8 MB, and all together at most 160 MB.
_MAX_DOMAINS: Final = 512
_MAX_TABLES: Final = ((128, 512), (512, 64), (None, 32))


class Weights:
    """The weight of each level under a policy on a topology, 0 for a level that is not compared.

    `weights_of` makes one object for equal arguments, so that it can stand for them where tables are remembered.
    """

    def __init__(self, topology: Topology, policy: PlacementPolicy, *, shrinking: bool, sparing: bool) -> None:
        compared = levels_on(topology, policy, shrinking=shrinking, sparing=sparing)
        weight = dict.fromkeys(LEVELS, 0)
        for place, (name, sign) in enumerate(reversed(compared)):
            weight[name] = sign << topology.width + FIELD_BITS * place
        self.topology, self.width = topology, topology.width
        #: The weight of each level.
        self.of = Cost(**weight)
        self.infeasible = 1 << topology.width + FIELD_BITS * (_MOST_LEVELS + 1)
        self.whole_cores = policy.cpu_thread_policy == "require"
        self.one_thread = policy.cpu_thread_policy == "isolate"
        self.other_type_cpus = other_type(topology, policy)
        self.near_distance = topology.distance[policy.near] if policy.near is not None else {}
        self.in_later_nodes = _in_later_nodes(self)
        compared_in = {level.domain for name, level in LEVELS.items() if weight[name]}
        #: The kinds of domains that are compared, those that contain the others first.
        self.nesting: tuple[Kind, ...] = tuple(kind for kind in topology.nesting if kind in compared_in) or ("l3",)

    def feasible(self, value: int) -> bool:
        """Whether a cost is that of a possible choice."""
        return value < self.infeasible >> 1  # half, as other terms, some of them negative, are added to `infeasible`

    def chosen(self, value: int) -> int:
        """The CPUs, as a mask, of the choice that has this cost; see `_mirrored`."""
        mirrored = -value & (1 << self.width) - 1
        return int(f"{mirrored:0{self.width}b}"[::-1], 2) if self.width else 0


def _in_later_nodes(weights: Weights) -> tuple[tuple[int, int], ...]:
    """The CPUs of nodes that are not the first of their node group, and what each costs more than one of the first.

    The table of a node group counts all its CPUs as those of the first node.
    """
    topology, weight = weights.topology, weights.of
    if not (topology.cores_span_nodes and (weight.near_distance or weight.nodeless_cpus)):
        return ()

    def cost_of_cpu(node: int) -> int:
        distance = weights.near_distance.get(node, 0)
        return weight.near_distance * distance + (weight.nodeless_cpus if node == NO_NODE else 0)

    first = {node.id: node.cells[0].node for node in topology.nodes.values()}
    return tuple(
        (node.cpus, cost_of_cpu(node.id) - cost_of_cpu(first[node.id]))
        for node in topology.nodes.values()
        if node.id != first[node.id]
    )


@lru_cache(64)
def weights_of(
    topology: Topology, policy: PlacementPolicy, *, shrinking: bool = False, sparing: bool = True
) -> Weights:
    """The weights of a policy on a topology, to gain CPUs or to give up some; see `levels`."""
    return Weights(topology, policy, shrinking=shrinking, sparing=sparing)


class Availability(NamedTuple):
    """Masks of the CPUs that a choice is made from and around.

    `takeable`: may be taken; `reclaimable`: those of them that other services hold; `held`: the service keeps them;
    `own_or_free`: no other service has them, or it may lose them.
    """

    takeable: int
    reclaimable: int
    held: int
    own_or_free: int

    def within(self, mask: int) -> Availability:
        """The part that concerns these CPUs."""
        return Availability(self.takeable & mask, self.reclaimable & mask, self.held & mask, self.own_or_free & mask)

    def taken_within(self, mask: int) -> Availability:
        """The same with only these CPUs to take; other services keep the rest of what they could lose."""
        not_lost = self.reclaimable & ~mask
        return Availability(self.takeable & mask, self.reclaimable & mask, self.held, self.own_or_free & ~not_lost)


def best(weights: Weights, cells: tuple[Cell, ...], availability: Availability, count: int, within: int = -1) -> int:
    """The cost of the best choice of `count` CPUs from some NUMA nodes; infeasible when there is none.

    The nodes contain all that is kept. `within` are their CPUs, where cells have CPUs of others too. The cost lacks
    `node_distance`, which is the same for all choices from them.
    """
    limit = max(32, 1 << (count - 1).bit_length())
    takeable, l3_cpus = availability.takeable, weights.topology.l3_cpus
    left = {cell.l3: (l3_cpus[cell.l3] & takeable).bit_count() for cell in cells}
    if within != -1:
        availability = availability.taken_within(within)
    tables = [_domain_table(weights, domain, 0, availability, left, limit) for domain in _domains(weights, cells, 0)]
    if len(tables) == 1:
        return tables[0][count] if count < len(tables[0]) else weights.infeasible
    return _fold_to(tables, count, weights.infeasible)


class _Domain(NamedTuple):
    """The cells of one domain (a node group stands for its nodes), their threads, and the cached table function."""

    cells: tuple[Cell, ...]
    threads: int
    table: Callable[[Weights, tuple[Cell, ...], int, Availability, tuple[int, ...], int], Table]


@lru_cache(_MAX_DOMAINS)
def _domains(weights: Weights, cells: tuple[Cell, ...], depth: int) -> tuple[_Domain, ...]:
    """The cells by domain, of the kind that is nested `depth` deep."""
    kind = weights.nesting[depth]
    groups: dict[int, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(getattr(cell, kind), []).append(cell)
    return tuple([_domain(tuple(group)) for group in groups.values()])


def _domain(cells: tuple[Cell, ...]) -> _Domain:
    threads = union(cell.threads for cell in cells)
    size = threads.bit_count()
    remembered = next(tables for most, tables in _remembered_tables if most is None or size <= most)
    return _Domain(cells, threads, remembered)


def _domain_table(
    weights: Weights, domain: _Domain, depth: int, availability: Availability, left: dict[int, int], limit: int
) -> Table:
    """The table of a domain of the kind that is nested `depth` deep."""
    cells = domain.cells
    left_here = tuple([left[cell.l3] for cell in cells])
    return domain.table(weights, cells, depth, availability.within(domain.threads), left_here, limit)


def _table_of_cells(
    weights: Weights,
    cells: tuple[Cell, ...],
    depth: int,
    availability: Availability,
    left_here: tuple[int, ...],
    limit: int,
) -> Table:
    """The table of one domain: those of its parts folded, with its own levels added.

    `left_here` has the takeable CPUs in the L3 domain of each cell; `limit` is the most CPUs that the table needs.
    """
    left = {cell.l3: count for cell, count in zip(cells, left_here, strict=True)}
    if depth + 1 < len(weights.nesting):
        domains = _domains(weights, cells, depth + 1)
        tables = [_domain_table(weights, domain, depth + 1, availability, left, limit) for domain in domains]
    else:
        parts = (part for cell in cells for part in cell.parts)
        tables = [_part_table(weights, part, availability.within(part.threads)) for part in parts]
    table = _fold(tables, limit)
    held, weight = availability.held.bit_count(), weights.of
    match weights.nesting[depth]:
        case "package":
            return _with_terms(table, held, weight.packages)
        case "node":
            once = weight.numa_nodes + weight.scope_left_over * availability.takeable.bit_count()
            each = weight.near_distance * weights.near_distance.get(cells[0].node, 0) - weight.scope_left_over
            if cells[0].node == NO_NODE:
                each += weight.nodeless_cpus
            return _with_terms(table, held, once, each, weight.numa_balance)
        case "l3":
            once = weight.l3_domains + weight.l3_left_over * left[cells[0].l3]
            return _with_terms(table, held, once, -weight.l3_left_over, weight.l3_balance)
        case "l2":
            return _with_terms(table, held, weight.l2_clusters if cells[0].l2 >= 0 else 0)


_remembered_tables: Final = tuple([(size, lru_cache(most)(_table_of_cells)) for size, most in _MAX_TABLES])


def _with_terms(table: Table, held: int, once: int, each: int = 0, square: int = 0) -> Table:
    """Add the cost of a domain: `once` when the service has CPUs of it, for `each` of these, and for their `square`."""
    if not (once or each or square):
        return table
    result = [value + once + each * (held + n) + square * (held + n) ** 2 for n, value in enumerate(table)]
    if not held:
        result[0] = table[0]
    return result


@lru_cache(_MAX_PARTS)
def _part_table(weights: Weights, part: Part, availability: Availability) -> Table:
    tables = [_core_table(weights, core, availability) for core in part.cores]
    return _fold(tables, availability.takeable.bit_count())


def _core_table(weights: Weights, core: int, availability: Availability) -> Table:
    """The table of one core: for each number the best mix of free and reclaimable threads."""
    free, reclaimable = core & availability.takeable & ~availability.reclaimable, core & availability.reclaimable
    most_free, most_reclaimed = free.bit_count(), reclaimable.bit_count()
    table: Table = []
    for n in range(most_free + most_reclaimed + 1):
        mixes = [
            _core_cost(
                weights, core, availability, lowest_bits(free, n - reclaimed), lowest_bits(reclaimable, reclaimed)
            )
            for reclaimed in range(max(n - most_free, 0), min(n, most_reclaimed) + 1)
        ]
        if weights.in_later_nodes:  # then it matters which threads of the core are chosen
            mixes += [
                _core_cost(weights, core, availability, threads & free, threads & reclaimable)
                for threads in _subsets(free | reclaimable, n)
            ]
        table.append(min(mixes))
    return table


def _subsets(threads: int, count: int) -> list[int]:
    return [CpuSet(chosen).mask for chosen in combinations(iter_bits(threads), count)]


def _core_cost(weights: Weights, core: int, availability: Availability, free: int, reclaimed: int) -> int:
    """The cost of taking these free and these reclaimed threads of a core, in addition to those that are held."""
    held = core & availability.held
    taken = held | free | reclaimed
    count = taken.bit_count()
    if not count:
        return 0
    of_others = core & ~(availability.own_or_free & ~availability.reclaimable | taken)
    if (weights.whole_cores and taken != core) or (weights.one_thread and (count > 1 or of_others)):
        return weights.infeasible
    weight = weights.of
    value = weight.stacked_cpus * (count - 1)
    if of_others:
        value += weight.shared_cores
    else:
        if not held:
            value += weight.fresh_cores
        if taken != core:
            value += weight.split_cores
    if reclaimed:
        value += weight.reclaimed_cpus * reclaimed.bit_count()
    if core & weights.other_type_cpus:
        value += weight.other_type_cpus * count
    if weights.in_later_nodes:
        value += sum([more * (taken & cpus).bit_count() for cpus, more in weights.in_later_nodes])
    return value - _mirrored(free | reclaimed, weights.width)


def _mirrored(mask: int, width: int) -> int:
    """The mask with its lowest CPU in the highest of `width` bits.

    A cost has this subtracted, so the choice with the lower CPU ids is the smaller number. With a width of 8, CPUs 0
    and 2 are 0b00000101 and give 0b10100000; CPUs 1 and 2 give 0b01100000, which is less, so they cost more.
    """
    mirrored = 0
    while mask:
        low = mask & -mask
        mirrored |= 1 << width - low.bit_length()
        mask ^= low
    return mirrored


def _fold(tables: Iterable[Table], limit: int) -> Table:
    """One table for all of them, up to `limit` CPUs."""
    result = [0]
    for table in _with_costs(tables):
        result = _convolved(result, 0, table, 0, limit)
    return result


def _fold_to(tables: Iterable[Table], count: int, infeasible: int) -> int:
    """The entry of `count` CPUs in the fold of all tables, infeasible when these have fewer.

    Leaves out the entries from which the tables still to come cannot complete the count.
    """
    pending = _with_costs(tables)
    to_come = sum([len(table) - 1 for table in pending])
    if to_come < count:
        return infeasible
    result, first = [0], 0
    for table in pending:
        to_come -= len(table) - 1
        begin, first = first, max(count - to_come, 0)
        result = _convolved(result, begin, table, first, count)
    return result[-1]


def _with_costs(tables: Iterable[Table]) -> list[Table]:
    """The tables that change a fold: not those of domains without CPUs for the service."""
    return [table for table in tables if len(table) > 1 or table[0]]


def _convolved(one: Table, begin: int, other: Table, first: int, last: int) -> Table:
    """Entries `first` to `last` of the fold of two tables; `one` begins with the entry of `begin`.

    Entry n is the least sum of an entry of each whose numbers add up to n. With `one` = [a0, a1, a2] and `other` =
    [b0, b1] it is for n = 2 the least of a1 + b1 and a2 + b0: a slice of `one` plus a slice of `other` backwards.
    """
    backwards = other[::-1]
    most = len(other) - 1
    end = begin + len(one) - 1
    result: Table = []
    for total in range(first, min(end + most, last) + 1):
        low, high = max(total - most, begin), min(total, end)
        shift = most - total  # entry n of `one` is added to entry n + shift of `backwards`
        result.append(min(map(add, one[low - begin : high - begin + 1], backwards[low + shift : high + shift + 1])))
    return result
