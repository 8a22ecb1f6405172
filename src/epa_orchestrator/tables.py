"""Tables: the best way to take any number of CPUs from a few cores, an L3 domain, a NUMA node or several nodes.

A table is a list whose entry n is the cost of the best choice of n CPUs, as one integer. Its high bits hold the levels
of the cost vector, each in a field of its own, the most important on top; its low bits the chosen CPUs themselves, so
that of equal choices the one with the lower CPU ids is the smaller number. Such costs add up, and the best choice from
two disjoint parts is made of best choices from each. So small tables are folded into larger ones (the knapsack
recurrence, a min-plus convolution), which is exact whatever the policy. Tables of few cores and of nodes are
remembered, as from one request to the next little changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import add
from typing import Final, NamedTuple

from epa_orchestrator.cost import levels, other_type
from epa_orchestrator.domains import Cell, Part, Topology
from epa_orchestrator.policy import PlacementPolicy

Table = list[int]

#: Bits of a level's field: a sum of squares over 8192 CPUs takes 27.
_FIELD: Final = 40
_MOST_LEVELS: Final = 16

#: How many tables are remembered; the largest have a few KB.
_MAX_PARTS: Final = 1024
_MAX_NODES: Final = 256


class Weights:
    """How much each level weighs under a policy on a topology; nothing when it is not compared.

    `weights` makes one object for equal arguments, so that it can stand for them where tables are remembered.
    """

    def __init__(self, top: Topology, policy: PlacementPolicy, *, shrinking: bool) -> None:
        compared = levels(policy, shrinking=shrinking)
        fields = range(len(compared) - 1, -1, -1)
        weight = {
            name: sign * (1 << top.width + _FIELD * place) for (name, sign), place in zip(compared, fields, strict=True)
        }
        self.top, self.width = top, top.width
        self.infeasible = 1 << top.width + _FIELD * (_MOST_LEVELS + 1)
        self.whole_cores = policy.cpu_thread_policy == "require"
        self.one_thread = policy.cpu_thread_policy == "isolate"
        self.other_type_cpus = other_type(top, policy)
        self.distance = top.distance[policy.near] if policy.near is not None else {}
        self.reclaimed = weight.get("reclaimed_cpus", 0)
        self.numa_nodes = weight.get("numa_nodes", 0)
        self.near = weight.get("near_distance", 0)
        self.packages = weight.get("packages", 0)
        self.node_distance = weight.get("node_distance", 0)
        self.numa_balance = weight.get("numa_balance", 0)
        self.other_type = weight.get("other_type_cpus", 0)
        self.shared = weight.get("shared_cores", 0)
        self.fresh = weight.get("fresh_cores", 0)
        self.stacked = weight.get("stacked_cpus", 0)
        self.split = weight.get("split_cores", 0)
        self.l3_domains = weight.get("l3_domains", 0)
        self.l3_balance = weight.get("l3_balance", 0)
        self.l3_left_over = weight.get("l3_left_over", 0)
        self.scope_left_over = weight.get("scope_left_over", 0)

    def feasible(self, value: int) -> bool:
        """Whether a cost is that of a choice, and not of none."""
        return value < self.infeasible >> 1

    def chosen(self, value: int) -> int:
        """The CPUs that a cost is the cost of, as a mask."""
        mirrored = -value & (1 << self.width) - 1
        return int(f"{mirrored:0{self.width}b}"[::-1], 2) if self.width else 0


@lru_cache(64)
def weights(top: Topology, policy: PlacementPolicy, *, shrinking: bool = False) -> Weights:
    """The weights of a policy on a topology, to gain CPUs or to give up some."""
    return Weights(top, policy, shrinking=shrinking)


class Situation(NamedTuple):
    """Masks: the CPUs that may be taken, those of them that are others', those that are kept, all that no other has."""

    take: int
    last_resort: int
    held: int
    available: int

    def within(self, mask: int) -> Situation:
        """What of it concerns these CPUs."""
        return Situation(self.take & mask, self.last_resort & mask, self.held & mask, self.available & mask)


def best(weigh: Weights, cells: Sequence[Cell], now: Situation, need: int) -> int:
    """The cost of the best choice of `need` CPUs from the cells, which hold all that is kept; infeasible if none.

    What is the same for all choices from these cells is not in it.
    """
    limit = max(32, 1 << (need - 1).bit_length())
    if len({cell.node for cell in cells}) == 1:
        table = node_table(weigh, tuple(cells), now, limit)
        return table[need] if need < len(table) else weigh.infeasible
    by_node = _grouped(cells, [cell.node for cell in cells])
    if weigh.top.l3_spans_nodes:
        tables = [_l3_table(weigh, members, now, limit, across=True) for members in _by_l3(cells)]
    else:
        tables = [node_table(weigh, members, now, limit) for members in by_node]
    return _fold(tables, need, weigh.infeasible, exactly=True)[-1]


def node_table(weigh: Weights, cells: tuple[Cell, ...], now: Situation, limit: int) -> Table:
    """The table of cells in one NUMA node, up to `limit` CPUs or all there are."""
    threads = 0
    for cell in cells:
        threads |= cell.threads
    left = tuple([(weigh.top.l3_cpus[cell.l3] & now.take).bit_count() for cell in cells])
    return _node_table(weigh, cells, now.within(threads), left, limit)


