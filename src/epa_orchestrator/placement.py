"""Which CPUs a request gets: a pure function of the topology, the free CPUs, what the service holds, and the count.

The choice is made from the outside in. A *scope* is a set of NUMA nodes; scopes that can hold the request are compared
by one cost vector (`Cost`, smaller is better). Inside a scope as few L3 domains as possible are taken, those that the
request fills best; inside an L3 domain whole cores before single threads. What a service holds it keeps: growing adds
to it, shrinking takes from it, and the same count changes nothing.

The order of the levels follows kubelet's CPU Manager (packed assignment with uncore-cache alignment) and Topology
Manager (best-effort); choosing the L3 domains exactly, over their free counts, is our own.

A *cell* is the set of CPUs that share package, NUMA node and L3 domain; cells do not overlap, whichever of these is the
larger one on the machine at hand.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.machine import Machine

#: How many sets of nodes are compared one by one when a request needs several nodes. Beyond (12 of 24 nodes are 2.7
#: million sets) one set is grown from each node by closeness instead.
_MAX_NODE_SETS: Final = 512

#: Stands for the node of online CPUs that no node lists.
NO_NODE: Final = -1


class Cost(NamedTuple):
    """How good a choice is, most important first; compared as a tuple, smaller is better."""

    packages: int
    numa_nodes: int
    shared_cores: int
    l3_domains: int
    l3_left_over: int
    scope_left_over: int
    lowest_cpu: int


@dataclass(frozen=True)
class Cell:
    """CPUs that share package, NUMA node and L3 domain (`package` and `l3` are indexes); masks, see CpuSet.

    `cores` are the masks of the cell's cores, by lowest CPU id, with reserved threads in them: such a core is never
    whole. `threads` is their union.
    """

    package: int
    node: int
    l3: int
    cpus: int
    threads: int
    cores: tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """The CPUs that a pool may grant, as cells; distances between, and packages of, the nodes that have cells."""

    cells: tuple[Cell, ...]
    by_node: dict[int, tuple[Cell, ...]]
    l3_cpus: dict[int, int]
    packages_of: dict[int, frozenset[int]]
    distance: dict[int, dict[int, int]]
    all_threads: int


def topology(machine: Machine, eligible: CpuSet, reserved: CpuSet) -> Topology:
    """Cut the machine's domains down to the `eligible` CPUs (and, in cores, the `reserved` threads beside them)."""
    keys = _cell_keys(machine, eligible)
    cpus: dict[tuple[int, int, int], int] = {}
    for cpu, key in keys.items():
        cpus[key] = cpus.get(key, 0) | 1 << cpu
    cores: dict[tuple[int, int, int], list[int]] = {}
    for core in machine.cores:
        threads = (core.cpus & eligible).mask
        for key in {keys[cpu] for cpu in CpuSet.from_mask(threads)}:
            cores.setdefault(key, []).append(threads & cpus[key] | (core.cpus & reserved).mask)
    cells = tuple(
        Cell(*key, cpus=mask, threads=_union(cores[key]), cores=tuple(sorted(cores[key], key=_lowest)))
        for key, mask in sorted(cpus.items())
    )
    by_node: dict[int, tuple[Cell, ...]] = {}
    l3_cpus: dict[int, int] = {}
    for cell in cells:
        by_node[cell.node] = (*by_node.get(cell.node, ()), cell)
        l3_cpus[cell.l3] = l3_cpus.get(cell.l3, 0) | cell.cpus
    return Topology(
        cells=cells,
        by_node=by_node,
        l3_cpus=l3_cpus,
        packages_of={node: frozenset(cell.package for cell in of_node) for node, of_node in by_node.items()},
        distance={node: {other: machine.distance(node, other) for other in by_node} for node in by_node},
        all_threads=_union(cell.threads for cell in cells),
    )


