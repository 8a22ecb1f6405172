# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Cores with threads in two NUMA nodes: whole in what is withheld, required and counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import Grant, Terms, allocate, allocate_in_node
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon.summary import of_grant
from epa_orchestrator.placement.policy import NO_WISHES, Wishes
from epa_orchestrator.protocol.answers import Placement
from tests.builders import claim, cpus
from tests.machines import made_up, with_cores
from tools.synthetic import Shape

#: Node 0 has 0-3, node 1 has 4-7, each with an L3; siblings are n and n+4.
GUEST = with_cores(made_up(Shape(nodes_per_package=2, isolated="0-7")), [f"{n},{n + 4}" for n in range(4)])
NODES = (NodeCpus(0, cpus("0-3")), NodeCpus(1, cpus("4-7")))
ISOLATE = Wishes(cpu_thread_policy="isolate")
REQUIRE = Wishes(cpu_thread_policy="require")


def guest(**options: Any) -> Pools:
    return build_pools(GUEST, None, parse_settings({k.replace("_", "-"): v for k, v in options.items()}))


def holding(*held: tuple[str, str]) -> Ledger:
    """Services with their CPUs."""
    return Ledger.of([claim(service, own) for service, own in held], {}, guest().cores)


def granted(ledger: Ledger, service: str, count: int, wishes: Wishes = NO_WISHES, **options: Any) -> Grant:
    return allocate(ledger, guest(**options).isolated, Terms(service, wishes=wishes), count)


def in_node(ledger: Ledger, service: str, node: int, count: int, wishes: Wishes = NO_WISHES) -> Grant:
    return allocate_in_node(ledger, guest().isolated, Terms(service, wishes=wishes), NODES[node], count)


def placement(grant: Grant) -> Placement:
    pools = guest()
    found = of_grant(grant, grant.ledger.free(pools.isolated), pools.configured)
    assert found is not None
    return found


def test_isolate_withholds_the_siblings_in_the_other_node() -> None:
    grant = granted(Ledger(), "a", 2, ISOLATE)
    assert (str(grant.cpus), placement(grant).withheld_cpus) == ("0-1", "4-5")


def test_isolate_takes_one_thread_of_each_core_of_both_nodes() -> None:
    ledger = holding(("b", "3"))
    grant = granted(ledger, "a", 3, ISOLATE)
    assert str(grant.cpus) == "0-2"
    with pytest.raises(Refused, match="one thread per core"):
        granted(ledger, "a", 4, ISOLATE)


def test_withheld_siblings_are_free_for_no_one_else() -> None:
    ledger = granted(Ledger(), "a", 2, ISOLATE).ledger
    assert str(in_node(ledger, "b", 1, 2).cpus) == "6-7"
    with pytest.raises(Refused):
        in_node(ledger, "b", 1, 3)


def test_a_whole_core_takes_cpus_of_both_nodes() -> None:
    grant = granted(Ledger(), "a", 4, REQUIRE)
    found = placement(grant)
    assert str(grant.cpus) == "0-1,4-5"
    assert (found.numa_nodes, found.whole_cores, found.shared_cores) == ("0-1", 2, 0)


@pytest.mark.parametrize("numa_policy", ["best-effort", "none", "restricted"])
def test_require_is_granted_where_a_core_needs_two_nodes(numa_policy: str) -> None:
    assert str(granted(Ledger(), "a", 2, REQUIRE, numa_policy=numa_policy).cpus) == "0,4"


def test_require_is_refused_in_one_node() -> None:
    with pytest.raises(Refused, match="only a part of 1 core"):
        in_node(Ledger(), "a", 1, 1, REQUIRE)
    with pytest.raises(Refused, match="numa-policy=single-numa-node allows 1 NUMA node, and 2 would be needed"):
        granted(Ledger(), "a", 2, REQUIRE, numa_policy="single-numa-node")


def test_prefer_keeps_to_one_node() -> None:
    assert str(granted(Ledger(), "a", 4).cpus) == "0-3"


def test_prefer_avoids_cores_that_another_service_has_in_the_other_node() -> None:
    grant = granted(holding(("b", "0-1")), "a", 2, numa_policy="single-numa-node")
    assert str(grant.cpus) == "2-3"
    assert str(in_node(holding(("b", "0-1")), "a", 1, 2).cpus) == "6-7"


def test_cores_shared_across_nodes_are_counted() -> None:
    grant = in_node(holding(("b", "0-1")), "a", 1, 3)
    found = placement(grant)
    assert (str(grant.cpus), found.whole_cores, found.shared_cores) == ("4,6-7", 0, 1)


def test_a_service_shares_no_core_with_itself() -> None:
    grant = in_node(holding(("a", "2"), ("b", "0-1")), "a", 1, 2)
    assert (str(grant.cpus), placement(grant).shared_cores) == ("6-7", 0)


def test_isolate_in_a_node_leaves_the_cores_that_the_service_has_in_the_other() -> None:
    ledger = granted(Ledger(), "a", 2, ISOLATE).ledger
    grant = in_node(ledger, "a", 1, 2, ISOLATE)
    assert grant.claim is not None
    assert (str(grant.claim.cpus), str(grant.claim.withheld)) == ("0-1,6-7", "2-5")
    with pytest.raises(Refused):
        in_node(grant.ledger, "a", 1, 3, ISOLATE)


def test_isolate_in_a_node_refuses_cores_of_others_in_the_other() -> None:
    with pytest.raises(Refused, match="no shared core, and 1 core would break this"):
        in_node(holding(("b", "0-2")), "a", 1, 2, ISOLATE)
    assert str(in_node(holding(("b", "0-2")), "a", 1, 1, ISOLATE).cpus) == "7"


@pytest.mark.parametrize(("policy", "size"), [("require", 6), ("isolate", 3)])  # 80 % of 8 CPUs, and of 4 cores
def test_the_default_size_counts_each_core_once(policy: str, size: int) -> None:
    assert len(allocate(Ledger(), guest(cpu_thread_policy=policy).isolated, Terms("a"), None).cpus) == size


@pytest.mark.parametrize("shown", [("0-1", "2-3"), ("0-3",), ("4-5", "2-3")])
def test_a_whole_core_is_one_where_an_l3_is_shown_for_one_thread(shown: tuple[str, ...]) -> None:
    # Siblings n and n+4 in one node.
    machine = made_up(Shape(cores_per_l3=4, threads_per_core=2, isolated="0-7"))
    pools = build_pools(replace(machine, l3_domains=tuple(map(CpuSet.parse, shown))), None, parse_settings({}))
    grant = allocate(Ledger(), pools.isolated, Terms("a", wishes=REQUIRE), 2)
    found = of_grant(grant, grant.ledger.free(pools.isolated), pools.configured)
    assert found is not None
    assert (str(grant.cpus), found.l3_domains, found.whole_cores, found.shared_cores) == ("0,4", 1, 1, 0)
