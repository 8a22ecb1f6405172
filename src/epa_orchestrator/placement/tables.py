"""Tables: the best way to take any number of CPUs from a few cores, an L3 domain, a NUMA node or several nodes.

A table is a list whose entry n is the cost of the best choice of n CPUs, as one integer. Its high bits hold the levels
of the cost vector, each in a field of its own, the most important on top; its low bits the chosen CPUs themselves, so
that of equal choices the one with the lower CPU ids is the smaller number. Such costs add up, and the best choice from
two disjoint parts is made of best choices from each. So small tables are folded into larger ones (the knapsack
recurrence, a min-plus convolution), which is exact whatever the policy. Tables of few cores and of domains are
remembered, as from one request to the next little changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import add
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import union
from epa_orchestrator.placement.cost import levels, other_type
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.topology import Cell, Kind, Part, Topology, lowest_bits

Table = list[int]

#: Bits of a level's field: a sum of squares over 8192 CPUs takes 27.
_FIELD: Final = 40
_MOST_LEVELS: Final = 16

#: How many tables of a few cores are remembered: on 4,096 CPUs each has 11 KB.
_MAX_PARTS: Final = 1024
#: How many domains are remembered, and tables of domains by their size (CPUs). On 4,096 CPUs an entry has 0.7 KB, so
#: the table of all CPUs has 2.8 MB, and all together at most 160 MB.
_MAX_DOMAINS: Final = 512
_MAX_TABLES: Final = ((128, 512), (512, 64), (None, 32))


class Weights:
    """How much each level weighs under a policy on a topology; nothing when it is not compared.

    `weights` makes one object for equal arguments, so that it can stand for them where tables are remembered.
    """

    def __init__(self, top: Topology, policy: PlacementPolicy, *, shrinking: bool, sparing: bool) -> None:
        compared = levels(policy, shrinking=shrinking, sparing=sparing)
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
        compares: dict[Kind, int] = {
            "package": self.packages,
            "node": self.numa_nodes or self.near or self.numa_balance,
            "l3": self.l3_domains or self.l3_balance or self.l3_left_over,
        }
        #: The kinds of domains that are compared, those that contain the others first.
        self.nesting: tuple[Kind, ...] = tuple(kind for kind in top.nesting if compares[kind]) or ("l3",)

    def feasible(self, value: int) -> bool:
        """Whether a cost is that of a choice, and not of none."""
        return value < self.infeasible >> 1

    def chosen(self, value: int) -> int:
        """The CPUs that a cost is the cost of, as a mask."""
        mirrored = -value & (1 << self.width) - 1
        return int(f"{mirrored:0{self.width}b}"[::-1], 2) if self.width else 0


@lru_cache(64)
def weights(top: Topology, policy: PlacementPolicy, *, shrinking: bool = False, sparing: bool = True) -> Weights:
    """The weights of a policy on a topology, to gain CPUs or to give up some; see `levels`."""
    return Weights(top, policy, shrinking=shrinking, sparing=sparing)


class Situation(NamedTuple):
    """Masks: the CPUs that may be taken, those of them that others hold, those that are kept, and all of these."""

    take: int
    others: int
    held: int
    available: int

    def within(self, mask: int) -> Situation:
        """What of it concerns these CPUs."""
        return Situation(self.take & mask, self.others & mask, self.held & mask, self.available & mask)


def best(weigh: Weights, cells: tuple[Cell, ...], now: Situation, need: int) -> int:
    """The cost of the best choice of `need` CPUs from some NUMA nodes, which hold all that is kept; infeasible if none.

    `node_distance` is not in it, being the same for all choices from these nodes.
    """
    limit = max(32, 1 << (need - 1).bit_length())
    left = {cell.l3: (weigh.top.l3_cpus[cell.l3] & now.take).bit_count() for cell in cells}
    tables = [_domain_table(weigh, domain, 0, now, left, limit) for domain in _domains(weigh, cells, 0)]
    if len(tables) == 1:
        return tables[0][need] if need < len(tables[0]) else weigh.infeasible
    return _fold(tables, need, weigh.infeasible, exactly=True)[-1]


class _Domain(NamedTuple):
    """The cells of one package, NUMA node or L3 domain, their threads as a mask, and what remembers their tables."""

    cells: tuple[Cell, ...]
    threads: int
    table: Callable[[Weights, tuple[Cell, ...], int, Situation, tuple[int, ...], int], Table]


@lru_cache(_MAX_DOMAINS)
def _domains(weigh: Weights, cells: tuple[Cell, ...], depth: int) -> tuple[_Domain, ...]:
    """The cells by domain, of the kind that is nested `depth` deep."""
    kind = weigh.nesting[depth]
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
    weigh: Weights, domain: _Domain, depth: int, now: Situation, left: dict[int, int], limit: int
) -> Table:
    """The table of a domain of the kind that is nested `depth` deep."""
    cells = domain.cells
    left_here = tuple([left[cell.l3] for cell in cells])
    return domain.table(weigh, cells, depth, now.within(domain.threads), left_here, limit)


def _table_of_cells(
    weigh: Weights, cells: tuple[Cell, ...], depth: int, now: Situation, left_here: tuple[int, ...], limit: int
) -> Table:
    left = {cell.l3: count for cell, count in zip(cells, left_here, strict=True)}
    if depth + 1 < len(weigh.nesting):
        domains = _domains(weigh, cells, depth + 1)
        tables = [_domain_table(weigh, domain, depth + 1, now, left, limit) for domain in domains]
    else:
        tables = [_part_table(weigh, part, now.within(part.threads)) for cell in cells for part in cell.parts]
    table = _fold(tables, limit, weigh.infeasible)
    kept = now.held.bit_count()
    match weigh.nesting[depth]:
        case "package":
            return _with_terms(table, kept, weigh.packages)
        case "node":
            each = weigh.near * weigh.distance.get(cells[0].node, 0) - weigh.scope_left_over
            once = weigh.numa_nodes + weigh.scope_left_over * now.take.bit_count()
            return _with_terms(table, kept, once, each, weigh.numa_balance)
        case "l3":
            once = weigh.l3_domains + weigh.l3_left_over * left[cells[0].l3]
            return _with_terms(table, kept, once, -weigh.l3_left_over, weigh.l3_balance)


_remembered_tables: Final = tuple([(size, lru_cache(most)(_table_of_cells)) for size, most in _MAX_TABLES])


def _with_terms(table: Table, kept: int, once: int, each: int = 0, square: int = 0) -> Table:
    """Add what a domain costs `once` when the service has CPUs of it, for `each` of these, and for their `square`."""
    if not (once or each or square):
        return table
    result = [value + once + each * (kept + n) + square * (kept + n) ** 2 for n, value in enumerate(table)]
    if not kept:
        result[0] = table[0]
    return result


@lru_cache(_MAX_PARTS)
def _part_table(weigh: Weights, part: Part, now: Situation) -> Table:
    tables = [_core_table(weigh, core, now) for core in part.cores]
    return _fold(tables, now.take.bit_count(), weigh.infeasible)


def _core_table(weigh: Weights, core: int, now: Situation) -> Table:
    """The table of one core: for each number the best mix of free threads and others'."""
    own, others = core & now.take & ~now.others, core & now.others
    table: Table = []
    for n in range(own.bit_count() + others.bit_count() + 1):
        mixes = range(max(n - own.bit_count(), 0), min(n, others.bit_count()) + 1)
        table.append(
            min([_core_cost(weigh, core, now, lowest_bits(own, n - k), lowest_bits(others, k)) for k in mixes])
        )
    return table


def _core_cost(weigh: Weights, core: int, now: Situation, own: int, others: int) -> int:
    """The cost of taking these threads of a core, free ones and others', beside those that are held."""
    held = core & now.held
    taken = held | own | others
    count = taken.bit_count()
    if not count:
        return 0
    beside = core & ~(now.available & ~now.others | taken)
    if (weigh.whole_cores and taken != core) or (weigh.one_thread and (count > 1 or beside)):
        return weigh.infeasible
    value = weigh.shared if beside else (0 if held else weigh.fresh) + (weigh.split if taken != core else 0)
    value += weigh.stacked * (count - 1) + weigh.reclaimed * others.bit_count()
    if core & weigh.other_type_cpus:
        value += weigh.other_type * count
    return value - _mirrored(own | others, weigh.width)


def _mirrored(mask: int, width: int) -> int:
    """The mask with its lowest CPU on top."""
    mirrored = 0
    while mask:
        low = mask & -mask
        mirrored |= 1 << width - low.bit_length()
        mask ^= low
    return mirrored


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
