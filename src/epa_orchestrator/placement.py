"""Which CPUs a request gets: a pure function of the topology, the free CPUs, what the service holds, and the count.

The choice is made from the outside in. A *scope* is a set of NUMA nodes; scopes that can hold the request are compared
by one cost vector (`Cost`, smaller is better). Inside a scope as few L3 domains as possible are taken, those that the
request fills best; inside an L3 domain whole cores before single threads. What a service holds it keeps: growing adds
to it, shrinking takes from it, and the same count changes nothing.

The order of the levels follows kubelet's CPU Manager (packed assignment with uncore-cache alignment) and Topology
Manager (best-effort); choosing the L3 domains exactly, over their free counts, is our own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.domains import Cell, Node, Topology, lowest, lowest_bits, union

#: How many sets of nodes are compared one by one when a request needs several nodes. Beyond (12 of 24 nodes are 2.7
#: million sets) one set is grown from each node by closeness instead.
_MAX_NODE_SETS: Final = 512

#: How many summaries of nodes (see `_room`) are kept: those of the last states of some dozen nodes.
_MAX_ROOMS: Final = 512


class Cost(NamedTuple):
    """How good a choice is, most important first; compared as a tuple, smaller is better."""

    packages: int
    numa_nodes: int
    shared_cores: int
    l3_domains: int
    l3_left_over: int
    scope_left_over: int
    lowest_cpu: int


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
        scope_left_over=sum((top.nodes[node].cpus & left).bit_count() for node in nodes),
        lowest_cpu=lowest(chosen.mask),
    )


# --- growing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Room:
    """What a node has to give.

    All of its CPUs that are free number `capacity`, by L3 domain `free_in`. Those of cores that would not become
    shared are `unshared`, by L3 domain `unshared_in`; a core that the service shares with another one already cannot
    become so. The free parts of the other cores are `shared_cores`, as (L3 domain, mask), by L3 domain `shared_in`.
    """

    node: Node
    capacity: int
    free_in: dict[int, int]
    unshared: int
    unshared_in: dict[int, int]
    shared_cores: tuple[tuple[int, int], ...]
    shared_in: dict[int, int]


@lru_cache(_MAX_ROOMS)
def _room(node: Node, free: int, own: int) -> _Room:
    """Sum a node up for the free and own CPUs in it. Remembered, as from one request to the next few nodes change."""
    others = node.threads & ~(free | own)
    unshared = free
    shared_cores: list[tuple[int, int]] = []
    for cell in node.cells:
        if cell.threads & others and cell.threads & free:
            for core in cell.cores:
                if core & others and core & free and not core & own:
                    shared_cores.append((cell.l3, core & free))
                    unshared &= ~core
    unshared_in = _summed([{cell.l3: (cell.cpus & unshared).bit_count()} for cell in node.cells])
    shared_in = _summed([{l3: core.bit_count()} for l3, core in shared_cores])
    free_in = _summed([{cell.l3: (cell.cpus & free).bit_count()} for cell in node.cells])
    return _Room(node, free.bit_count(), free_in, unshared, unshared_in, tuple(shared_cores), shared_in)


class _State(NamedTuple):
    """What planning looks at: each node's room, the free CPUs `left` in each L3 domain, those `held` in already."""

    top: Topology
    rooms: dict[int, _Room]
    left: dict[int, int]
    held: set[int]
    need: int


class _Plan(NamedTuple):
    """A choice inside one scope, before single CPUs are picked: L3 domains, and threads of shared cores."""

    cost: tuple[int, ...]
    scope: tuple[int, ...]
    l3_order: tuple[int, ...]
    shared: int


def _grow(top: Topology, free: int, own: int, need: int) -> int:
    """`own` and the `need` best of the free CPUs."""
    rooms = {node.id: _room(node, free & node.cpus, own & node.cpus) for node in top.nodes.values()}
    held = {l3 for l3, cpus in top.l3_cpus.items() if cpus & own} if own else set[int]()
    state = _State(top, rooms, _left(top, rooms), held, need)
    plans = [_plan(state, scope) for scope in _scopes(state, own)]
    least = min(plan.cost for plan in plans)
    picked = (_pick(state, plan, own) for plan in plans if plan.cost == least)
    return min(picked, key=lambda chosen: (lowest(chosen), chosen))


