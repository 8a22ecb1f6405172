# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Cost: what is counted of a claim's CPUs, and in which order a policy compares it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Core
from epa_orchestrator.placement.cost import Cost, cost, levels, other_type, rank
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.topology import Topology, build_topology
from tests.machines import made_up
from tools.synthetic import Shape

# Package/node 0: L3 {0,1,8,9}, L3 {2,3,10,11};  package/node 1: L3 {4,5,12,13}, L3 {6,7,14,15}; siblings 8 apart.
EIGHT_CORES = Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2)


def mask(text: str) -> int:
    return CpuSet.parse(text).mask


def topology(reserved: str = "") -> Topology:
    machine = made_up(EIGHT_CORES)
    return build_topology(machine, machine.online - CpuSet.parse(reserved), CpuSet.parse(reserved))


def hybrid() -> Topology:
    """Cores 0-1 for performance, 2 and 3 efficient."""
    machine = made_up(Shape())
    cores = (Core(CpuSet([0, 1]), "performance"), Core(CpuSet([2]), "efficiency"), Core(CpuSet([3]), "efficiency"))
    return build_topology(replace(machine, cores=cores), machine.online, EMPTY)


@pytest.mark.parametrize(
    ("free", "own", "chosen", "expected"),
    [
        # 8 (sibling of 0) is another's; 0 and 4 are in two packages, nodes and L3 domains.
        ("0-7,9-15", "", "0,4",
         {"packages": 2, "numa_nodes": 2, "node_distance": 32, "numa_balance": 2, "shared_cores": 1, "fresh_cores": 1,
          "split_cores": 1, "l3_domains": 2, "l3_balance": 2, "l3_left_over": 2 + 3, "scope_left_over": 6 + 7}),
        # Core 0,8 is the service's own; it opens 1,9 and leaves 9 free.
        ("1-7,9-15", "0,8", "0-1,8",
         {"packages": 1, "numa_nodes": 1, "numa_balance": 9, "fresh_cores": 1, "stacked_cpus": 1, "split_cores": 1,
          "l3_domains": 1, "l3_balance": 9, "l3_left_over": 1, "scope_left_over": 5}),
        # Two whole cores in two L3 domains of a node.
        ("0-15", "", "0,2,8,10",
         {"packages": 1, "numa_nodes": 1, "numa_balance": 16, "fresh_cores": 2, "stacked_cpus": 2, "l3_domains": 2,
          "l3_balance": 4 + 4, "l3_left_over": 4, "scope_left_over": 4}),
    ],
)  # fmt: skip
def test_counts(free: str, own: str, chosen: str, expected: dict[str, int]) -> None:
    vector = cost(topology(), mask(free), mask(own), mask(chosen), PlacementPolicy())
    assert {name: value for name, value in vector._asdict().items() if value} == expected


def test_a_core_with_a_reserved_thread_is_shared() -> None:
    vector = cost(topology(reserved="8"), mask("0-7,9-15"), 0, mask("0"), PlacementPolicy())
    assert (vector.shared_cores, vector.fresh_cores, vector.split_cores) == (1, 0, 0)


def test_reclaimed_cpus_are_those_of_others_that_are_new() -> None:
    vector = cost(topology(), mask("1,8-9"), mask("0"), mask("0-1,8"), PlacementPolicy(), mask("0-1,9"))
    assert vector.reclaimed_cpus == 1


@pytest.mark.parametrize(("near", "distance"), [(None, 0), (0, 2 * 10 + 32), (1, 2 * 32 + 10)])
def test_near_distance_counts_every_cpu(near: int | None, distance: int) -> None:
    assert cost(topology(), mask("0-15"), 0, mask("0,4,8"), PlacementPolicy(near=near)).near_distance == distance


def test_other_type_is_that_of_the_type_not_preferred() -> None:
    values: list[Any] = ["none", "performance", "efficiency"]
    expected = [0, mask("2-3"), mask("0-1")]
    assert [other_type(hybrid(), PlacementPolicy(prefer_core_type=value)) for value in values] == expected
    assert [other_type(topology(), PlacementPolicy(prefer_core_type=value)) for value in values] == [0, 0, 0]