def choose(top: Topology, free: CpuSet, own: CpuSet, count: int) -> CpuSet:
    """The `count` CPUs that a service holding `own` gets when the CPUs in `free` are to be had.

    The result is a superset of `own` when the claim grows, a subset when it shrinks. All of `own` and `free` must be
    in the topology, and `count` be at most as many as both have together (ValueError otherwise).
    """
    if not 0 <= count <= len(free) + len(own):
        raise ValueError(f"{count} CPUs cannot come out of {len(free)} free and {len(own)} own ones")
    if count <= len(own):
        return CpuSet.from_mask(_shrink(top, own.mask, len(own) - count))
    return CpuSet.from_mask(_grow(top, free.mask, own.mask, count - len(own)))


def cost(top: Topology, free: CpuSet, own: CpuSet, chosen: CpuSet) -> Cost:
    """The cost vector of giving `chosen` to a service that holds `own` while `free` is free."""
    touched = [cell for cell in top.cells if cell.cpus & chosen.mask]
    others = ~(free.mask | own.mask)
    left = (free.mask | own.mask) & ~chosen.mask
    l3s = {cell.l3 for cell in touched}
    nodes = {cell.node for cell in touched}
    return Cost(
        packages=len({cell.package for cell in touched}),
        numa_nodes=len(nodes),
        shared_cores=sum(1 for cell in touched for core in cell.cores if core & chosen.mask and core & others),
        l3_domains=len(l3s),
        l3_left_over=sum((top.l3_cpus[l3] & left).bit_count() for l3 in l3s),
        scope_left_over=sum((cell.cpus & left).bit_count() for node in nodes for cell in top.by_node[node]),
        lowest_cpu=_lowest(chosen.mask),
    )


# --- growing -----------------------------------------------------------------------------------------------------


class _Room:
    """What a cell has to give: free threads of cores that nobody else uses (`unshared`), and of the others."""

    __slots__ = ("capacity", "cell", "shared_cores", "unshared")

    def __init__(self, cell: Cell, free: int, others: int) -> None:
        self.cell = cell
        self.unshared = free & cell.cpus
        self.capacity = self.unshared.bit_count()
        self.shared_cores: list[int] = []
        if self.unshared and cell.threads & others:
            for core in cell.cores:
                if core & others and core & free:
                    self.shared_cores.append(core & free)
                    self.unshared &= ~core


class _Plan(NamedTuple):
    """A choice inside one scope, before single CPUs are picked: L3 domains, and threads of shared cores."""

    cost: tuple[int, ...]
    scope: tuple[int, ...]
    l3_order: tuple[int, ...]
    shared: int


def _grow(top: Topology, free: int, own: int, need: int) -> int:
    """`own` and the `need` best of the free CPUs."""
    others = top.all_threads & ~(free | own)
    rooms = {node: [_Room(cell, free, others) for cell in cells] for node, cells in top.by_node.items()}
    left = {l3: (cpus & free).bit_count() for l3, cpus in top.l3_cpus.items()}
    held = {l3 for l3, cpus in top.l3_cpus.items() if cpus & own} if own else set[int]()
    plans = [_plan(rooms, scope, left, held, need) for scope in _scopes(top, rooms, own, need)]
    least = min(plan.cost for plan in plans)
    picked = (_pick(rooms, plan, own, need) for plan in plans if plan.cost == least)
    return min(picked, key=lambda chosen: (_lowest(chosen), chosen))


