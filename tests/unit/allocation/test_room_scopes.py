# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room scopes: what is missing where, and which claims can free as much."""

from __future__ import annotations

from epa_orchestrator.allocation.allocate import Terms
from epa_orchestrator.allocation.moving import Movable, movable
from epa_orchestrator.allocation.room_scopes import Question, Scope, reclaimable, scopes_of
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from tests.unit.allocation.rooms import Host
from tools.synthetic import Shape

#: Two nodes of four CPUs: 0-3 and 4-7.
TWO_NODES = Shape(packages=2, cores_per_l3=4, isolated="0-7")
#: Cores of two threads: 0 and 4, 1 and 5 in node 0; 2 and 6, 3 and 7 in node 1.
THREADS = Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="0-7")
STRICT = PlacementPolicy(numa_policy="single-numa-node")


def movables(host: Host) -> list[Movable]:
    found = [movable(claim, host.pools.isolated, host.nodes) for claim in host.ledger.claims.values()]
    return [each for each in found if each is not None]


def scopes(host: Host, count: int, policy: PlacementPolicy, node: int | None = None) -> list[Scope]:
    where = None if node is None else host.node(node)
    question = Question(Terms("new"), count, where, policy)
    return scopes_of(host.ledger, host.pools.isolated, movables(host), question, lambda: False)


def gains(scope: Scope) -> dict[str, int]:
    return {each.claim.service: gain for each, gain in zip(scope.claims, scope.gains, strict=True)}


def test_each_node_is_a_scope_under_a_strict_rule() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, wishes=Wishes(near=0)))
    host.hold(host.wanted("b", 3, wishes=Wishes(near=1)))
    first, second = scopes(host, 4, STRICT)
    assert (first.missing, gains(first)) == (2, {"a": 2, "b": 0})
    assert (second.missing, gains(second)) == (3, {"b": 3, "a": 0})


def test_the_whole_pool_is_the_scope_without_rules() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2))
    (scope,) = scopes(host, 7, PlacementPolicy())
    assert (scope.missing, gains(scope)) == (1, {"a": 2})


def test_cpus_that_were_asked_for_by_node_free_nothing_in_it() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, node=0))
    (scope,) = scopes(host, 4, PlacementPolicy(), node=0)
    assert (scope.missing, gains(scope)) == (2, {"a": 0})


def test_cores_count_under_isolate() -> None:
    host = Host.of(THREADS)
    host.hold(host.wanted("a", 1, wishes=Wishes(near=0)))
    (scope,) = scopes(host, 4, PlacementPolicy(cpu_thread_policy="isolate"))
    assert (scope.missing, gains(scope)) == (1, {"a": 1})


def test_withheld_threads_are_freed() -> None:
    host = Host.of(THREADS)
    host.hold(host.wanted("a", 1, wishes=Wishes(cpu_thread_policy="isolate", near=0)))
    (scope,) = scopes(host, 8, PlacementPolicy())
    assert (scope.missing, gains(scope)) == (2, {"a": 2})


def test_only_sets_that_free_enough_are_given() -> None:
    host = Host.of(Shape(cores_per_l3=8, isolated="0-7"))
    for service, count in (("a", 1), ("b", 2), ("c", 3)):
        host.hold(host.wanted(service, count))
    (scope,) = scopes(host, 6, PlacementPolicy())
    assert scope.missing == 4
    names = [[each.claim.service for each in chosen] for size in (1, 2) for chosen in scope.sets(size)]
    assert names == [["c", "b"], ["c", "a"]]


def test_a_legacy_service_may_take_reclaimable_cpus_of_a_node() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2))
    pool = host.pools.isolated
    assert str(reclaimable(host.ledger, pool, Terms("new"), host.node(0))) == "0-1"
    assert not reclaimable(host.ledger, pool, Terms("new", "non-preemptive"), host.node(0))
    assert not reclaimable(host.ledger, pool, Terms("new"), None)
