# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sentences: what decided, for each kind of request; more about placements is in test_explanation."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import Terms, allocate, release
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import build_pools
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.allocation.taken import NOTHING_TAKEN, Taken
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import sentences
from epa_orchestrator.placement.cost import LEVELS
from epa_orchestrator.placement.difference import Difference
from epa_orchestrator.placement.policy import Wishes
from epa_orchestrator.placement.search import Placed
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import AllocateHugepages, Allocating
from tests.machines import made_up
from tools.synthetic import Shape

POOLS = build_pools(
    made_up(Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15")), None, parse_settings({})
)
HELD = Ledger.of([Claim("a", "isolated", CpuSet.parse("2-3"), EMPTY, "legacy")], {})


def request(action: str, **fields: object) -> Allocating:
    found = validate({"action": action, "service_name": "a", **fields})
    assert isinstance(found, Allocating)
    return found


def test_a_release() -> None:
    grant = release(HELD, "isolated", "a")
    asked = request("allocate_cores", num_of_cores=-1)
    assert sentences.of_change(asked, grant, NOTHING_TAKEN) == "The service gives back all its CPUs."
    asked = request("allocate_numa_cores", numa_node=0, num_of_cores=-1)
    assert sentences.of_change(asked, grant, NOTHING_TAKEN) == "The service gives back its CPUs of NUMA node 0."


@pytest.mark.parametrize(
    ("near", "named"), [(1, "NUMA node 1, which the request names"), ("eth0", "eth0 (NUMA node 1)")]
)
def test_what_to_be_near_is_named_as_the_request_names_it(near: int | str, named: str) -> None:
    grant = allocate(Ledger(), POOLS.isolated, Terms("a", wishes=Wishes(near=1)), 1)
    sentence = sentences.of_change(request("allocate_cores", num_of_cores=1, near=near), grant, NOTHING_TAKEN)
    assert sentence == (
        f"NUMA node 1 is closer to {named}: the sum of the distances is 10, for NUMA node 0 it would be 32."
    )


@pytest.mark.parametrize(
    ("asked", "count", "begin"),
    [
        (request("allocate_cores"), None, "The default size comes to 9 CPUs. Only NUMA nodes 0-1 are possible"),
        (request("allocate_cores_percent", percent=1), 1, "1 % of the pool comes to 1 CPU. NUMA node 0 fits tighter"),
        (request("allocate_cores", num_of_cores=1), 1, "NUMA node 0 fits tighter: it leaves 3 CPUs of its L3 caches"),
    ],
)
def test_a_size_that_the_request_does_not_name(asked: Allocating, count: int | None, begin: str) -> None:
    grant = allocate(Ledger(), POOLS.isolated, Terms("a"), count)
    assert sentences.of_change(asked, grant, NOTHING_TAKEN).startswith(begin)


def test_a_service_that_keeps_what_it_holds() -> None:
    grant = allocate(HELD, POOLS.isolated, Terms("a"), 2)
    sentence = sentences.of_change(request("allocate_cores", num_of_cores=2), grant, NOTHING_TAKEN)
    assert sentence == "The service keeps the CPUs that it holds: it asks for as many as it has."


def test_services_that_lose_cpus() -> None:
    asked = request("allocate_numa_cores", numa_node=1, num_of_cores=2)
    sentence = sentences.of_loss(asked, "ovs", Taken({"nova": "2"}))
    assert sentence is not None
    assert sentence.startswith("'ovs' asked for CPUs of NUMA node 1, and such a request may take CPUs")
    assert sentences.of_loss(asked, "ovs", NOTHING_TAKEN) is None


def test_hugepages() -> None:
    fields = {"service_name": "a", "node_id": 0, "size_kb": 2048}
    asked = validate({"action": "allocate_hugepages", "hugepages_requested": 4, **fields})
    assert isinstance(asked, AllocateHugepages)
    expected = "4 hugepages fit into the 10 of 2M on NUMA node 0 that the service could have."
    assert sentences.of_hugepages(asked, 10) == expected
    one = validate({"action": "allocate_hugepages", "hugepages_requested": 1, **fields, "size_kb": 1_048_576})
    assert isinstance(one, AllocateHugepages)
    expected = "1 hugepage fits into the 10 of 1G on NUMA node 0 that the service could have."
    assert sentences.of_hugepages(one, 10) == expected
    removed = validate({"action": "allocate_hugepages", "hugepages_requested": -1, **fields})
    assert isinstance(removed, AllocateHugepages)
    expected = "The service removes its record of hugepages of 2M on NUMA node 0."
    assert sentences.of_hugepages(removed, 10) == expected


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "lowest_cpu"])
def test_every_level_has_words(level: str) -> None:
    task = allocate(Ledger(), POOLS.isolated, Terms("a"), 2).task
    assert task is not None
    sentence = sentences.of_grant(task, Placed([CpuSet.parse("2,10")], Difference((1,), level, 1, 12)))
    assert sentence.startswith("NUMA node 0 ")
    assert ", NUMA node 1 would " in sentence or ", for NUMA node 1 it would be 12." in sentence
    assert " 12" in sentence
    assert "{" not in sentence