def _scopes(top: Topology, rooms: dict[int, list[_Room]], own: int, need: int) -> list[tuple[int, ...]]:
    """The sets of nodes to compare: the service's own nodes and the fewest others that make room for `need` CPUs.

    Where more than one node is needed, the sets that span the fewest packages, and among those the closest ones by
    the sum of the distances between their nodes.
    """
    capacity = {node: sum([room.capacity for room in of_node]) for node, of_node in rooms.items()}
    base = tuple(node for node, cells in top.by_node.items() if any(cell.cpus & own for cell in cells)) if own else ()
    missing = need - sum(capacity[node] for node in base)
    if missing <= 0:
        return [base]
    others = [node for node in rooms if capacity[node] and node not in base]
    if not base and (holding := [(node,) for node in others if capacity[node] >= missing]):
        return holding
    largest = itertools.accumulate(sorted((capacity[node] for node in others), reverse=True))
    size = next(count for count, total in enumerate(largest, 1) if total >= missing)
    if math.comb(len(others), size) <= _MAX_NODE_SETS:
        sets: Iterable[tuple[int, ...]] = itertools.combinations(others, size)
    else:
        sets = {_closest_set(top, capacity, base, others, size, missing, seed) for seed in others}
    spread = {
        (*base, *extra): _spread(top, (*base, *extra))
        for extra in sets
        if sum(capacity[node] for node in extra) >= missing
    }
    closest = min(spread.values())
    return sorted(scope for scope in spread if spread[scope] == closest)


def _closest_set(
    top: Topology,
    capacity: dict[int, int],
    base: tuple[int, ...],
    others: list[int],
    size: int,
    missing: int,
    seed: int,
) -> tuple[int, ...]:
    """`size` of the `others`, starting at `seed`, each time the closest node that leaves the rest possible."""
    chosen: list[int] = []
    packages: frozenset[int] = frozenset[int]().union(*(top.packages_of[node] for node in base))
    distance = {node: sum(top.distance[node][member] for member in base) for node in others}
    by_capacity = sorted(others, key=lambda node: (-capacity[node], node))
    while True:
        node = (
            seed
            if not chosen
            else _closest(top, capacity, by_capacity, size - len(chosen), missing, packages, distance)
        )
        chosen.append(node)
        if len(chosen) == size:
            return tuple(sorted(chosen))
        missing -= capacity[node]
        packages |= top.packages_of[node]
        by_capacity.remove(node)
        distance = {other: distance[other] + top.distance[other][node] for other in by_capacity}


def _closest(
    top: Topology,
    capacity: dict[int, int],
    by_capacity: list[int],
    slots: int,
    missing: int,
    packages: frozenset[int],
    distance: dict[int, int],
) -> int:
    """The closest node with which `slots` nodes can still give `missing` CPUs; the roomiest one if none can."""
    best_rest = sum(capacity[node] for node in by_capacity[: slots - 1])
    possible = [node for node in by_capacity if capacity[node] + best_rest >= missing] or by_capacity[:1]
    return min(possible, key=lambda node: (len(packages | top.packages_of[node]), distance[node], node))


def _spread(top: Topology, scope: tuple[int, ...]) -> tuple[int, int]:
    """How far apart a set of nodes is: its packages, and the sum of distances between its nodes."""
    packages = frozenset[int]().union(*(top.packages_of[node] for node in scope))
    return len(packages), sum(top.distance[a][b] for a, b in itertools.combinations(sorted(scope), 2))


def _plan(
    rooms: dict[int, list[_Room]], scope: tuple[int, ...], left: dict[int, int], held: set[int], need: int
) -> _Plan:
    """Choose the L3 domains of a scope, and work out the cost vector but for its lowest CPU.

    `left` counts the free CPUs of each L3 domain, in the scope or not; `held` are the ones the service is in already.
    """
    of_scope = rooms[scope[0]] if len(scope) == 1 else [room for node in scope for room in rooms[node]]
    unshared: dict[int, int] = {}
    for room in of_scope:
        unshared[room.cell.l3] = unshared.get(room.cell.l3, 0) + room.unshared.bit_count()
    chosen = [l3 for l3 in unshared if l3 in held] if held else []
    missing = need - sum([unshared[l3] for l3 in chosen])
    others = {l3: room for l3, room in unshared.items() if room and l3 not in held}
    extra: list[tuple[int, int]] = []
    if missing > sum(others.values()):
        chosen += others
        extra = _shared_threads(of_scope, chosen, missing - sum(others.values()))
    elif missing > 0:
        chosen += _fewest_l3s(others, left, missing)
    touched = {*chosen, *(l3 for l3, _ in extra)}
    return _Plan(
        cost=(
            len({room.cell.package for room in of_scope if room.cell.l3 in touched}),
            len(scope),
            len(extra),
            len(touched),
            sum([left[l3] for l3 in touched]) - need,
            sum([room.capacity for room in of_scope]) - need,
        ),
        scope=scope,
        l3_order=tuple(sorted(chosen, key=lambda l3: _filling_order(unshared[l3], l3 in held, need, l3))),
        shared=_union([threads for _, threads in extra]),
    )


