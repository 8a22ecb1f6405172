# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Search: the CPUs that requests get, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import Unplaceable, broken_rule
from epa_orchestrator.placement.search import choose, place
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import Topology, build_topology
from tests.machines import made_up, synthetic
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
    topology = build_topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    assert str(choose(topology, cpus(free), EMPTY, count)) == expected, why


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
    topology = build_topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    assert str(choose(topology, cpus(free), cpus(own), count)) == expected, why


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
    topology = build_topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    assert str(choose(topology, cpus("0-15") - cpus(own), cpus(own), count)) == expected, why


def test_several_nodes_are_of_one_package_first() -> None:
    # Four nodes of one 2-thread core, two packages. Nodes 0 and 1 are package 0, nodes 2 and 3 are package 1.
    topology = build_topology(made_up(Shape(2, 2, 1, 1, 2)), cpus("0-7"), EMPTY)
    assert str(choose(topology, cpus("1-3,5-7"), EMPTY, 4)) == "2-3,6-7"


def test_several_nodes_are_the_closest_ones() -> None:
    # Three packages with a node each: 0 and 2 are neighbours, 1 is far from both.
    distances = ((10, 30, 20), (30, 10, 30), (20, 30, 10))
    topology = build_topology(made_up(Shape(3, 1, 1, 2, 1, distances=distances)), cpus("0-5"), EMPTY)
    assert str(choose(topology, cpus("0-5"), EMPTY, 4)) == "0-1,4-5"


def test_fewest_l3_domains_then_least_left_over() -> None:
    # L3 domains of 4 with 4, 3, 2, 3 CPUs free: 5 CPUs need two, and 3 + 2 leaves none over.
    topology = build_topology(made_up(Shape(l3_per_node=4, cores_per_l3=4)), cpus("0-15"), EMPTY)
    free = cpus("0-3,4-6,8-9,12-14")
    assert str(choose(topology, free, EMPTY, 5)) == "4-6,8-9"


def test_odd_width_takes_the_narrow_core() -> None:
    machine = synthetic("raptorlake")  # cores 0-1 ... 10-11, then 12 to 19 alone
    topology = build_topology(machine, machine.online, EMPTY)
    assert str(choose(topology, machine.online, EMPTY, 3)) == "0-1,12"


def test_core_with_a_reserved_thread_is_not_whole() -> None:
    topology = build_topology(made_up(Shape(cores_per_l3=2, threads_per_core=2)), cpus("0-1,3"), cpus("2"))
    assert str(choose(topology, cpus("0-1,3"), EMPTY, 2)) == "1,3"


def beside_a_reclaimable_thread(**policy: Any) -> Task:
    """Another service has 4, the sibling of 0, and could lose it. Nobody uses cores 1,5 and 2,6 and 3,7."""
    topology = build_topology(made_up(Shape(cores_per_l3=4, threads_per_core=2)), cpus("0-7"), EMPTY)
    return Task(topology, cpus("0-7"), EMPTY, 1, PlacementPolicy(**policy), reclaimable=cpus("4"), node=0)


@pytest.mark.parametrize("threads", ["prefer", "isolate"])
def test_a_fresh_core_comes_before_one_with_a_reclaimable_thread(threads: str) -> None:
    assert str(place(beside_a_reclaimable_thread(cpu_thread_policy=threads))[0]) == "1"


@pytest.mark.parametrize(("chosen", "shared"), [("0", 1), ("0,4", 0)])
def test_a_core_with_a_reclaimable_thread_is_shared_until_it_is_taken(chosen: str, shared: int) -> None:
    assert beside_a_reclaimable_thread().cost(cpus(chosen)).shared_cores == shared


def test_a_core_with_a_reclaimable_thread_breaks_isolate() -> None:
    assert broken_rule(beside_a_reclaimable_thread(cpu_thread_policy="isolate"), cpus("0")) is not None


def refusal(topology: Topology, free: str, count: int, **policy: Any) -> str:
    with pytest.raises(Unplaceable) as refused:
        choose(topology, cpus(free), EMPTY, count, PlacementPolicy(**policy))
    return str(refused.value)


def test_a_refusal_names_the_one_rule_that_forbids_the_request() -> None:
    # Two nodes of four free cores each: five threads on cores of their own take both.
    topology = build_topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    rules = {"cpu_thread_policy": "isolate", "numa_policy": "single-numa-node"}
    sentence = refusal(topology, "0-15", 5, **rules)
    assert "numa-policy=single-numa-node allows 1 NUMA node, and 2 would be needed" in sentence
    assert "isolate" not in sentence


def test_a_rule_on_whole_cores_is_not_named_for_a_number_of_whole_cores() -> None:
    topology = build_topology(made_up(EIGHT_CORES), cpus("0-15"), EMPTY)
    assert "numa-policy" in refusal(topology, "0-15", 10, cpu_thread_policy="require", numa_policy="single-numa-node")


def test_more_nodes_may_have_fewer_l3_domains() -> None:
    # Node 0 has four L3 domains with half of their CPUs free; nodes 1 to 8 one that is wholly free in each.
    shape = Shape(packages=9, l3_per_node=4, cores_per_l3=4)
    topology = build_topology(made_up(shape), CpuSet(range(shape.cpus)), EMPTY)
    half = CpuSet(cpu for cpu in range(16) if cpu % 4 < 2)
    whole = CpuSet(16 * node + cpu for node in range(1, 9) for cpu in range(4))
    chosen = choose(topology, half | whole, EMPTY, 8, PlacementPolicy(uncore_cache_alignment="require"))
    assert len({cpu // 4 for cpu in chosen}) == 2


def test_without_whole_l3_domains_the_rule_refuses() -> None:
    shape = Shape(packages=9, l3_per_node=4, cores_per_l3=4)
    topology = build_topology(made_up(shape), CpuSet(range(shape.cpus)), EMPTY)
    half = CpuSet(cpu for cpu in range(16) if cpu % 4 < 2)
    refused = refusal(topology, str(half), 8, uncore_cache_alignment="require")
    assert "uncore-cache-alignment=require allows 2 L3 domains, and 4 would be needed" in refused
