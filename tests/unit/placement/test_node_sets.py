# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Node sets: which sets of NUMA nodes are compared for a request, and in which order."""

from __future__ import annotations

from itertools import combinations

import pytest

from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.placement.node_sets import Demand, NodeSet, node_distance, node_sets, packages_of
from epa_orchestrator.placement.topology import Topology, build_topology
from tests.machines import made_up, synthetic
from tools.synthetic import Shape

FOUR_NODES = Shape(packages=2, nodes_per_package=2)  # 12 apart inside a package, 32 across
TRIANGLE = Shape(packages=3, distances=((10, 30, 20), (30, 10, 30), (20, 30, 10)))


def pool(shape: Shape) -> Topology:
    machine = made_up(shape)
    return build_topology(machine, machine.online, EMPTY)


def lists(
    shape: Shape, capacity: list[int], need: int, *, base: NodeSet = (), most: int = 99, closest: bool = True
) -> list[list[NodeSet]]:
    return list(node_sets(Demand(pool(shape), dict(enumerate(capacity)), base, need, most), closest=closest))


@pytest.mark.parametrize(
    ("capacity", "need", "most", "first", "why"),
    [
        ([4, 4, 4, 4], 3, 4, [(0,), (1,), (2,), (3,)], "every node that can hold it"),
        ([4, 2, 3, 1], 3, 4, [(0,), (2,)], "only those that can"),
        ([4, 4, 4, 4], 5, 4, [(0, 1), (2, 3)], "two of one package"),
        ([4, 1, 4, 0], 6, 4, [(0, 2)], "two of two packages, before three nodes"),
        ([2, 2, 2, 1], 5, 4, [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)], "three nodes, all as close"),
        ([4, 4, 4, 4], 16, 4, [(0, 1, 2, 3)], "all"),
        ([4, 4, 4, 4], 16, 3, [], "more than allowed"),
        ([4, 4, 4, 4], 17, 4, [], "more than there are"),
        ([0, 0, 0, 4], 1, 4, [(3,)], "the only one that has any"),
    ],
)
def test_first_node_sets(capacity: list[int], need: int, most: int, first: list[NodeSet], why: str) -> None:
    found = lists(FOUR_NODES, capacity, need, most=most)
    assert (found[0] if found else []) == first, why


def test_lists_go_outwards() -> None:
    # Pairs by packages and distance, then three nodes (two distances of 32 each), then all.
    three = list(combinations(range(4), 3))
    expected = [[(0, 1), (2, 3)], [(0, 2), (0, 3), (1, 2), (1, 3)], three, [(0, 1, 2, 3)]]
    assert lists(FOUR_NODES, [4, 4, 4, 4], 5) == expected


def test_the_closest_pair_first() -> None:
    assert lists(TRIANGLE, [4, 4, 4], 5) == [[(0, 2)], [(0, 1), (1, 2)], [(0, 1, 2)]]


def test_distance_does_not_count_unless_asked_for() -> None:
    assert lists(TRIANGLE, [4, 4, 4], 5, closest=False)[0] == [(0, 1), (0, 2), (1, 2)]


def test_nodes_that_a_claim_is_in_stay() -> None:
    assert lists(FOUR_NODES, [0, 4, 4, 4], 3, base=(2,))[0] == [(2,)]
    assert lists(FOUR_NODES, [4, 4, 0, 4], 3, base=(2,))[0] == [(2, 3)]
    assert lists(FOUR_NODES, [4, 4, 0, 0], 3, base=(2,))[0] == [(2, 0), (2, 1)]
    assert lists(FOUR_NODES, [4, 4, 0, 4], 3, base=(2,), most=1) == []


def test_packages_and_distance_of_nodes() -> None:
    topology = pool(FOUR_NODES)
    assert (packages_of(topology, (0, 1)), packages_of(topology, (1, 2))) == ({0}, {0, 1})
    assert [node_distance(topology, scope) for scope in ((0,), (0, 1), (1, 0), (1, 2), (0, 1, 2))] == [
        0,
        12,
        12,
        32,
        76,
    ]


@pytest.mark.parametrize("need", [200, 300])
def test_too_many_sets_are_grown_from_each_node(need: int) -> None:
    machine = synthetic("uv2000")  # 24 nodes of 16
    topology = build_topology(machine, machine.online, EMPTY)
    size = -(-need // 16)

    found = next(node_sets(Demand(topology, dict.fromkeys(topology.nodes, 16), (), need, 24), closest=True))
    assert found
    assert all(len(set(scope)) == size for scope in found)
    assert len({node_distance(topology, scope) for scope in found}) == 1


def test_a_set_grown_by_closeness_holds_the_request() -> None:
    # 13 of 24 nodes have two CPUs, every other one; the others one. 24 need 12 of the roomy ones at least.
    shape = Shape(packages=12, nodes_per_package=2, cores_per_l3=2)
    topology = pool(shape)
    capacity = {node: 2 if node % 2 == 0 or node == 23 else 1 for node in topology.nodes}
    found = next(node_sets(Demand(topology, capacity, (), 24, 24), closest=True))
    assert all(len(scope) == 12 and sum(capacity[node] for node in scope) >= 24 for scope in found)
    # Nodes 22 and 23 are of one package, so eleven packages; a set without 22 or 23 has twelve.
    assert {len(packages_of(topology, scope)) for scope in found} == {11}
