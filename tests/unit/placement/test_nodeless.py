# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPUs in no NUMA node are one unknown place: known nodes come first, and rules do not let it be mixed with others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.minimum import MinimumDomains, minimum_domains
from epa_orchestrator.placement.node_sets import Demand, node_sets
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import Unplaceable
from epa_orchestrator.placement.search import place
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import NO_NODE, Topology, build_topology
from tests.machines import made_up
from tools.synthetic import Shape


def topology(*known: int) -> Topology:
    """Three groups of four cores with one thread, 0-3, 4-7 and 8-11; only these groups are in NUMA nodes."""
    machine = made_up(Shape(packages=1, nodes_per_package=3, cores_per_l3=4))
    machine = replace(machine, nodes=tuple(replace(machine.nodes[node], distances=()) for node in known))
    return build_topology(machine, machine.online, EMPTY)


LAST = topology(0, 1)  # 8-11 are in no node
FIRST = topology(1, 2)  # 0-3 are in no node
ONE = topology(1)  # 0-3 and 8-11


def task(at: Topology, free: str, count: int, own: str = "", **policy: Any) -> Task:
    return Task(at, CpuSet.parse(free), CpuSet.parse(own), count, PlacementPolicy(**policy))


@pytest.mark.parametrize(
    ("at", "free", "count", "chosen", "why"),
    [
        (FIRST, "0-11", 2, "4-5", "not the lowest ids"),
        (FIRST, "0-1,4-11", 2, "4-5", "not the place that fits tightest"),
        (FIRST, "0-11", 6, "4-9", "not another place as the second one"),
        (ONE, "0-11", 6, "0-3,8-9", "one place before two"),
        (ONE, "0-11", 10, "0-1,4-7,8-11", "all of the known node"),
        (FIRST, "0-4,8", 4, "0-3", "the only place that holds it"),
        (FIRST, "0-3,4-5", 5, "0-2,4-5", "a known node that cannot hold it alone"),
    ],
)
@pytest.mark.parametrize("closest", [True, False])
def test_known_nodes_come_first(at: Topology, free: str, count: int, chosen: str, why: str, closest: bool) -> None:
    found = place(task(at, free, count, prefer_closest_numa_nodes=closest))[0]
    if at is ONE and count == 10:  # which of the others does not matter
        assert CpuSet(range(4, 8)) <= found
    else:
        assert found == CpuSet.parse(chosen), why


def test_known_nodes_come_before_near_ones() -> None:
    """The distance to an unknown place is unknown."""
    assert place(task(FIRST, "0-7", 2, near=2))[0] == CpuSet.parse("4-5")


def test_a_claim_grows_in_known_nodes_first() -> None:
    assert place(task(FIRST, "0-3,8-11", 6, own="4-7"))[0] == CpuSet.parse("4-9")


def test_a_claim_that_shrinks_gives_up_cpus_in_no_node_first() -> None:
    assert place(task(FIRST, "", 2, own="0-3,4-5"))[0] == CpuSet.parse("4-5")


@pytest.mark.parametrize("rule", ["restricted", "single-numa-node"])
class TestRules:
    """With `restricted` and `single-numa-node` the number of NUMA nodes must be known."""

    @pytest.mark.parametrize(
        ("at", "free", "count", "chosen"),
        [(ONE, "0-11", 4, "4-7"), (ONE, "0-3,8-11", 4, "0-3"), (ONE, "0-11", 8, "0-3,8-11")],
    )
    def test_allow_one_place(self, rule: str, at: Topology, free: str, count: int, chosen: str) -> None:
        assert place(task(at, free, count, numa_policy=rule))[0] == CpuSet.parse(chosen)

    @pytest.mark.parametrize(("free", "count"), [("0-11", 9), ("0-5", 5), ("0-11", 12)])
    def test_refuse_a_mix(self, rule: str, free: str, count: int) -> None:
        sentence = rf"numa-policy={rule} allows no CPUs of NUMA nodes together with CPUs [0-9,-]+, which are in none"
        with pytest.raises(Unplaceable, match=sentence) as caught:
            place(task(ONE, free, count, numa_policy=rule))
        assert dict(caught.value.task.levels)["nodeless_cpus"] == 1

    def test_refuse_to_grow_into_a_mix(self, rule: str) -> None:
        with pytest.raises(Unplaceable, match="which are in none"):
            place(task(ONE, "0-3,8-11", 5, own="4-7", numa_policy=rule))

    def test_are_no_matter_where_the_claim_only_shrinks(self, rule: str) -> None:
        assert place(task(ONE, "", 2, own="0-1,4-5", numa_policy=rule))[0] == CpuSet.parse("4-5")


def test_restricted_counts_known_nodes_where_a_mix_would_need_fewer() -> None:
    at = topology(0, 1)
    assert minimum_domains(at, 8, "prefer") == MinimumDomains(2, 2)
    assert place(task(at, "0-11", 8, numa_policy="restricted"))[0] == CpuSet.parse("0-7")


def test_the_cost_counts_the_unknown_place_as_a_node() -> None:
    for chosen, nodes, nodeless in (("4-5", 1, 0), ("0-1", 1, 2), ("0-1,4-5", 2, 2), ("0,4,8", 3, 1)):
        cost = task(FIRST, "0-11", 4).cost(CpuSet.parse(chosen))
        assert (cost.numa_nodes, cost.nodeless_cpus) == (nodes, nodeless)


@pytest.mark.parametrize(("mixed", "expected"), [(True, MinimumDomains(2, 3)), (False, None)])
def test_the_minimum_of_a_mix(mixed: bool, expected: MinimumDomains | None) -> None:
    assert minimum_domains(ONE, 9, "prefer", mixed=mixed) == expected
    assert minimum_domains(ONE, 8, "prefer", mixed=mixed) == MinimumDomains(1, 2)


@pytest.mark.parametrize("closest", [True, False])
def test_sets_with_the_unknown_place_are_the_last_of_their_size(closest: bool) -> None:
    found = list(node_sets(Demand(FIRST, {NO_NODE: 4, 1: 4, 2: 4}, (), 4, 3), closest=closest))
    assert found == [[(1,), (2,)], [(NO_NODE,)], [(1, 2)], [(NO_NODE, 1), (NO_NODE, 2)], [(NO_NODE, 1, 2)]]
