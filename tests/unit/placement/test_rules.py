# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Rules: which rule a choice breaks, the limits that a policy sets, and the sentence of a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import Limits, Unplaceable, broken_rule, limits
from epa_orchestrator.placement.search import place
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import build_topology
from tests.machines import made_up
from tools.synthetic import Shape

# Package/node 0: L3 {0,1,8,9}, L3 {2,3,10,11};  package/node 1: L3 {4,5,12,13}, L3 {6,7,14,15}; siblings 8 apart.
EIGHT_CORES = Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2)
TOPOLOGY = build_topology(made_up(EIGHT_CORES), CpuSet(range(16)), EMPTY)


def task(count: int, *, free: str = "0-15", own: str = "", node: int | None = None, **policy: Any) -> Task:
    return Task(TOPOLOGY, CpuSet.parse(free), CpuSet.parse(own), count, PlacementPolicy(**policy), node=node)


@pytest.mark.parametrize(
    ("policy", "free", "chosen", "broken"),
    [
        ({}, "0-15", "0,4,8", None),
        ({"cpu_thread_policy": "require"}, "0-15", "0,8", None),
        ({"cpu_thread_policy": "require"}, "0-15", "0-1,8",
         "cpu-thread-policy=require allows whole cores only, but the service would have only a part of 1 core"),
        ({"cpu_thread_policy": "isolate"}, "0-15", "0-1", None),
        ({"cpu_thread_policy": "isolate"}, "0-15", "0-1,8-9",
         ("cpu-thread-policy=isolate allows one thread per core and no shared core, and 2 cores would break this: the"
          " service itself would have CPUs 0-1,8-9 of these cores")),
        ({"cpu_thread_policy": "isolate"}, "0-7,9", "0-1,9",
         ("cpu-thread-policy=isolate allows one thread per core and no shared core, and 2 cores would break this:"
          " other services have CPU 8 and the service itself would have CPUs 1,9 of these cores")),
        ({"cpu_thread_policy": "isolate"}, "0-7", "0",
         ("cpu-thread-policy=isolate allows one thread per core and no shared core, and 1 core would break this:"
          " other services have CPU 8 of these cores")),
        ({"numa_policy": "single-numa-node"}, "0-15", "0,4",
         "numa-policy=single-numa-node allows 1 NUMA node, and 2 would be needed"),
        ({"numa_policy": "restricted"}, "0-15", "0,4",
         "numa-policy=restricted allows 1 NUMA node, and 2 would be needed"),
        ({"uncore_cache_alignment": "require"}, "0-15", "0,2",
         "uncore-cache-alignment=require allows 1 L3 domain, and 2 would be needed"),
    ],
)  # fmt: skip
def test_broken_rule(policy: dict[str, Any], free: str, chosen: str, broken: str | None) -> None:
    cpus = CpuSet.parse(chosen)
    rule = broken_rule(task(len(cpus), free=free, **policy), cpus)
    assert (str(rule) if rule else None) == broken


def test_the_rule_on_threads_is_named_first() -> None:
    rule = broken_rule(task(2, cpu_thread_policy="require", numa_policy="restricted"), CpuSet([0, 4]))
    assert rule is not None
    assert rule.option == "cpu-thread-policy"


@pytest.mark.parametrize(
    ("count", "node", "policy", "expected"),
    [
        (9, None, {}, Limits(2, 4)),  # all there are
        (9, None, {"numa_policy": "single-numa-node"}, Limits(1, 4, mixed=False)),
        (9, None, {"numa_policy": "restricted"}, Limits(2, 4, mixed=False)),
        (8, None, {"numa_policy": "restricted"}, Limits(1, 4, mixed=False)),
        (8, 0, {"numa_policy": "restricted"}, Limits(2, 4)),  # the request names its node
        (9, None, {"uncore_cache_alignment": "require"}, Limits(2, 3)),
        (4, 1, {"uncore_cache_alignment": "require"}, Limits(2, 1)),
    ],
)
def test_limits(count: int, node: int | None, policy: dict[str, str], expected: Limits) -> None:
    assert limits(task(count, node=node, **policy)) == expected


@pytest.mark.parametrize(("allowed", "allows"), [(Limits(1, 2), True), (Limits(1, 1), False), (Limits(0, 2), False)])
def test_limits_allow_no_more_domains(allowed: Limits, allows: bool) -> None:
    assert allowed.allow(TOPOLOGY, CpuSet([0, 2])) is allows


def refusal(refused: Task) -> Unplaceable:
    with pytest.raises(Unplaceable) as caught:
        place(refused)
    return caught.value


def test_a_refusal_states_the_rule_and_the_best_choice_without_it() -> None:
    assert str(refusal(task(9, numa_policy="single-numa-node"))) == (
        "9 CPUs cannot be placed: numa-policy=single-numa-node allows 1 NUMA node, and 2 would be needed. Otherwise the"
        " best choice would be 0-4,8-11 (numa_nodes=2, packages=2, node_distance=32, split_cores=1, l3_domains=3,"
        " l3_left_over=3, scope_left_over=7)"
    )


def test_a_refusal_says_when_the_held_cpus_break_the_rule() -> None:
    sentence = str(refusal(task(3, free="1-3,5-15", own="0,4", numa_policy="single-numa-node")))
    assert "; the CPUs that the service holds break it already: release them first. Otherwise" in sentence


def test_a_repeated_refusal_says_the_same() -> None:
    first, second = (refusal(task(9, numa_policy="single-numa-node")) for _ in range(2))
    assert (str(first), first.choice, first.rule) == (str(second), second.choice, second.rule)


def test_a_remembered_refusal_keeps_no_traceback() -> None:
    assert refusal(task(9, numa_policy="single-numa-node")).without_traceback().__traceback__ is None