@lru_cache(_MAX_NODES)
def _node_table(weigh: Weights, cells: tuple[Cell, ...], now: Situation, left: tuple[int, ...], limit: int) -> Table:
    free_in = {cell.l3: free for cell, free in zip(cells, left, strict=True)}
    tables = [_l3_table(weigh, members, now, limit, free_in) for members in _by_l3(cells)]
    return _with_node_terms(weigh, cells[0].node, _fold(tables, limit, weigh.infeasible), now.held)


def _with_node_terms(weigh: Weights, node: int, table: Table, held: int) -> Table:
    """Add what depends on how many CPUs of the node the service has."""
    if not weigh.numa_balance and not weigh.near:
        return table
    kept, far = held.bit_count(), weigh.near * weigh.distance.get(node, 0)
    return [value + weigh.numa_balance * (kept + n) ** 2 + far * (kept + n) for n, value in enumerate(table)]


def _l3_table(
    weigh: Weights,
    cells: tuple[Cell, ...],
    now: Situation,
    limit: int,
    free_in: dict[int, int] | None = None,
    *,
    across: bool = False,
) -> Table:
    """The table of the cells of one L3 domain; `across`: they are in nodes that have no other L3 domain."""
    l3 = cells[0].l3
    tables: list[Table] = []
    for cell in cells:
        parts = [_part_table(weigh, part, now.within(part.threads)) for part in cell.parts]
        table = _fold(parts, limit, weigh.infeasible)
        tables.append(_with_node_terms(weigh, cell.node, table, now.held & cell.cpus) if across else table)
    table = _fold(tables, limit, weigh.infeasible)
    if not (weigh.l3_domains or weigh.l3_balance or weigh.l3_left_over):
        return table
    kept = sum([(now.held & cell.cpus).bit_count() for cell in cells])
    left = free_in[l3] if free_in else (weigh.top.l3_cpus[l3] & now.take).bit_count()
    touched = weigh.l3_domains + weigh.l3_left_over * left
    result = [
        value + touched + weigh.l3_balance * (kept + n) ** 2 - weigh.l3_left_over * n for n, value in enumerate(table)
    ]
    if not kept:
        result[0] = table[0]
    return result


@lru_cache(_MAX_PARTS)
def _part_table(weigh: Weights, part: Part, now: Situation) -> Table:
    tables = [_core_table(weigh, core, now) for core in part.cores]
    return _fold(tables, now.take.bit_count(), weigh.infeasible)


def _core_table(weigh: Weights, core: int, now: Situation) -> Table:
    """The table of one core: other owners' threads last, then by id."""
    free, held = core & now.take, core & now.held
    beside = core & ~now.available
    wrong = weigh.other_type if core & weigh.other_type_cpus else 0
    open_ = weigh.shared if beside else 0 if held else weigh.fresh
    taken, extra, order = held, 0, 0
    table: Table = []
    for n in range(free.bit_count() + 1):
        if n:
            rest = free & ~taken
            own = rest & ~now.last_resort
            low = (own or rest) & -(own or rest)
            taken |= low
            order += 1 << weigh.width - low.bit_length()
            extra += 0 if own else weigh.reclaimed
        count = taken.bit_count()
        if not count:
            table.append(0)
        elif (weigh.whole_cores and taken != core) or (weigh.one_thread and (count > 1 or beside)):
            table.append(weigh.infeasible)
        else:
            split = weigh.split if not beside and taken != core else 0
            table.append(open_ + split + weigh.stacked * (count - 1) + wrong * count + extra - order)
    return table


def _fold(tables: Iterable[Table], limit: int, infeasible: int, *, exactly: bool = False) -> Table:
    """One table for all of them, up to `limit` CPUs; `exactly`: its last entry is for that many, the others are void.

    For that, only numbers are worked out that the tables still to come can complete.
    """
    pending = [table for table in tables if len(table) > 1 or table[0]]
    ahead = sum([len(table) - 1 for table in pending]) if exactly else 0
    if exactly and ahead < limit:
        return [infeasible]
    result, begin = [0], 0
    for table in pending:
        if exactly:
            ahead -= len(table) - 1
        first = max(limit - ahead, 0) if exactly else 0
        result, begin = _convolved(result, begin, table, first, limit), first
    return result if begin + len(result) == limit + 1 or not exactly else [infeasible]


def _convolved(one: Table, begin: int, other: Table, first: int, last: int) -> Table:
    """Entries `first` to `last` of the fold of two tables; `one` begins with the entry of `begin`."""
    mirrored = other[::-1]
    most = len(other) - 1
    end = begin + len(one) - 1
    result: Table = []
    for total in range(first, min(end + most, last) + 1):
        low, high = max(total - most, begin), min(total, end)
        result.append(
            min(map(add, one[low - begin : high - begin + 1], mirrored[most - total + low : most - total + high + 1]))
        )
    return result


def _by_l3(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    return _grouped(cells, [cell.l3 for cell in cells])


def _grouped(cells: Sequence[Cell], keys: Sequence[int]) -> list[tuple[Cell, ...]]:
    """The cells with equal keys, together."""
    groups: dict[int, list[Cell]] = {}
    for cell, key in zip(cells, keys, strict=True):
        groups.setdefault(key, []).append(cell)
    return [tuple(group) for group in groups.values()]