def _left(top: Topology, rooms: dict[int, _Room]) -> dict[int, int]:
    """The free CPUs in each L3 domain."""
    if top.l3_spans_nodes:
        return _summed([room.free_in for room in rooms.values()])
    left: dict[int, int] = {}
    for room in rooms.values():
        left.update(room.free_in)
    return left


def _scopes(state: _State, own: int) -> list[tuple[int, ...]]:
    """The sets of nodes to compare: the service's own nodes and the fewest others that make room for the request.

    Where more than one node is needed, the sets that span the fewest packages, and among those the closest ones by
    the sum of the distances between their nodes.
    """
    top, rooms = state.top, state.rooms
    base = tuple(node for node in rooms if top.nodes[node].cpus & own) if own else ()
    missing = state.need - sum(rooms[node].capacity for node in base)
    if missing <= 0:
        return [base]
    others = [node for node, room in rooms.items() if room.capacity and node not in base]
    if not base and (holding := [(node,) for node in others if rooms[node].capacity >= missing]):
        return holding
    largest = itertools.accumulate(sorted((rooms[node].capacity for node in others), reverse=True))
    size = next(count for count, total in enumerate(largest, 1) if total >= missing)
    if math.comb(len(others), size) <= _MAX_NODE_SETS:
        sets: Iterable[tuple[int, ...]] = itertools.combinations(others, size)
    else:
        sets = {_closest_set(state, base, others, size, missing, seed) for seed in others}
    spread = {
        (*base, *extra): _spread(top, (*base, *extra))
        for extra in sets
        if sum(rooms[node].capacity for node in extra) >= missing
    }
    closest = min(spread.values())
    return sorted(scope for scope in spread if spread[scope] == closest)


def _closest_set(
    state: _State, base: tuple[int, ...], others: list[int], size: int, missing: int, seed: int
) -> tuple[int, ...]:
    """`size` of the `others`, starting at `seed`, each time the closest node that leaves the rest possible."""
    nodes, distances = state.top.nodes, state.top.distance
    packages: frozenset[int] = frozenset[int]().union(*(nodes[node].packages for node in base))
    distance = {node: sum(distances[node][member] for member in base) for node in others}
    by_capacity = sorted(others, key=lambda node: (-state.rooms[node].capacity, node))
    chosen = [seed]
    while len(chosen) < size:
        added = chosen[-1]
        missing -= state.rooms[added].capacity
        packages |= nodes[added].packages
        by_capacity.remove(added)
        distance = {node: distance[node] + distances[node][added] for node in by_capacity}
        best_rest = sum(state.rooms[node].capacity for node in by_capacity[: size - len(chosen) - 1])
        possible = [node for node in by_capacity if state.rooms[node].capacity + best_rest >= missing]
        chosen.append(
            min(
                possible or by_capacity[:1],
                key=lambda node: (len(packages | nodes[node].packages), distance[node], node),
            )
        )
    return tuple(sorted(chosen))


def _spread(top: Topology, scope: tuple[int, ...]) -> tuple[int, int]:
    """How far apart a set of nodes is: its packages, and the sum of distances between its nodes."""
    packages = frozenset[int]().union(*(top.nodes[node].packages for node in scope))
    return len(packages), sum(top.distance[a][b] for a, b in itertools.combinations(sorted(scope), 2))


def _plan(state: _State, scope: tuple[int, ...]) -> _Plan:
    """Choose the L3 domains of a scope, and work out the cost vector but for its lowest CPU."""
    if len(scope) == 1 and not state.held:
        room = state.rooms[scope[0]]
        return _lone_plan(room, tuple([state.left[l3] for l3 in room.unshared_in]), state.need)
    return _plan_in(tuple(state.rooms[node] for node in scope), state.left, frozenset(state.held), state.need)


@lru_cache(_MAX_ROOMS)
def _lone_plan(room: _Room, left: tuple[int, ...], need: int) -> _Plan:
    """The plan for one node and a service that holds nothing. Remembered, as most nodes are as they were."""
    return _plan_in((room,), dict(zip(room.unshared_in, left, strict=True)), frozenset(), need)


