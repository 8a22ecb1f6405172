# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Explanation: why these CPUs, or which rule refuses them, in sentences and in the numbers that were compared."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import Grant, Terms, allocate, allocate_in_node, release
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import explanation
from epa_orchestrator.placement.cost import LABELS
from epa_orchestrator.placement.policy import NO_WISHES, Wishes
from epa_orchestrator.placement.search import EXPLAINED_CANDIDATES
from epa_orchestrator.protocol.answers import Explanation
from tests.machines import made_up
from tools.synthetic import Shape

# Node 0 has the cores 2,10 and 3,11 in the pool, node 1 the cores 4,12 to 7,15; each node is one L3 domain.
NODE = {0: CpuSet.parse("0-3,8-11"), 1: CpuSet.parse("4-7,12-15")}


def pools(isolated: str = "2-7,10-15", **options: object) -> Pools:
    machine = made_up(Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated=isolated))
    return build_pools(machine, None, parse_settings({name.replace("_", "-"): each for name, each in options.items()}))


def held(**cpus: str) -> Ledger:
    return Ledger.of([Claim(name, "isolated", CpuSet.parse(own), EMPTY, "legacy") for name, own in cpus.items()], {})


def granted(
    count: int,
    ledger: Ledger | None = None,
    at: Pools | None = None,
    wishes: Wishes = NO_WISHES,
    node: int | None = None,
) -> Grant:
    at, ledger = at or pools(), ledger or Ledger()
    terms = Terms("a", wishes=wishes, choices=EXPLAINED_CANDIDATES)
    if node is None:
        return allocate(ledger, at.isolated, terms, count)
    return allocate_in_node(ledger, at.isolated, terms, NodeCpus(node, NODE[node]), count)


def explained(grant: Grant) -> Explanation:
    """The explanation of a grant, which names its CPUs first."""
    found = explanation.of_grant(grant)
    assert found is not None
    assert found.rule is None
    assert found.scopes[0].cpus == str(grant.cpus)
    for scope in found.scopes:
        assert list(scope.cost) == list(found.scopes[0].cost)
        assert set(scope.cost) <= set(LABELS)
    return found


@pytest.mark.parametrize(
    ("count", "ledger", "at", "wishes", "node", "sentence", "cpus"),
    [
        (
            2,
            held(),
            pools(),
            NO_WISHES,
            None,
            "NUMA node 0 fits tighter: it leaves 2 CPUs of its L3 caches unused, NUMA node 1 would leave 6.",
            ["2,10", "4,12"],
        ),
        (
            2,
            held(),
            pools(numa_allocation_strategy="spread"),
            NO_WISHES,
            None,
            "NUMA node 1 is freer: it leaves 6 CPUs of its L3 caches unused, NUMA node 0 would leave 2.",
            ["4,12", "2,10"],
        ),
        (
            2,
            held(),
            pools(),
            Wishes(near=1),
            None,
            # Twice the distance: 10 in the node itself, 32 from the other package.
            (
                "NUMA node 1 is closer to NUMA node 1, which the request names: the sum of the distances is 20, for"
                " NUMA node 0 it would be 64."
            ),
            ["4,12", "2,10"],
        ),
        (
            2,
            held(b="2,11"),
            pools(),
            NO_WISHES,
            None,
            (
                "NUMA node 1 shares fewer cores with another owner or the operating system: 0, NUMA node 0 would share"
                " 2."
            ),
            ["4,12", "3,10"],
        ),
        (
            2,
            held(),
            pools("2-3,6-7,10-11,14-15"),
            NO_WISHES,
            None,
            "NUMA node 0 and NUMA node 1 are equally good; the lower CPU ids decide.",
            ["2,10", "6,14"],
        ),
        (
            5,
            held(),
            pools(),
            NO_WISHES,
            None,
            "NUMA node 1 is the only one that can hold 5 CPUs: at most 4 are free in another.",
            ["4-6,12-13"],
        ),
        (
            9,
            held(),
            pools(),
            NO_WISHES,
            None,
            "Only NUMA nodes 0-1 are possible: no other NUMA node has free CPUs of the pool.",
            ["2-6,10-13"],
        ),
        (
            2,
            held(a="2-3"),
            pools(),
            NO_WISHES,
            None,
            "The service keeps the CPUs that it holds: it asks for as many as it has.",
            ["2-3"],
        ),
        (
            1,
            held(a="2-3"),
            pools(),
            NO_WISHES,
            None,
            "The claim shrinks: the service gives up what it uses least, and keeps the rest.",
            ["2"],
        ),
        (
            3,
            held(a="2-3"),
            pools(),
            NO_WISHES,
            None,
            "The claim grows: the service keeps what it holds. It has the best CPUs that are free in NUMA node 0.",
            ["2-3,10"],
        ),
        (
            2,
            held(),
            pools(numa_policy="none"),
            NO_WISHES,
            None,
            "These are the best CPUs of the pool: numa-policy=none compares no NUMA nodes.",
            ["2,10"],
        ),
        (
            2,
            held(),
            pools(numa_policy="none"),
            Wishes(near=1),
            None,
            (
                "These CPUs are in the fewest packages, and of these choices the closest to NUMA node 1, which the"
                " request names: the sum of the distances is 20; numa-policy=none compares no NUMA nodes."
            ),
            ["4,12"],
        ),
        (2, held(), pools(), NO_WISHES, 1, "The request names NUMA node 1; these are the best CPUs in it.", ["4,12"]),
    ],
)
def test_says_what_decided(
    count: int, ledger: Ledger, at: Pools, wishes: Wishes, node: int | None, sentence: str, cpus: list[str]
) -> None:
    found = explained(granted(count, ledger, at, wishes, node))
    assert found.decided_by == sentence
    assert [scope.cpus for scope in found.scopes] == cpus


