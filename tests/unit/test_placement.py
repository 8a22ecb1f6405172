"""Placement: tables worked out by hand, an exhaustive search on small machines, and properties on large ones."""

from __future__ import annotations

import itertools
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.domains import Topology, topology
from epa_orchestrator.placement import Cost, choose, cost
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


@pytest.mark.parametrize("count", [-1, 5])
def test_count_must_be_possible(count: int) -> None:
    top = topology(made_up(Shape()), cpus("0-3"), EMPTY)
    with pytest.raises(ValueError, match="cannot come out of"):
        choose(top, cpus("0-2"), cpus("3"), count)


def test_cost_counts_what_its_names_say() -> None:
    top = topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    # 8 (sibling of 0) is another's; 0 and 4 are in two packages, nodes and L3 domains.
    assert cost(top, cpus("0-7,9-15"), EMPTY, cpus("0,4")) == Cost(
        packages=2, numa_nodes=2, shared_cores=1, l3_domains=2, l3_left_over=2 + 3, scope_left_over=6 + 7, lowest_cpu=0
    )


# --- the oracle: every possible set of CPUs ---

SMALL = (
    Shape(1, 1, 2, 2, 2),
    Shape(2, 1, 1, 3, 2),
    Shape(2, 2, 1, 1, 2),
    Shape(1, 2, 2, 1, 2),
    Shape(1, 1, 3, 4, 1),
    Shape(2, 1, 3, 2, 1),
    Shape(3, 1, 2, 2, 1),
    Shape(1, 1, 3, 2, 2),
    Shape(1, 2, 1, 3, 2, l3_scope="package"),
)


@cache
def small_topology(index: int, eligible: CpuSet, reserved: CpuSet) -> Topology:
    return topology(made_up(SMALL[index]), eligible, reserved)


def rank(top: Topology, free: CpuSet, own: CpuSet, chosen: CpuSet) -> tuple[object, ...]:
    """What placement promises to minimise: the number of nodes, how far apart they are, then the cost vector.

    The lowest CPU is left out: it only decides between equals, after the rule that cores are taken whole.
    """
    nodes = [node for node in top.nodes.values() if node.cpus & chosen.mask]
    packages = len(frozenset[int]().union(*(node.packages for node in nodes))) if len(nodes) > 1 else 0
    apart = sum(top.distance[a.id][b.id] for a, b in itertools.combinations(nodes, 2))
    return len(nodes), packages, apart, cost(top, free, own, chosen)[:-1]


@pytest.mark.parametrize("seed", range(8))
def test_exhaustive_search_finds_nothing_better(seed: int) -> None:
    rng = random.Random(seed)
    tried = 0
    while tried < 60:
        index = rng.randrange(len(SMALL))
        everything = list(range(SMALL[index].cpus))
        eligible = CpuSet(rng.sample(everything, rng.randint(len(everything) - 3, len(everything))))
        reserved = CpuSet(cpu for cpu in everything if cpu not in eligible and rng.random() < 0.5)
        held = rng.sample(list(eligible), rng.randrange(len(eligible)))
        free = eligible - CpuSet(held)
        own = CpuSet(held[: rng.randint(0, len(held))]) if rng.random() < 0.5 else EMPTY
        count = rng.randint(len(own) + 1, len(own) + len(free))
        top = small_topology(index, eligible, reserved)
        chosen = choose(top, free, own, count)
        best = min(
            rank(top, free, own, own | CpuSet(extra)) for extra in itertools.combinations(free, count - len(own))
        )
        assert rank(top, free, own, chosen) == best, (SMALL[index], str(free), str(own), count, str(chosen))
        tried += 1


# --- properties, on larger and stranger machines ---

LARGER = (
    Shape(2, 4, 3, 8, 2, l3_ids="scattered"),
    Shape(2, 2, 1, 8, 2, l3_scope="package", numbering="interleaved"),
    Shape(1, 1, 4, 4, 8, siblings="adjacent"),
    Shape(8, 1, 1, 4, 4),
    Shape(24, 1, 1, 2, 2),
    Shape(1, 4, 1, 6, 1, l3_scope="none"),
)


@cache
def larger_topology(index: int) -> Topology:
    machine = made_up(LARGER[index])
    return topology(machine, machine.online, EMPTY)


@settings(max_examples=300, deadline=None)
@given(index=st.integers(0, len(LARGER) - 1), seed=st.integers(0, 2**32), data=st.data())
def test_properties(index: int, seed: int, data: st.DataObject) -> None:
    top, rng = larger_topology(index), random.Random(seed)
    everything = list(range(LARGER[index].cpus))
    held = rng.sample(everything, rng.randrange(len(everything)))
    own = CpuSet(held[: rng.randint(0, len(held))]) if rng.random() < 0.7 else EMPTY
    free = CpuSet(everything) - CpuSet(held)
    count = data.draw(st.integers(0, len(free) + len(own)))
    chosen = choose(top, free, own, count)
    assert len(chosen) == count
    assert chosen <= free | own
    assert own <= chosen if count >= len(own) else chosen <= own
    assert choose(top, free, own, count) == chosen
    after = free | own
    assert choose(top, after - chosen, chosen, count) == chosen
    if not own and any(
        node.cpus & free.mask and (node.cpus & free.mask).bit_count() >= count for node in top.nodes.values()
    ):
        assert cost(top, free, own, chosen).numa_nodes <= 1


@pytest.mark.parametrize(
    "name", ["altixxe320-e5472-8c-buggynuma", "haswell-2s-24c-offline-cpu0-node0", "qemu-hmat-24c", "power7-8n-256t",
             "clx-2s-snc2-pmem-112t", "tulsa-4s-16t-offlines", "epyc9654-2s-nps4-384t", "s390-z196-lpar-17c"]
)  # fmt: skip
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