def _plan_in(rooms: tuple[_Room, ...], left: dict[int, int], held: frozenset[int], need: int) -> _Plan:
    """The plan for the nodes summed up in `rooms`; see `_State` for `left`, `held` and `need`."""
    unshared = _summed([room.unshared_in for room in rooms])
    chosen = [l3 for l3 in unshared if l3 in held] if held else []
    missing = need - sum([unshared[l3] for l3 in chosen])
    others = {l3: threads for l3, threads in unshared.items() if threads and l3 not in held}
    available = sum(others.values())
    shared: list[tuple[int, int]] = []
    if missing > available:
        chosen += others
        shared = _shared_threads(rooms, chosen, left, missing - available)
    elif missing > 0:
        chosen += _fewest_l3s(others, left, missing)
    touched = {*chosen, *(l3 for l3, _ in shared)}
    packages = {cell.package for room in rooms for cell in room.node.cells if cell.l3 in touched}
    return _Plan(
        cost=(
            len(packages),
            len(rooms),
            len(shared),
            len(touched),
            sum([left[l3] for l3 in touched]) - need,
            sum([room.capacity for room in rooms]) - need,
        ),
        scope=tuple(room.node.id for room in rooms),
        l3_order=tuple(sorted(chosen, key=lambda l3: _filling_order(unshared[l3], l3 in held, need, l3))),
        shared=union([threads for _, threads in shared]),
    )


def _summed(counts: Sequence[dict[int, int]]) -> dict[int, int]:
    """Counts by L3 domain, added up."""
    if len(counts) == 1:
        return counts[0]
    total: dict[int, int] = {}
    for of_node in counts:
        for l3, count in of_node.items():
            total[l3] = total.get(l3, 0) + count
    return total


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


def _shared_threads(
    rooms: Sequence[_Room], chosen: list[int], left: dict[int, int], need: int
) -> list[tuple[int, int]]:
    """`need` free threads of cores that others use, as (L3 domain, mask): few cores, in L3 domains taken anyway.

    Exact for two threads per core; with more, fewest L3 domains first and then fewest cores in them.
    """
    threads = _summed([room.shared_in for room in rooms])
    usable = {l3 for l3 in threads if l3 in chosen}
    missing = need - sum([threads[l3] for l3 in usable])
    if missing > 0:
        usable.update(_fewest_l3s({l3: n for l3, n in threads.items() if l3 not in usable}, left, missing))
    candidates = sorted(
        (-core.bit_count(), l3 not in chosen, left[l3], lowest(core), l3, core)
        for room in rooms
        for l3, core in room.shared_cores
        if l3 in usable
    )
    taken: list[tuple[int, int]] = []
    for index, (width, *_, l3, core) in enumerate(candidates):
        if -width >= need:
            fitting = (item for item in candidates[index:] if -item[0] >= need)
            *_, l3, core = min(fitting, key=lambda item: item[1:])
            return [*taken, (l3, lowest_bits(core, need))]
        taken.append((l3, core))
        need += width
    return taken


def _pick(state: _State, plan: _Plan, own: int) -> int:
    """The CPUs of a plan, `own` included."""
    rooms = [state.rooms[node] for node in plan.scope]
    chosen = own | plan.shared
    left = state.need - plan.shared.bit_count()
    for l3 in plan.l3_order:
        if left <= 0:
            break
        cores = [
            (core & room.unshared, core)
            for room in rooms
            for cell in room.node.cells
            if cell.l3 == l3
            for core in cell.cores
            if core & room.unshared
        ]
        cores.sort(key=lambda core: lowest(core[0]))
        half_held = union([core for _, core in cores if core & own])
        taken = _take_cores([free for free, _ in cores], half_held, left)
        chosen |= taken
        left -= taken.bit_count()
    return chosen


def _take_cores(cores: list[int], half_held: int, count: int) -> int:
    """Up to `count` threads: of cores half held already, then whole cores, then of the narrowest core that is left."""
    taken = 0
    for core in cores:
        if core & half_held:
            taken |= lowest_bits(core, count - taken.bit_count())
    for core in cores:
        if not core & taken and core.bit_count() <= count - taken.bit_count():
            taken |= core
    missing = count - taken.bit_count()
    for core in sorted((core for core in cores if not core & taken), key=lambda core: (core.bit_count(), lowest(core))):
        if missing <= 0:
            break
        taken |= lowest_bits(core, missing)
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
        -lowest(cell.cpus & own),
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
            given |= part & ~lowest_bits(part, part.bit_count() - missing)
    return given
