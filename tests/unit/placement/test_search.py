"""Placement: tables worked out by hand, an exhaustive search on small machines, and properties on large ones."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Core, CoreType, Machine, Package
from epa_orchestrator.placement import cost as cost_module
from epa_orchestrator.placement import minimum as needs_module
from epa_orchestrator.placement import policy as policy_module
from epa_orchestrator.placement import search as placement
from epa_orchestrator.placement import tables
from epa_orchestrator.placement.policy import (
    CpuDistribution,
    CpuThreadPolicy,
    NumaAllocationStrategy,
    NumaPolicy,
    PlacementPolicy,
    PreferCoreType,
    UncoreCacheAlignment,
)
from epa_orchestrator.placement.search import FEW, Task, Unplaceable, broken_rule, choose, place
from epa_orchestrator.placement.topology import Topology, topology
from tests import oracle
from tests.machines import made_up, real_machine
from tools.synthetic import Shape


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


# Two packages, each one node with two L3 domains of two SMT2 cores; the second thread of core n is n + 8.
#   package/node 0: L3 {0,1,8,9}, L3 {2,3,10,11};  package/node 1: L3 {4,5,12,13}, L3 {6,7,14,15}
EIGHT_CORES = Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2)


@pytest.mark.parametrize(
    ("free", "count", "expected", "why"),
    [
        ("0-15", 1, "0", "a thread of the first core"),
        ("0-15", 2, "0,8", "one whole core, not two halves"),
        ("0-15", 3, "0-1,8", "a whole core, and the odd thread on a fresh core of the same L3"),
        ("0-15", 4, "0-1,8-9", "one L3 domain"),
        ("0-15", 5, "0-2,8-9", "two L3 domains of one node, not of two"),
        ("0-15", 8, "0-3,8-11", "one node"),
        ("0-15", 9, "0-4,8-11", "two nodes when one cannot hold it"),
        ("0-15", 16, "0-15", "everything"),
        ("0-3,5,8-11,13", 2, "5,13", "the L3 domain that it fills leaves the others whole"),
        ("0-1,8-9,6,14", 2, "6,14", "the tightest L3 domain, on the other package"),
        ("0,2-3,10-11", 4, "2-3,10-11", "whole cores beat the lower id"),
        ("0,8-9,10-11", 1, "0", "a fresh core, although the other L3 domain would have less left over"),
        ("1,8,10", 1, "10", "all cores are shared anyway: the L3 domain with least left over"),
        ("1,2,10", 1, "2", "a fresh core rather than half of another service's"),
        ("0-1,8,4-7,12-15", 8, "4-7,12-15", "the node that can hold it"),
    ],
)
def test_first_placement(free: str, count: int, expected: str, why: str) -> None:
    top = topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    assert str(choose(top, cpus(free), EMPTY, count)) == expected, why


@pytest.mark.parametrize(
    ("free", "own", "count", "expected", "why"),
    [
        ("1-7,9-15", "0,8", 2, "0,8", "the same count keeps the same CPUs"),
        ("1-15", "0", 2, "0,8", "the half-held core is filled first"),
        ("1-7,9-15", "0,8", 4, "0-1,8-9", "the own L3 domain first"),
        ("2-7,10-15", "0-1,8-9", 6, "0-2,8-10", "then the own node"),
        ("4-7,12-15", "0-3,8-11", 10, "0-4,8-12", "then another node"),
        ("1,3-7,9,11-15", "2,10", 3, "2-3,10", "the odd thread on a fresh core of the own L3 domain"),
    ],
)
def test_growing(free: str, own: str, count: int, expected: str, why: str) -> None:
    top = topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    assert str(choose(top, cpus(free), cpus(own), count)) == expected, why


@pytest.mark.parametrize(
    ("own", "count", "expected", "why"),
    [
        ("0-2,8-10", 4, "0-1,8-9", "the least used L3 domain is given up first"),
        ("0-3,4,8-11,12", 8, "0-3,8-11", "the least used node is given up first"),
        ("0-1,8", 2, "0,8", "the half-held core first"),
        ("0-1,8-9", 2, "0,8", "whole cores from the highest id"),
        ("0-1,8-9", 3, "0-1,8", "one thread of the highest core"),
        ("0-15", 0, "", "all of it"),
    ],
)
def test_shrinking(own: str, count: int, expected: str, why: str) -> None:
    top = topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    assert str(choose(top, cpus("0-15") - cpus(own), cpus(own), count)) == expected, why


def test_several_nodes_are_of_one_package_first() -> None:
    # Four nodes of one 2-thread core, two packages. Nodes 0 and 1 are package 0, nodes 2 and 3 are package 1.
    top = topology(made_up(Shape(2, 2, 1, 1, 2)), cpus("0-7"), EMPTY)
    assert str(choose(top, cpus("1-3,5-7"), EMPTY, 4)) == "2-3,6-7"


def test_several_nodes_are_the_closest_ones() -> None:
    # Three packages with a node each: 0 and 2 are neighbours, 1 is far from both.
    distances = ((10, 30, 20), (30, 10, 30), (20, 30, 10))
    top = topology(made_up(Shape(3, 1, 1, 2, 1, distances=distances)), cpus("0-5"), EMPTY)
    assert str(choose(top, cpus("0-5"), EMPTY, 4)) == "0-1,4-5"


def test_fewest_l3_domains_then_least_left_over() -> None:
    # L3 domains of 4 with 4, 3, 2, 3 CPUs free: 5 CPUs need two, and 3 + 2 leaves none over.
    top = topology(made_up(Shape(l3_per_node=4, cores_per_l3=4)), cpus("0-15"), EMPTY)
    free = cpus("0-3,4-6,8-9,12-14")
    assert str(choose(top, free, EMPTY, 5)) == "4-6,8-9"


def test_odd_width_takes_the_narrow_core() -> None:
    machine = real_machine("raptorlake-i7-1370p-20t")  # cores 0-1 ... 10-11, then 12 to 19 alone
    top = topology(machine, machine.online, EMPTY)
    assert str(choose(top, machine.online, EMPTY, 3)) == "0-1,12"


def test_core_with_a_reserved_thread_is_not_whole() -> None:
    top = topology(made_up(Shape(cores_per_l3=2, threads_per_core=2)), cpus("0-1,3"), cpus("2"))
    assert str(choose(top, cpus("0-1,3"), EMPTY, 2)) == "1,3"


def test_core_of_which_another_service_could_lose_a_thread_is_shared() -> None:
    # Another service has 4, the sibling of 0, and could lose it. Nobody uses cores 1,5 and 2,6 and 3,7.
    top = topology(made_up(Shape(cores_per_l3=4, threads_per_core=2)), cpus("0-7"), EMPTY)
    task = Task(top, cpus("0-7"), EMPTY, 1, reclaimable=cpus("4"), node=0)
    assert [str(place(task)[0]), task.cost(cpus("0")).shared_cores, task.cost(cpus("0,4")).shared_cores] == ["1", 1, 0]
    isolated = replace(task, policy=PlacementPolicy(cpu_thread_policy="isolate"))
    assert str(place(isolated)[0]) == "1"
    assert broken_rule(isolated, cpus("0")) is not None


@pytest.mark.parametrize("count", [-1, 5])
def test_count_must_be_possible(count: int) -> None:
    top = topology(made_up(Shape()), cpus("0-3"), EMPTY)
    with pytest.raises(ValueError, match="cannot come out of"):
        choose(top, cpus("0-2"), cpus("3"), count)


# --- the oracle: every possible set of CPUs ---


def _hybrid() -> Machine:
    """Two cores of two threads, then eight of one, in two L3 domains: 0-1 2-3 4 5, and 6 to 11."""
    machine = made_up(Shape(1, 1, 2, 6, 1))
    cores = [Core(cpus(text), "performance") for text in ("0-1", "2-3")]
    return replace(machine, cores=(*cores, *(Core(CpuSet([cpu]), "efficiency") for cpu in range(4, 12))))


def _typed(machine: Machine) -> Machine:
    """Every third core is an efficient one."""
    types: tuple[CoreType, CoreType] = ("performance", "efficiency")
    return replace(machine, cores=tuple(replace(core, type=types[n % 3 == 2]) for n, core in enumerate(machine.cores)))


def _packages(shape: Shape, *parts: str) -> Machine:
    """The machine with its packages cut otherwise."""
    return replace(made_up(shape), packages=tuple(Package(str(n), cpus(part)) for n, part in enumerate(parts)))


def _first_l3_only(machine: Machine) -> Machine:
    return replace(machine, l3_domains=machine.l3_domains[:1])


def _first_node_only(machine: Machine) -> Machine:
    return replace(machine, nodes=machine.nodes[:1])


KUNPENG = ((10, 16, 32, 33), (16, 10, 25, 32), (32, 25, 10, 16), (33, 32, 16, 10))
ONE_WAY = ((10, 30, 20), (20, 10, 40), (25, 15, 10))

SMALL = (
    made_up(Shape(1, 1, 2, 2, 2)),
    made_up(Shape(2, 1, 1, 3, 2)),
    made_up(Shape(2, 2, 1, 1, 2)),
    made_up(Shape(1, 2, 2, 1, 2)),
    made_up(Shape(1, 1, 3, 4)),
    made_up(Shape(2, 1, 3, 2)),
    made_up(Shape(3, 1, 2, 2)),
    made_up(Shape(1, 1, 3, 2, 2, siblings="adjacent", l3_ids="scattered")),
    made_up(Shape(1, 1, 1, 3, 4)),
    made_up(Shape(1, 1, 3, 1, 4)),
    made_up(Shape(3, 1, 1, 1, 4, siblings="adjacent")),
    made_up(Shape(1, 3, 2, 1, 2)),
    # Sub-NUMA clustering: several nodes below an L3 domain.
    made_up(Shape(1, 2, 1, 3, 2, l3_scope="package")),
    made_up(Shape(1, 3, 1, 2, 2, l3_scope="package")),
    made_up(Shape(2, 2, 1, 3, l3_scope="package", distances=KUNPENG)),
    _typed(made_up(Shape(2, 2, 1, 3, l3_scope="package", numbering="interleaved"))),
    # No L3 domains, or only one that the kernel knows; a node that lists no CPUs.
    made_up(Shape(2, 1, 1, 3, 2, l3_scope="none")),
    made_up(Shape(1, 3, 1, 4, l3_scope="none")),
    _first_l3_only(made_up(Shape(1, 1, 2, 3, 2))),
    _first_node_only(made_up(Shape(2, 1, 1, 3, 2))),
    # Threads that are offline, and memory without CPUs.
    made_up(Shape(1, 1, 2, 3, 2, offline="7,9-10")),
    made_up(Shape(1, 2, 1, 2, 3, offline="5,8,11")),
    made_up(Shape(2, 1, 1, 2, 2, memory_only_nodes=1)),
    _hybrid(),
    _typed(made_up(Shape(1, 1, 2, 3, 2))),
    _typed(made_up(Shape(1, 2, 1, 3, 2))),
    # Distances.
    made_up(Shape(3, 1, 1, 2, 2, distances=((10, 30, 20), (30, 10, 30), (20, 30, 10)))),
    made_up(Shape(2, 2, 1, 3, distances=KUNPENG)),
    made_up(Shape(3, 1, 2, 1, 2, distances=ONE_WAY)),
    # Nodes that span packages, as virtual machines have them.
    _packages(Shape(1, 2, 4, 1), *(f"{first}-{first + 1}" for first in (0, 2, 4, 6))),
    _packages(Shape(1, 1, 3, 2, 2), "0-1,6-7", "2-3,8-9", "4-5,10-11"),
    _packages(Shape(1, 2, 1, 2, 2, l3_scope="none"), "0,4", "1,5", "2,6", "3,7"),
    # A package for each core: of single CPUs, of hybrid pairs, of nodes.
    _packages(Shape(1, 1, 1, 12), *map(str, range(12))),
    _packages(Shape(1, 1, 3, 2, 2), *(f"{n},{n + 6}" for n in range(6))),
    _packages(Shape(1, 1, 3, 4, l3_scope="none"), *map(str, range(12))),
    made_up(Shape(6, 1, 1, 1, 2)),
    made_up(Shape(12, 1, 1, 1)),
    made_up(Shape(3, 2, 1, 2)),
    made_up(Shape(3, 4, 1, 1)),
    # An L3 domain that spans packages, as a hypervisor may say, and one that spans nodes of two of them.
    _packages(Shape(1, 1, 2, 3, 2), "0-1,6-7", "2-5,8-11"),
    _packages(Shape(1, 2, 1, 3, 2, l3_scope="package"), "0-2,6-8", "3-5,9-11"),
    _packages(Shape(1, 3, 1, 2, 2, l3_scope="package"), "0-2,6-8", "3-5,9-11"),
)

CHOICES: dict[str, tuple[object, ...]] = {
    "numa_policy": get_args(NumaPolicy),
    "numa_allocation_strategy": get_args(NumaAllocationStrategy),
    "prefer_closest_numa_nodes": (True, False),
    "uncore_cache_alignment": get_args(UncoreCacheAlignment),
    "cpu_thread_policy": get_args(CpuThreadPolicy),
    "cpu_distribution": get_args(CpuDistribution),
    "prefer_core_type": get_args(PreferCoreType),
}

SEEDS = range(20)
STATES_OF_A_SEED = 160


def random_policy(rng: random.Random, near: Sequence[int] = ()) -> PlacementPolicy:
    while True:
        values: Any = {name: rng.choice(values) for name, values in CHOICES.items()}
        policy = PlacementPolicy(**values, near=rng.choice(near) if near else None)
        if policy.contradiction() is None:
            return policy


@dataclass(frozen=True)
class State:
    """A random situation on a small machine, for the program and for the oracle."""

    machine: Machine
    eligible: CpuSet
    reserved: CpuSet
    free: CpuSet
    own: CpuSet
    last_resort: CpuSet
    count: int
    policy: PlacementPolicy
    node: int | None

    def task(self) -> Task:
        top = topology(self.machine, self.eligible, self.reserved)
        return Task(top, self.free, self.own, self.count, self.policy, self.last_resort, self.node)

    def question(self) -> oracle.Question:
        where = oracle.world(self.machine, frozenset(self.eligible), frozenset(self.reserved))
        free, own, last = (frozenset(each) for each in (self.free, self.own, self.last_resort))
        return oracle.Question(where, free, own, self.count, self.policy, last, self.node)


def random_state(rng: random.Random, *, taking: bool) -> State:
    """A state in which there is something to choose; `taking`: perhaps CPUs of other services."""
    while True:
        machine = rng.choice(SMALL)
        online = list(machine.online)
        away = CpuSet(rng.sample(online, rng.choice((0, 0, 0, 1, 2, 3))))
        eligible, reserved = machine.online - away, CpuSet(cpu for cpu in away if rng.random() < 0.5)
        own, other = _holdings(rng, machine, eligible)
        free = eligible - own - other
        node, last_resort = None, EMPTY
        if rng.random() < (0.6 if taking else 0.2):
            nodes = [each.id for each in machine.nodes if each.cpus & eligible]
            node = rng.choice(nodes)
            inside = machine.nodes[machine.node_ids.index(node)].cpus
            last_resort = CpuSet(cpu for cpu in other & inside if taking and rng.random() < 0.5)
            free, own = free & inside | last_resort, own & inside
        near = machine.node_ids if rng.random() < 0.2 else ()
        if not free | own:
            continue
        count = rng.randint(1, len(free) + len(own))
        if count != len(own):
            if count < len(own):
                free, last_resort = free - last_resort, EMPTY
            policy = random_policy(rng, near)
            return State(machine, eligible, reserved, free, own, last_resort, count, policy, node)


def _holdings(rng: random.Random, machine: Machine, eligible: CpuSet) -> tuple[CpuSet, CpuSet]:
    """What the service and the others hold: any CPUs, or whole cores, or one thread of each core."""
    cores = [core.cpus & eligible for core in machine.cores if core.cpus & eligible]
    kind = rng.choice(("any", "any", "whole", "one"))
    if kind == "any":
        units = [CpuSet([cpu]) for cpu in eligible]
    elif kind == "whole":
        units = cores
    else:
        units = [CpuSet(list(core)[:1]) for core in cores]
    rng.shuffle(units)
    taken = units[: rng.randrange(len(units))] if rng.random() < 0.8 else []
    mine = rng.randint(0, len(taken)) if rng.random() < 0.6 else 0
    own = CpuSet(cpu for unit in taken[:mine] for cpu in unit)
    return own, CpuSet(cpu for unit in taken[mine:] for cpu in unit)


def states(seed: int) -> Iterator[State]:
    rng = random.Random(seed)
    return (random_state(rng, taking=seed % 4 == 3) for _ in range(STATES_OF_A_SEED))


@pytest.mark.parametrize("seed", SEEDS)
def test_exhaustive_search_finds_nothing_better(seed: int) -> None:
    for state in states(seed):
        task, asked = state.task(), state.question()
        best = asked.answer()
        if best is None:
            with pytest.raises(Unplaceable) as refused:
                place(task)
            choice = frozenset(refused.value.choice)
            assert choice in set(asked.choices()), state
            assert oracle.broken(asked, choice) == refused.value.rule.option, state
            continue
        found = place(task, FEW)
        for chosen in found:
            assert chosen <= state.free | state.own, state
            assert state.own <= chosen or task.shrinking, state
            assert len(chosen) == state.count, state
            assert oracle.broken(asked, frozenset(chosen)) is None, state
        assert oracle.rank(asked, frozenset(found[0])) == best, (state, str(found[0]))
        assert task.rank(found[0]) == best, state


@pytest.mark.parametrize("seed", SEEDS)
def test_cost_and_rules_are_those_of_the_oracle(seed: int) -> None:
    rng = random.Random(f"choices {seed}")
    for state in states(seed):
        task, asked = state.task(), state.question()
        every = list(asked.choices())
        for choice in rng.sample(every, min(len(every), 8)):
            chosen, rule = CpuSet(choice), broken_rule(task, CpuSet(choice))
            assert task.cost(chosen)._asdict() == oracle.cost(asked, choice), (state, str(chosen))
            assert task.rank(chosen) == oracle.rank(asked, choice), (state, str(chosen))
            assert (rule.option if rule else None) == oracle.broken(asked, choice), (state, str(chosen))


def _twelve_nodes(seed: int) -> Machine:
    """Twelve nodes of one CPU, at any distances."""
    rng, rows = random.Random(seed), [[10] * 12 for _ in range(12)]
    for a, b in itertools.combinations(range(12), 2):
        rows[a][b] = rows[b][a] = rng.randint(11, 40)
    packages, nodes_per_package = (12, 1) if seed % 2 else (4, 3)
    return made_up(Shape(packages, nodes_per_package, 1, 1, distances=rows))


@pytest.mark.parametrize("seed", range(4))
def test_every_set_of_twelve_nodes_is_compared(seed: int) -> None:
    machine = _twelve_nodes(seed)
    top, where = pool_of(machine)
    for count, near in itertools.product(range(1, len(machine.online) + 1), (None, 3)):
        task = Task(top, machine.online, EMPTY, count, PlacementPolicy(near=near))
        asked = oracle.Question(where, frozenset(machine.online), frozenset(), count, task.policy)
        assert oracle.rank(asked, frozenset(place(task)[0])) == asked.answer(), (count, near)


def test_every_set_of_twelve_packages_is_compared() -> None:
    # A virtual machine with a package for each CPU; the last six are efficient ones.
    machine = _packages(Shape(1, 1, 1, 12), *map(str, range(12)))
    types: tuple[CoreType, ...] = ("performance",) * 6 + ("efficiency",) * 6
    cores = tuple(replace(core, type=kind) for core, kind in zip(machine.cores, types, strict=True))
    top = topology(replace(machine, cores=cores), machine.online, EMPTY)
    policy = PlacementPolicy(prefer_core_type="efficiency")
    found = [str(choose(top, machine.online, EMPTY, count, policy)) for count in (4, 5, 6, 7)]
    assert found == ["6-9", "6-10", "6-11", "0,6-11"]


def test_states_have_every_pair_of_values() -> None:
    every = [state for seed in SEEDS for state in states(seed)]
    assert len(every) >= 2000
    assert {state.machine for state in every} == set(SMALL)
    values = [(name, value) for name, choices in CHOICES.items() for value in choices]
    pairs = Counter[frozenset[tuple[str, object]]]()
    for state in every:
        set_ = [(name, getattr(state.policy, name)) for name in CHOICES]
        pairs.update(map(frozenset, itertools.combinations(set_, 2)))
    possible = {frozenset(pair) for pair in itertools.combinations(values, 2) if pair[0][0] != pair[1][0]}
    contradictory = {
        frozenset({("cpu_thread_policy", "require"), ("cpu_distribution", "cores")}),
        frozenset({("uncore_cache_alignment", "require"), ("numa_allocation_strategy", "distribute")}),
        frozenset({("uncore_cache_alignment", "require"), ("cpu_distribution", "caches")}),
    }
    assert (len(values), len(possible), len(contradictory)) == (22, 206, 3)
    assert set(pairs) == possible - contradictory
    assert min(pairs.values()) >= 50
    kinds = Counter(_kinds(every))
    assert min(kinds[kind] for kind in ("shrinks", "grows", "first", "in a node", "takes", "near", "reserved")) >= 90


def _kinds(every: Iterable[State]) -> Iterator[str]:
    for state in every:
        yield "shrinks" if state.count < len(state.own) else "grows" if state.own else "first"
        facts = {
            "in a node": state.node is not None,
            "takes": bool(state.last_resort),
            "reserved": bool(state.reserved),
        }
        yield from (kind for kind, holds in facts.items() if holds)
        if state.policy.near is not None:
            yield "near"


# --- properties, on larger and stranger machines ---

LARGER = (
    Shape(2, 4, 3, 8, 2, l3_ids="scattered"),
    Shape(2, 2, 1, 8, 2, l3_scope="package", numbering="interleaved"),
    Shape(1, 1, 4, 4, 8, siblings="adjacent"),
    Shape(8, 1, 1, 4, 4),
    Shape(24, 1, 1, 2, 2),
    Shape(1, 4, 1, 6, 1, l3_scope="none"),
    Shape(2, 2, 2, 3, 2, distances=KUNPENG),
)

REAL = (
    "altixxe320-e5472-8c-buggynuma", "haswell-2s-24c-offline-cpu0-node0", "qemu-hmat-24c", "power7-8n-256t",
    "clx-2s-snc2-80t", "clx-2s-snc2-pmem-112t", "tulsa-4s-16t-offlines", "epyc9654-2s-nps4-384t", "s390-z196-lpar-17c",
    "raptorlake-i7-1370p-20t", "kunpeng920-2s4n-128c", "epyc7451-2s8n-96t", "opteron6272-4s8n-64t",
    "sgi-uv2000-24n-384t", "lakefield-i5-l16g7-5t", "milkv-pioneer-sg2042-64c", "vbox-2c",
)  # fmt: skip

#: Whose answers take long.
MANY_PACKAGES = ("qemu-hmat-24c", "power7-8n-256t", "sgi-uv2000-24n-384t")


@cache
def pool_of(machine: Machine) -> tuple[Topology, oracle.World]:
    return topology(machine, machine.online, EMPTY), oracle.world(machine, frozenset(machine.online))


@cache
def larger(index: int) -> Machine:
    return made_up(LARGER[index])


def counted_needs(where: oracle.World, count: int, threads: str, node: int | None) -> tuple[int, int] | None:
    """What `oracle.needs` finds: the roomiest nodes, and the roomiest L3 domains in them.

    For whole cores this is right only where all cores have as many threads.
    """
    room = dict[int, Counter[Hashable]]()
    for core in set(where.core.values()):
        cpu = min(core)
        if node in (None, where.node[cpu]):
            room.setdefault(where.node[cpu], Counter())[where.l3[cpu]] += 1 if threads == "isolate" else len(core)
    if threads == "require" and count % min(len(core) for core in where.core.values()):
        return None
    totals = sorted((each.total() for each in room.values()), reverse=True)
    nodes = _how_many(totals, count)
    if nodes is None:
        return None
    l3s = [
        _how_many(sorted(sum(chosen, Counter[Hashable]()).values(), reverse=True), count)
        for chosen in itertools.islice(itertools.combinations(room.values(), nodes), 100)
    ]
    return nodes, min(number for number in l3s if number is not None)


def _how_many(sizes: Sequence[int], count: int) -> int | None:
    """How many of the sizes, in their order, add up to the count."""
    sums = itertools.accumulate(sizes)
    return next((number for number, total in enumerate(sums, 1) if total >= count), None)


def forget() -> None:
    """Empty every cache of placement."""
    for module in (cost_module, needs_module, placement, policy_module, tables):
        for each in (*vars(module).values(), *(cached for _, cached in tables._remembered_tables)):
            if hasattr(each, "cache_clear"):
                each.cache_clear()


def outcome(task: Task) -> CpuSet | str:
    """The CPUs, or the option whose rule allows none."""
    try:
        return place(task)[0]
    except Unplaceable as error:
        return error.rule.option


def check(machine: Machine, rng: random.Random) -> None:
    """One random request: what must hold of every answer."""
    top, where = pool_of(machine)
    own, other = _holdings(rng, machine, machine.online)
    free = machine.online - own - other
    policy = random_policy(rng, machine.node_ids if rng.random() < 0.2 else ())
    if policy.cpu_thread_policy == "require" and len({len(core) for core in where.core.values()}) > 1:
        policy = replace(policy, numa_policy="best-effort", uncore_cache_alignment="prefer")  # see counted_needs
    node = None
    if rng.random() < 0.2:
        node = rng.choice([each.id for each in top.nodes.values()])
        inside = CpuSet.from_mask(top.nodes[node].cpus)
        free, own = free & inside, own & inside
    count = rng.choice((rng.randint(0, len(free | own)), rng.randint(0, min(len(free | own), 12))))
    task = Task(top, free, own, count, policy, node=node)
    answer = outcome(task)
    what = (policy.changed(), str(free), str(own), count, node, str(answer))

    some = CpuSet(rng.sample(list(machine.online), rng.randint(1, len(machine.online))))
    outcome(Task(top, some, EMPTY, min(len(some), 8), random_policy(rng)))
    assert outcome(task) == answer, what
    forget()
    assert outcome(replace(task, topology=topology(machine, machine.online, EMPTY))) == answer, what

    asked = oracle.Question(where, frozenset(free), frozenset(own), count, policy, node=node)
    threads = policy.cpu_thread_policy
    where.known_needs[count, threads, node] = counted_needs(where, count, threads, node)
    if isinstance(answer, str):
        assert policy.rules, what
        with pytest.raises(Unplaceable) as refused:
            place(task)
        assert oracle.broken(asked, frozenset(refused.value.choice)) == answer, what
        assert not _fits(asked), what
        return
    assert len(answer) == count, what
    assert answer <= free | own, what
    assert own <= answer if count >= len(own) else answer <= own, what
    if count == len(own):
        assert answer == own, what
    elif count:
        assert oracle.broken(asked, frozenset(answer)) is None, what
        assert task.cost(answer)._asdict() == oracle.cost(asked, frozenset(answer)), what
        for other_choice in place(task, FEW)[1:4]:
            assert oracle.broken(asked, frozenset(other_choice)) is None, what
            assert task.rank(answer) <= task.rank(other_choice), what
    after = free | own
    assert choose(top, after - answer, answer, count, policy) == answer, what


def _fits(asked: oracle.Question) -> bool:
    """Whether it is plain that there is room: a first claim, in a node or L3 domain where nobody is in the way."""
    if asked.own or asked.policy.cpu_thread_policy == "require":
        return False
    cores = {core for cpu, core in asked.world.core.items() if cpu in asked.free}
    if asked.policy.cpu_thread_policy == "isolate":
        usable = {min(core) for core in cores if core <= asked.free}
    else:
        usable = set(asked.free)
    domains = [Counter(asked.world.node[cpu] for cpu in usable), Counter(asked.world.l3[cpu] for cpu in usable)]
    if asked.policy.uncore_cache_alignment == "require":
        across = {(asked.world.l3[cpu], asked.world.node[cpu]) for cpu in asked.world.l3}
        nested = len({l3 for l3, _ in across}) == len(across)
        return nested and max(domains[1].values(), default=0) >= asked.count
    if asked.node is not None or asked.policy.numa_policy in ("none", "best-effort"):
        return len(usable) >= asked.count
    return max(domains[0].values(), default=0) >= asked.count


@settings(max_examples=150, deadline=None)
@given(index=st.integers(0, len(LARGER) - 1), seed=st.integers(0, 2**32))
def test_properties(index: int, seed: int) -> None:
    check(larger(index), random.Random(seed))


@pytest.mark.parametrize("name", REAL)
def test_properties_of_real_machines(name: str) -> None:
    machine = real_machine(name)

    @settings(max_examples=2 if name in MANY_PACKAGES else 10, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def on_it(seed: int) -> None:
        check(machine, random.Random(seed))

    on_it()


@pytest.mark.parametrize("index", range(len(LARGER)))
def test_what_fits_in_one_node_is_in_one_node(index: int) -> None:
    top, rng = pool_of(larger(index))[0], random.Random(index)
    for _ in range(40):
        free = CpuSet(rng.sample(range(LARGER[index].cpus), rng.randint(1, LARGER[index].cpus)))
        roomiest = max((node.cpus & free.mask).bit_count() for node in top.nodes.values())
        chosen = choose(top, free, EMPTY, rng.randint(1, roomiest))
        assert len(top.nodes_of(chosen.mask)) == 1


def test_needs_are_counted_as_by_trying_every_set() -> None:
    for machine in (SMALL[0], SMALL[1], SMALL[5], SMALL[9], SMALL[12], SMALL[14], SMALL[17]):
        where = pool_of(machine)[1]
        for count, threads in itertools.product(range(1, len(machine.online) + 1), ("prefer", "require", "isolate")):
            assert counted_needs(where, count, threads, None) == oracle.needs(where, count, threads)


@pytest.mark.parametrize("name", REAL)
def test_strange_real_machines_are_filled_and_emptied(name: str) -> None:
    machine = real_machine(name)
    top = topology(machine, machine.online, EMPTY)
    free, claims = machine.online, list[CpuSet]()
    for size in itertools.cycle((1, 4, 3, 8, 2)):
        if len(free) < size:
            break
        claims.append(choose(top, free, EMPTY, size))
        assert claims[-1] <= free
        free -= claims[-1]
    assert len(free) < 8
    for claim in claims:
        assert choose(top, free, claim, 0) == EMPTY
        free |= claim
    assert free == machine.online


def refusal(top: Topology, free: str, count: int, **policy: Any) -> str:
    with pytest.raises(Unplaceable) as refused:
        choose(top, cpus(free), EMPTY, count, PlacementPolicy(**policy))
    return str(refused.value)


def test_the_rule_is_named_without_which_the_request_is_possible() -> None:
    # Two nodes of four free cores each: five threads on cores of their own take both.
    top = topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    rules = {"cpu_thread_policy": "isolate", "numa_policy": "single-numa-node"}
    sentence = refusal(top, "0-15", 5, **rules)
    assert "numa-policy=single-numa-node allows 1 NUMA node, and 2 would be needed" in sentence
    assert "isolate" not in sentence
    assert "numa-policy" in refusal(top, "0-15", 10, **rules | {"cpu_thread_policy": "require"})


def test_more_nodes_may_have_fewer_l3_domains() -> None:
    # Node 0 has four L3 domains with half of their CPUs free; nodes 1 to 8 one that is wholly free in each.
    shape = Shape(packages=9, l3_per_node=4, cores_per_l3=4)
    top = topology(made_up(shape), CpuSet(range(shape.cpus)), EMPTY)
    half = CpuSet(cpu for cpu in range(16) if cpu % 4 < 2)
    whole = CpuSet(16 * node + cpu for node in range(1, 9) for cpu in range(4))
    chosen = choose(top, half | whole, EMPTY, 8, PlacementPolicy(uncore_cache_alignment="require"))
    assert len({cpu // 4 for cpu in chosen}) == 2
    refused = refusal(top, str(half), 8, uncore_cache_alignment="require")
    assert "uncore-cache-alignment=require allows 2 L3 domains, and 4 would be needed" in refused
