# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Moving: the requests that place a claim again, and what they ask for."""

from __future__ import annotations

from epa_orchestrator.allocation.moving import Movable, movable, without
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.policy import Wishes
from tests.unit.allocation.rooms import Host
from tools.synthetic import Shape

#: Two nodes of four CPUs: 0-3 and 4-7.
TWO_NODES = Shape(packages=2, cores_per_l3=4, isolated="0-7")
#: Cores of two threads: 0 and 4, 1 and 5 in node 0; 2 and 6, 3 and 7 in node 1.
THREADS = Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="0-7")


def moved(host: Host, service: str) -> Movable:
    found = movable(host.ledger.claims[service], host.pools.isolated, host.nodes)
    assert found is not None
    return found


def steps(how: Movable) -> list[tuple[int, int | None]]:
    """The number of CPUs and the NUMA node of each step."""
    return [(step.count, step.node.id if step.node else None) for step in how.steps]


def test_a_claim_is_placed_by_its_size_and_wishes() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 3, wishes=Wishes(numa_policy="single-numa-node")))
    how = moved(host, "a")
    assert steps(how) == [(3, None)]
    assert how.steps[0].wishes == Wishes(numa_policy="single-numa-node")


def test_cpus_by_numa_node_are_asked_for_in_that_node() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, node=1))
    host.hold(host.wanted("a", 1, node=0))
    assert steps(moved(host, "a")) == [(1, 0), (2, 1)]


def test_ordinary_cpus_are_asked_for_first() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 3))
    host.hold(host.wanted("a", 2, node=1))
    how = moved(host, "a")
    assert steps(how) == [(3, None), (2, 1)]
    after = how.place(without(host.ledger, (host.ledger.claims["a"],)))
    assert after is not None
    assert (str(after.claims["a"].cpus), str(after.claims["a"].explicit)) == ("0-2,4-5", "4-5")


def test_a_claim_in_an_unknown_node_cannot_be_moved() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, node=1))
    assert movable(host.ledger.claims["a"], host.pools.isolated, {0: CpuSet.parse("0-3")}) is None


def test_a_promise_about_cores_is_kept_under_other_options() -> None:
    host = Host.of(THREADS, cpu_thread_policy="isolate")
    host.hold(host.wanted("a", 1))
    after = Host.of(THREADS)
    after.ledger = host.ledger
    assert moved(after, "a").steps[0].wishes.cpu_thread_policy == "isolate"


def test_a_claim_that_would_take_cpus_of_others_is_not_placed() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 3, node=0))
    host.hold(host.wanted("b", 5))
    host.ledger = without(host.ledger, (host.ledger.claims["a"],))
    host.hold(host.wanted("c", 2))
    held = Host.of(TWO_NODES)
    held.hold(held.wanted("a", 3, node=0))
    assert moved(held, "a").place(host.ledger) is None


def test_a_steered_claim_is_near_the_node() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2))
    how = moved(host, "a")
    assert how.can_be_steered
    after = how.near(1).place(without(host.ledger, (host.ledger.claims["a"],)))
    assert after is not None
    assert str(after.claims["a"].cpus) == "4-5"


def test_a_claim_with_a_node_to_be_near_is_not_steered() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, wishes=Wishes(near=0)))
    assert not moved(host, "a").can_be_steered