def _filling_order(room: int, held: bool, need: int, l3: int) -> tuple[int, int, int]:
    """Own L3 domains first, and of those one that holds all of the request; then the roomiest, so one has the rest."""
    if held:
        return (0, room, l3) if room >= need else (1, -room, l3)
    return (2, -room, l3)


def _fewest_l3s(unshared: dict[int, int], left: dict[int, int], need: int) -> list[int]:
    """The fewest L3 domains with `need` unshared free threads, and of such sets one that leaves least CPUs over.

    Exact. States of the dynamic program are (domains taken, threads gained); a state that the roomiest domains still
    to come cannot complete is dropped, which leaves few, because no smaller set suffices.
    """
    order = sorted(unshared, key=lambda l3: (-unshared[l3], left[l3], l3))
    totals = list(itertools.accumulate((unshared[l3] for l3 in order), initial=0))
    size = next(count for count, total in enumerate(totals) if total >= need)
    if size == 1:
        return [min((l3 for l3 in order if unshared[l3] >= need), key=lambda l3: (left[l3], l3))]
    states: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {(0, 0): (0, ())}
    for index, l3 in enumerate(order):
        for (taken, gained), (cost_so_far, members) in list(states.items()):
            slots = size - taken
            if slots == 0:
                continue
            if gained + totals[min(index + slots, len(order))] - totals[index] < need:
                del states[taken, gained]
                continue
            key = (taken + 1, min(gained + unshared[l3], need))
            candidate = (cost_so_far + left[l3], (*members, l3))
            if key not in states or candidate < states[key]:
                states[key] = candidate
    return list(states[size, need][1])


def _shared_threads(rooms: Sequence[_Room], chosen: list[int], need: int) -> list[tuple[int, int]]:
    """Free threads of cores that others use, as (L3 domain, mask): the fewest cores, in L3 domains taken anyway."""
    candidates = [(room.cell.l3, core) for room in rooms for core in room.shared_cores]
    candidates.sort(key=lambda item: (-item[1].bit_count(), item[0] not in chosen, item[0], _lowest(item[1])))
    taken: list[tuple[int, int]] = []
    for l3, core in candidates:
        if need <= 0:
            break
        part = _lowest_bits(core, need)
        taken.append((l3, part))
        need -= part.bit_count()
    return taken


def _pick(rooms: dict[int, list[_Room]], plan: _Plan, own: int, need: int) -> int:
    """The CPUs of a plan, `own` included."""
    of_scope = [room for node in plan.scope for room in rooms[node]]
    chosen = own | plan.shared
    left = need - plan.shared.bit_count()
    for l3 in plan.l3_order:
        if left <= 0:
            break
        cells = [room for room in of_scope if room.cell.l3 == l3 and room.unshared]
        cores = [(core & room.unshared, core) for room in cells for core in room.cell.cores if core & room.unshared]
        cores.sort(key=lambda core: _lowest(core[0]))
        half_held = _union([core for _, core in cores if core & own])
        taken = _take_cores([free for free, _ in cores], half_held, left)
        chosen |= taken
        left -= taken.bit_count()
    return chosen


