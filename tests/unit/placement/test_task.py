# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task: a request to place, and the cost of a choice for it."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.cost import levels
from epa_orchestrator.placement.policy import DEFAULT_POLICY
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import build_topology
from tests.machines import made_up
from tools.synthetic import Shape


def task(free: str, own: str, count: int) -> Task:
    """On one L3 domain of two cores, 0,2 and 1,3."""
    topology = build_topology(made_up(Shape(cores_per_l3=2, threads_per_core=2)), CpuSet(range(4)), EMPTY)
    return Task(topology, CpuSet.parse(free), CpuSet.parse(own), count)


@pytest.mark.parametrize("count", [-1, 5])
def test_refuses_an_impossible_count(count: int) -> None:
    with pytest.raises(ValueError, match=f"^{count} CPUs cannot come out of 3 free and 1 own ones$"):
        task("0-2", "3", count)


@pytest.mark.parametrize(("count", "shrinking"), [(1, True), (2, False), (3, False)])
def test_shrinks_to_fewer_cpus_than_it_holds(count: int, shrinking: bool) -> None:
    assert task("0,2", "1,3", count).shrinking is shrinking


@pytest.mark.parametrize(("count", "shrinking"), [(1, True), (3, False)])
def test_levels_are_those_of_its_direction(count: int, shrinking: bool) -> None:
    assert task("0,2", "1,3", count).levels == levels(DEFAULT_POLICY, shrinking=shrinking)


def test_a_growing_claim_does_not_open_a_core_that_it_holds() -> None:
    assert task("0,2-3", "1", 2).cost(CpuSet([1, 3])).fresh_cores == 0


def test_a_shrinking_claim_opens_the_cores_that_it_keeps() -> None:
    assert task("0,2", "1,3", 1).cost(CpuSet([1])).fresh_cores == 1


def test_rank_has_the_compared_levels_in_order() -> None:
    # numa_nodes, packages, reclaimed, node distance, shared, split, L3 domains, left over in L3 and node, lowest CPU
    assert task("0-3", "", 1).rank(CpuSet([1])) == (1, 1, 0, 0, 0, 1, 1, 3, 3, 1)
