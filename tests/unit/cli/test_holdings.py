# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claims are chosen and ordered as asked for, and the states of a pool's CPUs add up to the pool."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.cli.holdings import ORDERS, Holding, TooLongError, holdings, ordered, select, totals
from epa_orchestrator.cli.places import Places
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.names import PoolName
from epa_orchestrator.protocol.answers import Allocation, Listing, PoolSummary
from tests.unit.cli.test_places import machine


def claim(name: str, cpus: str, withheld: str | None = None, pool: PoolName = "isolated", **more: Any) -> Allocation:
    fields: dict[str, Any] = {"is_explicit": False, "preemption_policy": "legacy", "withheld_cpus": withheld} | more
    count = len(CpuSet.parse(cpus))
    return Allocation(service_name=name, pool=pool, allocated_cores=cpus, cores_count=count, **fields)


def listing(
    *claims: Allocation, pool: PoolName = "isolated", configured: str = "2-15", eligible: str = "2-15", **more: Any
) -> Listing:
    """A listing as the daemon makes it of these claims."""
    inside = CpuSet.parse(eligible)
    owned = CpuSet(cpu for each in claims for cpu in CpuSet.parse(each.allocated_cores))
    withheld = CpuSet(cpu for each in claims for cpu in CpuSet.parse(each.withheld_cpus or ""))
    return Listing(
        pool=pool,
        total_allocations=len(claims),
        total_allocated_cpus=len(owned),
        total_available_cpus=len(inside),
        remaining_available_cpus=len(inside - owned - withheld),
        cpu_pool=PoolSummary(
            source="isolated",
            configured_cpus=configured,
            eligible_cpus=eligible,
            unavailable_allocated_cpus=str(owned - inside),
        ),
        allocations=list(claims),
        **more,
    )


FOUND = listing(
    claim("vm-10", "12-13"), claim("vm-2", "2-3"), claim("ovs", "8", "9"), claim("vm-1", "4-7"), claim("ceph", "11,14")
)
GENERAL = listing(claim("osd", "0", pool="general"), pool="general", configured="0-1", eligible="0-1")


def held() -> list[Holding]:
    return holdings([FOUND, GENERAL], Places(machine(free="10,15")))


def names(found: list[Holding]) -> list[str]:
    return [each.service for each in found]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("name", ["ceph", "osd", "ovs", "vm-1", "vm-2", "vm-10"]),
        ("cpus", ["osd", "vm-2", "vm-1", "ovs", "ceph", "vm-10"]),
        ("count", ["vm-1", "ceph", "vm-2", "vm-10", "osd", "ovs"]),
        ("node", ["osd", "vm-1", "vm-2", "ceph", "ovs", "vm-10"]),
        ("pool", ["ceph", "ovs", "vm-1", "vm-2", "vm-10", "osd"]),
    ],
)
def test_order(order: str, expected: list[str]) -> None:
    assert names(ordered(held(), order)) == expected


def test_every_order_needs_no_place() -> None:
    for order in ORDERS:
        assert len(ordered(holdings([FOUND]), order)) == 5


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"pattern": "vm-*"}, ["vm-1", "vm-2", "vm-10"]),
        ({"pattern": "vm-1"}, ["vm-1"]),
        ({"pattern": "VM-*"}, []),
        ({"pattern": "[vm]"}, []),
        ({"pattern": "[vo]*-?"}, ["vm-1", "vm-2"]),
        ({"cpu": 9}, ["ovs"]),
        ({"cpu": 2}, ["vm-2"]),
        ({"cpu": 10}, []),
        ({"node": 0}, ["osd", "vm-1", "vm-2"]),
        ({"node": 1, "pattern": "v*"}, ["vm-10"]),
    ],
)
def test_choice(choice: dict[str, Any], expected: list[str]) -> None:
    assert names(ordered(select(held(), **choice))) == expected


def test_totals_of_a_pool_with_every_state() -> None:
    found = listing(claim("a", "2,14"), claim("b", "4", "5"), claim("c", "16"), configured="2-15", eligible="2-5,8-13")
    total = totals(found, holdings([found]))
    states = (total.claimed, total.free, total.withheld, total.unavailable, total.not_usable)
    assert states == (2, 7, 1, 1, 3)
    assert (sum(states), total.configured) == (14, 14)
    assert str(total.outside) == "16"


@given(st.lists(st.integers(0, 5), min_size=24, max_size=24))
def test_totals_add_up(states: list[int]) -> None:
    """By CPU: 0 free, 1 and 2 claimed, 3 withheld, 4 offline, 5 claimed and offline."""
    by_state = {state: CpuSet(cpu for cpu, each in enumerate(states) if each == state) for state in range(6)}
    claims = [claim("a", str(by_state[1] | by_state[5]), str(by_state[3])), claim("b", str(by_state[2]))]
    eligible = by_state[0] | by_state[1] | by_state[2] | by_state[3]
    found = listing(*claims, configured="0-23", eligible=str(eligible))
    total = totals(found, holdings([found]))
    assert total.claimed + total.free + total.withheld + total.unavailable + total.not_usable == total.configured == 24
    assert (total.withheld, total.not_usable) == (len(by_state[3]), len(by_state[4]))
    assert total.not_usable_cpus == by_state[4]


def test_sibling_withheld_because_of_a_claim_in_the_other_pool_counts() -> None:
    general = listing(claim("osd", "0", "2", pool="general"), pool="general", configured="0-1", eligible="0-1")
    isolated = listing().model_copy(update={"remaining_available_cpus": 13})
    total = totals(isolated, holdings([isolated, general]))
    assert (total.free, total.withheld, total.not_usable) == (13, 1, 0)


def test_lists_that_are_too_long_to_read_are_refused() -> None:
    endless = claim("a", "2").model_copy(update={"allocated_cores": "2," * 1_000_001})
    with pytest.raises(TooLongError):
        holdings([FOUND.model_copy(update={"allocations": [endless]})])
