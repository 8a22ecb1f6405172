# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Pace: the loop decides only small requests, where decisions on the present pools have been quick."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.pace import Pace
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Mutation,
)
from tools.synthetic import Shape, build


def pools() -> Pools:
    return Host(RecordedSysfs(build(Shape(packages=2, isolated="1-3,5-7"))), Settings()).pools()


def request(action: str, **fields: Any) -> Mutation:
    mutation = validate({"action": action, "service_name": "a", **fields})
    assert isinstance(mutation, AllocateCores | AllocateCoresPercent | AllocateNumaCores | AllocateHugepages)
    return mutation


ANY = request("allocate_cores", num_of_cores=1)
NODE_0 = request("allocate_numa_cores", numa_node=0, num_of_cores=1)
NODE_1 = request("allocate_numa_cores", numa_node=1, num_of_cores=1)
GENERAL = request("allocate_cores", num_of_cores=1, pool="general")
NOTHING = Ledger()
RELEASE = request("allocate_cores", num_of_cores=-1)
PAGES = request("allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=1)


@pytest.mark.parametrize(
    ("quick_ones", "others"),
    [
        ([PAGES, RELEASE], [ANY, NODE_0, NODE_1, GENERAL]),
        ([ANY], [NODE_0, NODE_1, GENERAL, PAGES]),
        ([NODE_0], [ANY, NODE_1, GENERAL, RELEASE]),
    ],
)
def test_quick_decisions_count_only_for_the_same_pool_and_node(
    quick_ones: list[Mutation], others: list[Mutation]
) -> None:
    pace, present = Pace(), pools()
    assert not any(pace.is_quick(present, NOTHING, [each]) for each in quick_ones)
    for _ in range(16):
        pace.note(present, NOTHING, quick_ones, 0.0001)
    assert pace.is_quick(present, NOTHING, quick_ones)
    assert not any(pace.is_quick(present, NOTHING, [*quick_ones, each]) for each in others)


def test_a_slow_decision_starts_the_count_again() -> None:
    pace, present = Pace(), pools()
    pace.note(present, NOTHING, [ANY] * 16, 0.0001)
    assert pace.is_quick(present, NOTHING, [ANY])
    pace.note(present, NOTHING, [ANY], 0.002)
    assert not pace.is_quick(present, NOTHING, [ANY])


def test_other_pools_start_the_count_again() -> None:
    pace, present = Pace(), pools()
    pace.note(present, NOTHING, [ANY] * 16, 0.0001)
    assert pace.is_quick(present, NOTHING, [ANY])
    pace.note(pools(), NOTHING, [ANY], 0.0001)
    assert not pace.is_quick(present, NOTHING, [ANY])


@pytest.mark.parametrize(
    "fields", [{"num_of_cores": 0}, {"num_of_cores": 33}, {"explain": True}, {"cpu_thread_policy": "isolate"}]
)
def test_a_request_that_may_take_long_is_never_quick(fields: dict[str, Any]) -> None:
    pace, present = Pace(), pools()
    pace.note(present, NOTHING, [ANY] * 16, 0.0001)
    assert not pace.is_quick(present, NOTHING, [request("allocate_cores", **{"num_of_cores": 1} | fields)])


@pytest.mark.parametrize(("held", "quick"), [("0-31", True), ("0-32", False)])
def test_a_large_claim_that_shrinks_is_never_quick(held: str, quick: bool) -> None:
    """On 4,096 CPUs shrinking 1,000 CPUs to 8 held the event loop for 23 ms."""
    present = Host(RecordedSysfs(build(Shape(cores_per_l3=64, isolated="0-63"))), Settings()).pools()
    ledger = Ledger.of([Claim("a", "isolated", CpuSet.parse(held), EMPTY, "legacy")], {})
    pace = Pace()
    pace.note(present, ledger, [ANY] * 16, 0.0001)
    assert pace.is_quick(present, ledger, [ANY]) == quick


#: A claimed CPU that is in no pool. Each change in it needs another topology: on 4,096 CPUs that took 22 ms.
OUTSIDE = Ledger.of([Claim("b", "isolated", CpuSet([4]), EMPTY, "legacy")], {})


def test_nothing_is_quick_while_a_claimed_cpu_is_in_no_pool() -> None:
    pace, present = Pace(), pools()
    pace.note(present, NOTHING, [ANY] * 16, 0.0001)
    assert pace.is_quick(present, NOTHING, [ANY])
    assert not pace.is_quick(present, OUTSIDE, [ANY])


def test_a_decision_with_a_claimed_cpu_in_no_pool_starts_the_count_again() -> None:
    pace, present = Pace(), pools()
    pace.note(present, NOTHING, [ANY, RELEASE] * 16, 0.0001)
    pace.note(present, OUTSIDE, [RELEASE] * 16, 0.0001)
    assert not pace.is_quick(present, NOTHING, [ANY])
