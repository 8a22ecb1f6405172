"""Pace: which requests the event loop decides itself, and when."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.pace import Pace
from epa_orchestrator.pools import Pools, build_pools
from epa_orchestrator.protocol import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Mutation,
)
from epa_orchestrator.settings import parse_settings
from tests.machines import made_up
from tools.synthetic import Shape

#: Seconds: below and above what counts as quick (1 ms).
QUICK, SLOW = 0.0005, 0.002


def pools(**options: object) -> Pools:
    machine = made_up(Shape(cores_per_l3=4, isolated="0-3"))
    return build_pools(machine, None, parse_settings(options))


def cores(count: int, **more: Any) -> AllocateCores:
    return AllocateCores(action="allocate_cores", service_name="a", num_of_cores=count, **more)


def percent(share: int) -> AllocateCoresPercent:
    return AllocateCoresPercent(action="allocate_cores_percent", service_name="a", percent=share)


def numa(count: int) -> AllocateNumaCores:
    return AllocateNumaCores(action="allocate_numa_cores", service_name="a", numa_node=0, num_of_cores=count)


def hugepages() -> AllocateHugepages:
    return AllocateHugepages(
        action="allocate_hugepages", service_name="a", node_id=0, size_kb=2048, hugepages_requested=1
    )


def warm(at: Pools) -> Pace:
    """A pace after just enough quick decisions."""
    pace = Pace()
    pace.note(at, 16, QUICK)
    return pace


def test_the_loop_decides_after_sixteen_quick_decisions() -> None:
    at, pace = pools(), Pace()
    pace.note(at, 15, QUICK)
    assert not pace.is_quick(at, [cores(1)])
    pace.note(at, 1, QUICK)
    assert pace.is_quick(at, [cores(1)])


def test_a_slow_decision_starts_the_count_again() -> None:
    at = pools()
    pace = warm(at)
    pace.note(at, 1, SLOW)
    assert not pace.is_quick(at, [cores(1)])
    pace.note(at, 16, QUICK)
    assert pace.is_quick(at, [cores(1)])


def test_quick_decisions_on_other_pools_do_not_count() -> None:
    before, now = pools(), pools()
    pace = warm(before)
    assert not pace.is_quick(now, [cores(1)])
    pace.note(now, 15, QUICK)
    assert not pace.is_quick(now, [cores(1)])


@pytest.mark.parametrize(
    ("request_", "easy"),
    [
        (cores(-1), True),
        (cores(0), False),
        (cores(1), True),
        (cores(32), True),
        (cores(33), False),
        (cores(1, explain=True), False),
        (cores(1, numa_policy="restricted"), False),
        (cores(1, cpu_thread_policy="require"), False),
        (cores(1, uncore_cache_alignment="require"), False),
        (cores(1, near=0), False),
        (numa(1), True),
        (numa(33), False),
        (percent(0), True),
        (percent(1), False),
        (hugepages(), True),
    ],
)
def test_only_small_requests_without_wishes_are_left_to_the_loop(request_: Mutation, easy: bool) -> None:
    at = pools()
    assert warm(at).is_quick(at, [request_]) is easy


@pytest.mark.parametrize(("request_", "easy"), [(cores(1), False), (cores(-1), True), (hugepages(), True)])
def test_a_rule_of_the_operator_leaves_only_what_it_cannot_refuse(request_: Mutation, easy: bool) -> None:
    at = pools(**{"cpu-thread-policy": "require"})
    assert warm(at).is_quick(at, [request_]) is easy


def test_one_hard_request_takes_its_whole_batch_to_the_thread() -> None:
    at = pools()
    assert not warm(at).is_quick(at, [cores(1), cores(33), cores(1)])
