# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room demands: which numbers of CPUs fit into the NUMA nodes together."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.moving import movable
from epa_orchestrator.allocation.room_demands import Demand, demand_of, fit, needs_one_node
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from tests.unit.allocation.rooms import Host
from tools.synthetic import Shape

#: Two nodes of four CPUs.
TWO_NODES = Shape(packages=2, cores_per_l3=4, isolated="0-7")


@pytest.mark.parametrize(
    ("room", "demands", "expected"),
    [
        ({0: 4, 1: 4}, [Demand({}, in_one_node=4), Demand({}, in_one_node=3)], True),
        ({0: 4, 1: 4}, [Demand({}, in_one_node=3), Demand({}, in_one_node=3), Demand({}, in_one_node=2)], False),
        # 5 and 4 are divided as 3 + 2 and 4: the largest first, not into the first node that fits.
        ({0: 5, 1: 4}, [Demand({}, in_one_node=4), Demand({}, in_one_node=3), Demand({}, in_one_node=2)], True),
        ({0: 4, 1: 4}, [Demand({0: 3}), Demand({0: 2})], False),
        ({0: 4, 1: 4}, [Demand({0: 3}), Demand({}, in_one_node=4), Demand({}, anywhere=1)], True),
        ({0: 4, 1: 4}, [Demand({0: 3}), Demand({}, in_one_node=4), Demand({}, anywhere=2)], False),
        ({0: 4}, [Demand({9: 1})], False),
        ({}, [], True),
    ],
)
def test_fit(room: dict[int, int], demands: list[Demand], expected: bool) -> None:
    assert fit(room, demands) is expected


def test_many_numbers_are_not_divided_in_every_way() -> None:
    # 3 + 3 + 3 of 10 leave one CPU in each node, and every way would be tried for the last number.
    room = {node: 10 + node % 2 for node in range(16)}
    demands = [Demand({}, in_one_node=3) for _ in range(52)]
    assert fit(room, demands)


@pytest.mark.parametrize(
    ("policy", "count", "expected"),
    [
        (PlacementPolicy(), 2, False),
        (PlacementPolicy(numa_policy="single-numa-node"), 8, True),
        (PlacementPolicy(numa_policy="restricted"), 4, True),
        (PlacementPolicy(numa_policy="restricted"), 5, False),
    ],
)
def test_needs_one_node(policy: PlacementPolicy, count: int, expected: bool) -> None:
    assert needs_one_node(Host.of(TWO_NODES).pools.isolated, policy, count) is expected


def test_a_claim_needs_its_nodes_and_the_rest_anywhere() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 3))
    host.hold(host.wanted("a", 2, node=1))
    how = movable(host.ledger.claims["a"], host.pools.isolated, host.nodes)
    assert how is not None
    assert demand_of(how) == Demand({1: 2}, anywhere=3)


def test_a_claim_with_a_strict_wish_needs_one_node() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 3, wishes=Wishes(numa_policy="single-numa-node")))
    how = movable(host.ledger.claims["a"], host.pools.isolated, host.nodes)
    assert how is not None
    assert demand_of(how) == Demand({}, in_one_node=3)