def test_all_nodes_that_are_equally_good_are_named() -> None:
    grant = allocate(Ledger(), FOUR_NODES.isolated, Terms("a"), 2)
    assert grant.task is not None
    assert sentences.of_grant(grant.task, grant.placed) == (
        "NUMA nodes 0-3 are equally good; the lower CPU ids decide."
    )


def test_sets_of_nodes_that_are_equally_good_are_counted() -> None:
    """Any two of four nodes hold 9 CPUs, but only those of one package are compared."""
    grant = allocate(Ledger(), FOUR_NODES.isolated, Terms("a"), 9)
    assert grant.task is not None
    assert sentences.of_grant(grant.task, grant.placed) == (
        "NUMA nodes 0-1 and NUMA nodes 2-3 are equally good; the lower CPU ids decide."
    )
    placed = Placed([CpuSet.parse("0,4")], Difference((0, 2), equal=((0, 2), (1, 2))))
    assert sentences.of_grant(grant.task, placed) == (
        "NUMA nodes 0-1 and 2 other sets of NUMA nodes are equally good; the lower CPU ids decide."
    )


def test_several_nodes_have_a_plural() -> None:
    task = allocate(Ledger(), POOLS.isolated, Terms("a"), 2).task
    assert task is not None
    placed = Placed([CpuSet.parse("2,4")], Difference((2, 3), "l3_left_over", 4, 8))
    assert sentences.of_grant(task, placed) == (
        "NUMA nodes 0-1 fit tighter: they leave 4 CPUs of their L3 caches unused, NUMA nodes 2-3 would leave 8."
    )


#: Nodes 0 to 3 have CPUs 0-3,16-19, 4-7,20-23, and so on; two are in each package, with a distance of 12.
FOUR_NODES = build_pools(
    made_up(Shape(packages=2, nodes_per_package=2, cores_per_l3=4, threads_per_core=2, isolated="0-31")),
    None,
    parse_settings({}),
)


@pytest.mark.parametrize(
    ("held", "count", "wishes", "expected"),
    [
        ("0-2,4-6,8", 13, {},
         "NUMA nodes 2-3 are the closest 2 that can hold 13 CPUs: the sum of the distances is 12."),
        ("0-2,4-6,8", 14, {"near": 3}, "NUMA nodes 2-3 are the only 2 that can hold 14 CPUs."),
        ("0-2,4-6,8-9", 7, {"numa_policy": "single-numa-node"},
         "NUMA node 3 is the only one that can hold 7 CPUs: at most 6 are free in another."),
        ("0-1,4-5,8-9", 6, {"cpu_thread_policy": "require"},
         "NUMA node 3 is the only one that can hold 6 CPUs with cpu-thread-policy=require."),
        ("0-15,16-27", 2, {}, "Only NUMA node 3 is possible: no other NUMA node has free CPUs of the pool."),
    ],
)  # fmt: skip
def test_the_only_choice_that_was_compared(held: str, count: int, wishes: dict[str, Any], expected: str) -> None:
    ledger = Ledger.of([Claim("other", "isolated", CpuSet.parse(held), EMPTY, "legacy")], {})
    grant = allocate(ledger, FOUR_NODES.isolated, Terms("a", wishes=Wishes(**wishes)), count)
    assert grant.task is not None
    assert sentences.of_grant(grant.task, grant.placed) == expected
