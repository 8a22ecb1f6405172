# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Difference: the level that decides is the one that the cost vectors show."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.difference import of_choices
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import Unplaceable
from epa_orchestrator.placement.search import place_compared
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import build_topology
from tests.machines import made_up
from tools.synthetic import Shape

SHAPES = (
    Shape(packages=2, nodes_per_package=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2),
    Shape(packages=4, cores_per_l3=3, threads_per_core=2),
    Shape(packages=2, nodes_per_package=3, cores_per_l3=4),
)
POLICIES = (
    PlacementPolicy(),
    PlacementPolicy(numa_allocation_strategy="spread"),
    PlacementPolicy(numa_allocation_strategy="distribute"),
    PlacementPolicy(cpu_thread_policy="share", near=1),
    PlacementPolicy(cpu_distribution="caches", prefer_closest_numa_nodes=False),
    PlacementPolicy(cpu_distribution="cores"),
    PlacementPolicy(cpu_thread_policy="require"),
    PlacementPolicy(numa_policy="single-numa-node", uncore_cache_alignment="require"),
)


def random_task(chance: random.Random, shape: Shape, policy: PlacementPolicy) -> Task:
    machine = made_up(shape)
    cpus = [*machine.online]
    chance.shuffle(cpus)
    free = CpuSet(cpus[: chance.randint(len(cpus) // 2, len(cpus))])
    own = CpuSet([cpu for cpu in cpus if cpu not in free][: chance.choice([0, 0, 0, 2])])
    topology = build_topology(machine, machine.online, CpuSet())
    return Task(topology, free, own, len(own) + chance.randint(1, max(len(free) // 3, 1)), policy)


@pytest.mark.parametrize("policy", POLICIES, ids=range(len(POLICIES)))
def test_the_difference_is_that_of_the_cost_vectors(policy: PlacementPolicy) -> None:
    chance, compared, levels = random.Random(7), 0, set[str]()
    for number in range(150):
        task = random_task(chance, SHAPES[number % len(SHAPES)], policy)
        try:
            placed = place_compared(task, 2)
        except Unplaceable:
            continue
        assert (placed.difference is not None) is (len(placed.candidates) > 1)
        if placed.difference is None:
            continue
        expected = of_choices(task, placed.candidates[0], placed.candidates[1])
        assert placed.difference[1:4] == expected[1:4]
        assert set(placed.difference.nodes) >= set(expected.nodes)
        compared += 1
        levels.add(expected.level)
    assert compared > 30
    assert len(levels) > 1


def test_all_equal_candidates_are_known() -> None:
    """Nodes 0, 2 and 3 have the 8 CPUs, node 1 has 7."""
    topology = build_topology(made_up(SHAPES[0]), made_up(SHAPES[0]).online, CpuSet())
    free = CpuSet(range(32)) - CpuSet([4])
    placed = place_compared(Task(topology, free, CpuSet(), 8, PlacementPolicy()))
    assert placed.difference is not None
    assert (placed.difference.level, placed.difference.equal) == ("", ((2,), (3,)))


def test_as_many_candidates_are_equal_as_have_equal_cost_vectors() -> None:
    """Of at most five candidates; the lowest CPU id does not count."""
    chance, ties = random.Random(5), 0
    for number in range(200):
        task = random_task(chance, SHAPES[number % 3], POLICIES[number % 6])
        task = replace(task, free=task.free | task.own, own=CpuSet(), count=max(task.count % 5, 1))
        placed = place_compared(task, 5)
        if placed.difference is None or placed.difference.level:
            continue
        costs = [task.cost(cpus) for cpus in placed.candidates]
        names = [name for name, _ in task.levels[:-1]]
        equal = [all(getattr(cost, name) == getattr(costs[0], name) for name in names) for cost in costs[1:]]
        assert sum(equal) == min(len(placed.difference.equal), 4)
        ties += sum(equal) > 1
    assert ties > 20


def test_candidates_that_are_worse_are_not_equal() -> None:
    topology = build_topology(made_up(SHAPES[0]), made_up(SHAPES[0]).online, CpuSet())
    placed = place_compared(Task(topology, CpuSet(range(32)) - CpuSet([0, 4]), CpuSet(), 1, PlacementPolicy()))
    assert placed.difference is not None
    assert (placed.difference.level, placed.difference.equal) == ("", ((1,),))


def test_one_candidate_has_no_difference() -> None:
    task = random_task(random.Random(1), Shape(cores_per_l3=4), PlacementPolicy())
    assert place_compared(task).difference is None


def test_the_difference_does_not_depend_on_the_number_of_candidates() -> None:
    chance = random.Random(3)
    for _ in range(30):
        task = random_task(chance, SHAPES[0], PlacementPolicy())
        assert place_compared(task, 1).difference == place_compared(task, 5).difference