def test_the_costs_are_those_that_were_compared_in_their_order() -> None:
    found = explained(granted(2))
    assert [scope.numa_nodes for scope in found.scopes] == ["0", "1"]
    assert list(found.scopes[0].cost.items()) == [
        ("numa_nodes", 1),
        ("packages", 1),
        ("reclaimed_cpus", 0),
        ("node_distance", 0),
        ("shared_cores", 0),
        ("split_cores", 0),
        ("l3_domains", 1),
        ("l3_left_over", 2),
        ("scope_left_over", 2),
        ("lowest_cpu", 2),
    ]
    ignoring = explained(granted(2, at=pools(numa_policy="none", uncore_cache_alignment="none")))
    assert list(ignoring.scopes[0].cost) == ["packages", "reclaimed_cpus", "shared_cores", "split_cores", "lowest_cpu"]


def test_the_policy_is_the_operators_with_the_wishes_in_it() -> None:
    assert explained(granted(2, at=pools(cpu_thread_policy="share"))).policy == {
        "numa-policy": "best-effort",
        "numa-allocation-strategy": "packed",
        "prefer-closest-numa-nodes": True,
        "uncore-cache-alignment": "prefer",
        "cpu-thread-policy": "share",
        "cpu-distribution": "packed",
        "prefer-core-type": "none",
    }
    wished = explained(granted(2, wishes=Wishes(cpu_thread_policy="isolate", near=1))).policy
    assert (wished["cpu-thread-policy"], wished["near"]) == ("isolate", 1)


@pytest.mark.parametrize(
    ("ledger", "node", "room"),
    [
        (held(), None, {"0": 4, "1": 8}),
        (held(b="2,4-5"), None, {"0": 3, "1": 6}),
        (held(b="2,4-5", a="3,6"), None, {"0": 3, "1": 6}),  # its own count
        (held(b="2-3,10-11"), None, {"0": 0, "1": 8}),
        (held(), 1, {"0": 0, "1": 8}),
        (held(b="4-5"), 1, {"0": 0, "1": 8}),  # which a request by node may take
    ],
)
def test_the_room_is_what_the_service_could_have(ledger: Ledger, node: int | None, room: dict[str, int]) -> None:
    assert explained(granted(1, ledger, node=node)).room == room


def test_at_most_five_choices_are_shown() -> None:
    machine = made_up(Shape(packages=8, cores_per_l3=2, isolated="0-15"))
    at = build_pools(machine, None, parse_settings({}))
    grant = granted(1, at=at)
    assert [scope.numa_nodes for scope in explained(grant).scopes] == ["0", "1", "2", "3", "4"]


def test_a_release_chooses_nothing() -> None:
    assert explanation.of_grant(release(held(a="2"), "isolated", "a")) is None


@pytest.mark.parametrize(
    ("count", "ledger", "options", "rule", "sentence", "nodes", "cpus"),
    [
        (
            3,
            held(),
            {"cpu_thread_policy": "require"},
            "cpu-thread-policy",
            "cpu-thread-policy=require allows whole cores only, but the service would have only a part of 1 core",
            "0",
            "2-3,10",
        ),
        (
            4,
            held(b="2,5-7"),
            {"cpu_thread_policy": "isolate"},
            "cpu-thread-policy",
            (
                "cpu-thread-policy=isolate allows one thread per core and no shared core, and 3 cores would break this:"
                " other services have CPUs 5-6 and the service itself would have CPUs 4,12 of these cores"
            ),
            "1",
            "4,12-14",
        ),
        (
            9,
            held(),
            {"numa_policy": "single-numa-node"},
            "numa-policy",
            "numa-policy=single-numa-node allows 1 NUMA node, and 2 would be needed",
            "0-1",
            "2-6,10-13",
        ),
        (
            6,
            held(b="2,4-6"),
            {"numa_policy": "restricted"},
            "numa-policy",
            "numa-policy=restricted allows 1 NUMA node, and 2 would be needed",
            "0-1",
            "3,7,10-12,15",  # the whole cores 3,11 and 7,15, and of 10, 12, 13 and 14 the lowest ids
        ),
        (
            6,
            held(b="2,4-6"),
            {"uncore_cache_alignment": "require"},
            "uncore-cache-alignment",
            "uncore-cache-alignment=require allows 1 L3 domain, and 2 would be needed",
            "0-1",
            "3,7,10-12,15",
        ),
    ],
)
def test_names_the_rule_that_refused(
    count: int, ledger: Ledger, options: dict[str, Any], rule: str, sentence: str, nodes: str, cpus: str
) -> None:
    """The best choice without the rule is shown, and it is the only one."""
    with pytest.raises(Refused) as caught:
        granted(count, ledger, pools(**options))
    assert caught.value.unplaceable is not None
    found = explanation.of_refusal(caught.value.unplaceable)
    assert found.rule == rule
    assert found.decided_by == f"Refused: {sentence}."
    assert [(scope.numa_nodes, scope.cpus) for scope in found.scopes] == [(nodes, cpus)]
    assert str(caught.value).startswith(
        f"{count} CPUs cannot be placed: {sentence}. Otherwise the best choice would be"
    )
    assert f"would be {cpus} (" in str(caught.value)
    assert found.policy[rule] == next(iter(options.values()))


def test_there_is_nothing_to_explain_where_there_are_not_enough_cpus() -> None:
    with pytest.raises(Refused, match="Insufficient CPUs") as caught:
        granted(13)
    assert caught.value.unplaceable is None