DEFAULT = (
    "numa_nodes packages reclaimed_cpus node_distance shared_cores split_cores l3_domains l3_left_over scope_left_over"
    " lowest_cpu"
)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, DEFAULT),
        ({"numa_policy": "restricted"}, DEFAULT),
        ({"numa_policy": "single-numa-node"}, DEFAULT),
        ({"numa_policy": "none"},
         "packages reclaimed_cpus shared_cores split_cores l3_domains l3_left_over lowest_cpu"),
        ({"numa_allocation_strategy": "spread"},
         ("numa_nodes packages reclaimed_cpus node_distance shared_cores split_cores l3_domains -l3_left_over"
         " -scope_left_over lowest_cpu")),
        ({"numa_allocation_strategy": "distribute"},
         ("numa_nodes packages reclaimed_cpus node_distance numa_balance shared_cores split_cores l3_domains"
         " l3_left_over scope_left_over lowest_cpu")),
        ({"prefer_closest_numa_nodes": False}, DEFAULT.replace("packages ", "").replace("node_distance ", "")),
        ({"uncore_cache_alignment": "none"}, DEFAULT.replace("l3_domains l3_left_over ", "")),
        ({"uncore_cache_alignment": "require"},
         ("numa_nodes l3_domains packages reclaimed_cpus node_distance shared_cores split_cores l3_left_over"
         " scope_left_over lowest_cpu")),
        ({"cpu_thread_policy": "share"}, DEFAULT.replace("shared_cores split_cores", "fresh_cores")),
        ({"cpu_thread_policy": "require"}, DEFAULT.replace("shared_cores split_cores ", "")),
        ({"cpu_thread_policy": "isolate"}, DEFAULT.replace("shared_cores split_cores ", "")),
        ({"cpu_distribution": "cores"}, DEFAULT.replace("split_cores", "stacked_cpus")),
        ({"cpu_distribution": "caches"}, DEFAULT.replace("l3_domains", "l3_balance")),
        ({"prefer_core_type": "performance"}, DEFAULT.replace("shared_cores", "other_type_cpus shared_cores")),
        ({"near": 1}, DEFAULT.replace("node_distance", "near_distance node_distance")),
    ],
)  # fmt: skip
def test_levels_of_a_claim_that_gains(changed: dict[str, Any], expected: str) -> None:
    assert _words(levels(PlacementPolicy(**changed))) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "packages -numa_balance -l3_balance shared_cores split_cores lowest_cpu"),
        ({"numa_policy": "none"}, "packages -l3_balance shared_cores split_cores lowest_cpu"),
        ({"numa_allocation_strategy": "distribute"},
         "packages numa_balance -l3_balance shared_cores split_cores lowest_cpu"),
        ({"uncore_cache_alignment": "none"}, "packages -numa_balance shared_cores split_cores lowest_cpu"),
        ({"cpu_distribution": "caches"}, "packages -numa_balance l3_balance shared_cores split_cores lowest_cpu"),
        ({"cpu_thread_policy": "isolate"}, "packages -numa_balance -l3_balance lowest_cpu"),
    ],
)  # fmt: skip
def test_levels_of_a_claim_that_shrinks(changed: dict[str, Any], expected: str) -> None:
    assert _words(levels(PlacementPolicy(**changed), shrinking=True)) == expected


@pytest.mark.parametrize(
    ("shrinking", "expected"),
    [
        (False, DEFAULT.replace("numa_nodes", "numa_nodes nodeless_cpus")),
        (True, "nodeless_cpus packages -numa_balance -l3_balance shared_cores split_cores lowest_cpu"),
    ],
)
def test_cpus_in_no_node_are_a_level_where_there_are_any(shrinking: bool, expected: str) -> None:
    assert _words(levels(PlacementPolicy(), shrinking=shrinking, nodeless=True)) == expected
    ignored = levels(PlacementPolicy(numa_policy="none"), shrinking=shrinking, nodeless=True)
    assert "nodeless_cpus" not in dict(ignored)


def test_rank_negates_levels_of_which_more_is_better() -> None:
    vector = Cost(*range(1, 18))
    assert rank(vector, (("numa_nodes", 1), ("l3_left_over", -1), ("lowest_cpu", 1))) == (2, -15, 17)


def _words(compared: tuple[tuple[str, int], ...]) -> str:
    return " ".join(name if sign > 0 else f"-{name}" for name, sign in compared)