def _take_cores(cores: list[int], half_held: int, count: int) -> int:
    """Up to `count` threads: of cores half held already, then whole cores, then of the narrowest core that is left."""
    taken = 0
    for core in cores:
        if core & half_held:
            taken |= _lowest_bits(core, count - taken.bit_count())
    for core in cores:
        if not core & taken and core.bit_count() <= count - taken.bit_count():
            taken |= core
    missing = count - taken.bit_count()
    for core in sorted(
        (core for core in cores if not core & taken), key=lambda core: (core.bit_count(), _lowest(core))
    ):
        if missing <= 0:
            break
        taken |= _lowest_bits(core, missing)
        missing = count - taken.bit_count()
    return taken


# --- shrinking ---------------------------------------------------------------------------------------------------


def _shrink(top: Topology, own: int, surplus: int) -> int:
    """`own` without `surplus` CPUs: from the package, node and L3 domain least used, half-held cores first."""
    while surplus > 0:
        cells = [cell for cell in top.cells if cell.cpus & own]
        cell = min(cells, key=lambda cell: _use(cells, cell, own))
        held = cell.cpus & own
        if held.bit_count() <= surplus:
            own &= ~held
            surplus -= held.bit_count()
        else:
            own &= ~_give_up(cell, own, surplus)
            surplus = 0
    return own


def _use(cells: list[Cell], cell: Cell, own: int) -> tuple[int, int, int, int]:
    """How much of the package, the node and the L3 domain of a cell a service holds; the lowest CPU id last."""
    return (
        sum((other.cpus & own).bit_count() for other in cells if other.package == cell.package),
        sum((other.cpus & own).bit_count() for other in cells if other.node == cell.node),
        sum((other.cpus & own).bit_count() for other in cells if other.l3 == cell.l3),
        -_lowest(cell.cpus & own),
    )


def _give_up(cell: Cell, own: int, surplus: int) -> int:
    """`surplus` of the CPUs held in a cell: half-held cores, then whole ones from the highest id down."""
    held = [core & own for core in reversed(cell.cores) if core & own]
    halves = [core & own for core in reversed(cell.cores) if core & own and core & ~own]
    given = 0
    for part in (*sorted(halves, key=int.bit_count), *held):
        if not part & given and part.bit_count() <= surplus - given.bit_count():
            given |= part
    for part in held:
        missing = surplus - given.bit_count()
        if missing > 0 and not part & given:
            given |= part & ~_lowest_bits(part, part.bit_count() - missing)
    return given


# --- masks -------------------------------------------------------------------------------------------------------


def _cell_keys(machine: Machine, eligible: CpuSet) -> dict[int, tuple[int, int, int]]:
    """(package index, node id, L3 index) of each eligible CPU; CPUs without an L3 share one by package and node."""
    package_of = {cpu: index for index, package in enumerate(machine.packages) for cpu in package.cpus & eligible}
    l3_of = {cpu: index for index, domain in enumerate(machine.l3_domains) for cpu in domain & eligible}
    node_of = {cpu: node.id for node in reversed(machine.nodes) for cpu in node.cpus & eligible}
    stand_ins: dict[tuple[int, int], int] = {}
    keys: dict[int, tuple[int, int, int]] = {}
    for cpu in eligible:
        outer = package_of.get(cpu, 0), node_of.get(cpu, NO_NODE)
        l3 = l3_of.get(cpu)
        if l3 is None:
            l3 = stand_ins.setdefault(outer, len(machine.l3_domains) + len(stand_ins))
        keys[cpu] = (*outer, l3)
    return keys


def _union(masks: Iterable[int]) -> int:
    """The union of masks."""
    union = 0
    for mask in masks:
        union |= mask
    return union


def _lowest(mask: int) -> int:
    """The lowest CPU in a mask, -1 for the empty one."""
    return (mask & -mask).bit_length() - 1


def _lowest_bits(mask: int, count: int) -> int:
    """The `count` lowest bits of a mask, all of them if it has no more."""
    taken = 0
    for _ in range(min(count, mask.bit_count())):
        low = mask & -mask
        taken |= low
        mask ^= low
    return taken
