# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Repeated requests: a service that asks for what it holds keeps it, whatever is offline or has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import (
    Grant,
    Terms,
    allocate,
    allocate_in_node,
    allocate_percent,
    release_in_node,
)
from epa_orchestrator.allocation.claims import Change
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pool, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from tests.builders import NODE, SHAPE, claim, cores, cpus, holding, node_cores, owned_and_withheld, pools
from tests.machines import made_up

SETTINGS = parse_settings({"cpu-pool": "1,9"})

# What has happened to a host on which `a` holds CPUs 2-4: CPU 3 is offline or has left the pool, and so on.
LOSSES = {
    "offline": pools(offline="3"),
    "all offline": pools(offline="2-4"),
    "not isolated": pools(isolated="2,4-7"),
    "none isolated": pools(isolated=""),
    "reserved": pools(reserved_cpus="3"),
    "unreadable": build_pools(None, "No CPUs can be granted", SETTINGS, pools().cores),
}


@pytest.fixture(params=LOSSES.values(), ids=list(LOSSES))
def lossy(request: pytest.FixtureRequest) -> Pool:
    """The isolated pool of a host that has lost CPUs."""
    at: Pools = request.param
    return at.isolated


LEDGER = holding(claim("a", "2-4"), claim("b", "5"))


def in_node(pool: Pool, terms: Terms, node: int, count: int, ledger: Ledger = LEDGER) -> Grant:
    return allocate_in_node(ledger, pool, terms, NodeCpus(node, NODE[node]), count)


class TestWithUnavailableCpus:
    """`a` holds CPUs 2-4 of two nodes, and the host has lost some of them, or its whole pool."""

    @pytest.mark.parametrize("count", [None, 3])
    def test_the_same_number_changes_nothing(self, lossy: Pool, count: int | None) -> None:
        grant = allocate(LEDGER, lossy, Terms("a"), count)
        assert (grant.change, grant.cpus, grant.claim) == (Change(), cpus("2-4"), LEDGER.claims["a"])

    def test_nothing_is_chosen_again_either(self, lossy: Pool) -> None:
        pool = replace(lossy, settings=lossy.settings.model_copy(update={"resize_policy": "reallocate"}))
        for count in (None, 3):
            assert not allocate(LEDGER, pool, Terms("a"), count).change

    @pytest.mark.parametrize("count", [1, 2, 4, 6])
    def test_another_number_is_refused(self, lossy: Pool, count: int) -> None:
        with pytest.raises(Refused):
            allocate(LEDGER, lossy, Terms("a"), count)

    def test_the_number_of_a_node_makes_these_cpus_explicit(self, lossy: Pool) -> None:
        grant = in_node(lossy, Terms("a"), 0, 2)
        assert grant.cpus == cpus("2-3")
        assert grant.claim == claim("a", "2-4", explicit="2-3")
        again = in_node(lossy, Terms("a"), 0, 2, grant.ledger)
        assert (again.change, again.cpus) == (Change(), grant.cpus)

    @pytest.mark.parametrize("count", [1, 3])
    def test_another_number_of_a_node_is_refused(self, lossy: Pool, count: int) -> None:
        with pytest.raises(Refused):
            in_node(lossy, Terms("a"), 0, count)

    def test_the_percentage_that_the_claim_has_changes_nothing(self) -> None:
        for at in (LOSSES["offline"], LOSSES["all offline"]):
            grant = allocate_percent(LEDGER, at.isolated, Terms("a"), 25)  # of 12 CPUs
            assert (grant.change, grant.cpus) == (Change(), cpus("2-4"))

    @pytest.mark.parametrize("offline", ["3", "5-7", "3,5-7,13-15", "2-7,10-15"])
    def test_the_percentage_of_the_whole_pool_changes_nothing(self, offline: str) -> None:
        grant = allocate_percent(LEDGER, pools(offline=offline).isolated, Terms("a"), 25)  # of 12 CPUs
        assert (grant.change, grant.cpus) == (Change(), cpus("2-4"))

    def test_the_percentage_is_of_the_eligible_cpus_while_those_of_the_claim_are_online(self) -> None:
        grant = allocate_percent(LEDGER, pools(offline="5-7,13-15").isolated, Terms("a"), 25)  # of 6 CPUs
        assert grant.cpus <= cpus("2-4")
        assert len(grant.cpus) == 2

    @pytest.mark.parametrize("loss", ["none isolated", "unreadable"])
    def test_any_percentage_of_an_unknown_pool_changes_nothing(self, loss: str) -> None:
        grant = allocate_percent(LEDGER, LOSSES[loss].isolated, Terms("a"), 25)
        assert (grant.change, grant.cpus) == (Change(), cpus("2-4"))

    @pytest.mark.parametrize("percent", [10, 50])
    def test_another_percentage_is_refused(self, percent: int) -> None:
        with pytest.raises(Refused, match="release it first"):
            allocate_percent(LEDGER, LOSSES["offline"].isolated, Terms("a"), percent)

    def test_a_smaller_percentage_shrinks_the_claim(self) -> None:
        grant = allocate_percent(LEDGER, pools(offline="5-7").isolated, Terms("a"), 10)
        assert len(grant.cpus) == 1

    def test_may_protect_the_claim(self, lossy: Pool) -> None:
        grant = allocate(LEDGER, lossy, Terms("a", "non-preemptive"), 3)
        assert grant.claim == claim("a", "2-4", policy="non-preemptive")

    def test_does_not_remove_the_protection(self, lossy: Pool) -> None:
        ledger = holding(claim("a", "2-4", policy="non-preemptive"))
        with pytest.raises(Refused, match="release its CPUs before it goes back to legacy"):
            allocate(ledger, lossy, Terms("a", "legacy"), 3)

    def test_the_same_wishes_change_nothing(self, lossy: Pool) -> None:
        wishes = Wishes(cpu_thread_policy="isolate", near=0)
        ledger = holding(replace(claim("a", "2-4"), wishes=wishes, alone=cpus("2-4")))
        assert not allocate(ledger, lossy, Terms("a", wishes=wishes), 3).change

    def test_new_wishes_are_refused(self, lossy: Pool) -> None:
        with pytest.raises(Refused, match=r"release it first|^No "):
            allocate(LEDGER, lossy, Terms("a", wishes=Wishes(numa_policy="restricted")), 3)

    def test_another_service_gets_none_of_them(self, lossy: Pool) -> None:
        try:
            granted = allocate(LEDGER, lossy, Terms("c"), 1).cpus
        except Refused:
            granted = EMPTY
        assert not granted & cpus("2-5")

    def test_an_explanation_describes_the_cpus_that_are_online(self) -> None:
        grant = allocate(LEDGER, LOSSES["offline"].isolated, Terms("a", choices=5), 3)
        assert grant.task is not None
        assert (grant.placed.candidates, grant.task.own) == ([cpus("2,4")], cpus("2,4"))

    def test_nothing_is_described_where_none_is_online(self) -> None:
        for name in ("all offline", "none isolated", "unreadable"):
            grant = allocate(LEDGER, LOSSES[name].isolated, Terms("a", choices=5), 3)
            assert (grant.task, grant.placed.candidates) == (None, [])


class TestNodeThatIsGone:
    """The machine has become one without node 1, in which `a` holds CPU 4."""

    MACHINE = made_up(replace(SHAPE, offline="4-7,12-15"))
    AT = build_pools(replace(MACHINE, nodes=MACHINE.nodes[:1]), None, SETTINGS)

    def test_the_number_held_there_changes_nothing(self) -> None:
        ledger = holding(claim("a", "2-4", explicit="4"))
        grant = in_node(self.AT.isolated, Terms("a"), 1, 1, ledger)
        assert (grant.change, grant.cpus) == (Change(), cpus("4"))

    @pytest.mark.parametrize("service", ["a", "b"])
    def test_any_other_number_is_refused(self, service: str) -> None:
        ledger = holding(claim("a", "2-4"))
        with pytest.raises(Refused, match="NUMA node 1 does not exist"):
            in_node(self.AT.isolated, Terms(service), 1, 2, ledger)

    def test_a_claim_near_it_stays(self) -> None:
        ledger = holding(replace(claim("a", "2-3"), wishes=Wishes(near=1)))
        assert not allocate(ledger, self.AT.isolated, Terms("a", wishes=Wishes(near=1)), 2).change

    def test_nothing_new_is_near_it(self) -> None:
        for terms in (Terms("a", wishes=Wishes(near=1)), Terms("new", wishes=Wishes(near=1))):
            with pytest.raises(Refused, match="near=1: NUMA node 1 does not exist"):
                allocate(holding(claim("a", "2-3")), self.AT.isolated, terms, 2)


class TestDefaultSize:
    """num_of_cores=0: never fewer CPUs than the service holds, and the same ones."""

    @pytest.mark.parametrize(
        "at",
        [
            pools(default_allocation_percent=10),
            pools(large_system_threshold=1, large_system_reserved_cpus=11),
            pools(cpu_thread_policy="require"),
            pools(cpu_thread_policy="isolate"),
            pools(numa_policy="single-numa-node"),
            pools(default_allocation_percent=10, resize_policy="reallocate"),
            pools(offline="7,15"),
            pools(isolated="2-6,10-14"),
        ],
    )
    def test_never_shrinks_the_claim(self, at: Pools) -> None:
        ledger = holding(claim("a", "2-6,10-13"))  # floor(0.8 * 12)
        grant = allocate(ledger, at.isolated, Terms("a"), None)
        assert (grant.change, grant.cpus) == (Change(), cpus("2-6,10-13"))

    @pytest.mark.parametrize("resize", ["in-place", "reallocate"])
    def test_grows_in_place(self, resize: str) -> None:
        granted = cores(holding(claim("a", "7")), "a", 0, at=pools(resize_policy=resize))[1]
        assert len(cpus(granted)) == 9
        assert cpus("7") <= cpus(granted)

    def test_keeps_what_is_held_where_a_rule_forbids_to_grow(self) -> None:
        ledger = holding(claim("a", "2-3,10-11"))
        assert cores(ledger, "a", 0, at=pools(numa_policy="single-numa-node")) == (ledger, "2-3,10-11")

    def test_grows_again_after_a_loss(self) -> None:
        first, _ = cores(Ledger(), "a", 0)
        second, _ = node_cores(first, "b", 0, 4)
        left = second.claims["a"].cpus
        granted = cores(second, "a", 0)[1]
        assert left <= cpus(granted)
        assert len(cpus(granted)) == 6  # floor(0.8 * 8)

    def test_with_new_wishes_the_held_cpus_must_fulfil_them(self) -> None:
        ledger = holding(claim("a", "2,10"))
        with pytest.raises(Refused, match="cpu-thread-policy=isolate"):
            allocate(ledger, pools().isolated, Terms("a", wishes=Wishes(cpu_thread_policy="isolate")), None)


class TestRepeated:
    """A repeated request is a no-op, whatever the operator has changed meanwhile."""

    NEAR = Wishes(near=0)

    def placed(self, count: int, at: Pools) -> Ledger:
        return allocate(Ledger(), at.isolated, Terms("a", None, self.NEAR), count).ledger

    @pytest.mark.parametrize(
        "change",
        [{"numa_policy": "single-numa-node"}, {"cpu_thread_policy": "isolate"}, {"cpu_thread_policy": "require"}],
    )
    @pytest.mark.parametrize("count", [0, 7])
    def test_with_the_same_wishes(self, count: int, change: dict[str, Any]) -> None:
        ledger, at = self.placed(count, pools()), pools(**change)
        assert not allocate(ledger, at.isolated, Terms("a", None, self.NEAR), count).change

    def test_with_wishes_that_an_option_contradicts_now(self) -> None:
        wishes = Wishes(cpu_thread_policy="require")
        ledger = allocate(Ledger(), pools().isolated, Terms("a", wishes=wishes), 4).ledger
        at = pools(cpu_distribution="cores")
        assert not allocate(ledger, at.isolated, Terms("a", wishes=wishes), 4).change
        with pytest.raises(Refused, match="contradicts cpu-distribution=cores"):
            allocate(ledger, at.isolated, Terms("a", wishes=wishes), 6)

    def test_from_scratch_where_a_rule_allows_no_choice(self) -> None:
        ledger = holding(claim("a", "2-5"), claim("b", "6,10"))
        at = pools(cpu_thread_policy="isolate", resize_policy="reallocate")
        assert cores(ledger, "a", 4, at=at)[0].claims["a"].cpus == cpus("3-5,7")
        ledger = holding(claim("a", "2-6"), claim("b", "7,10"))
        assert cores(ledger, "a", 5, at=at) == (ledger, "2-6")

    def test_a_release_of_nothing_in_a_node_leaves_an_isolated_claim(self) -> None:
        at = pools(cpu_thread_policy="isolate")
        ledger = cores(Ledger(), "a", 2, at=at)[0]
        assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
        for node in (NodeCpus(1, NODE[1]), NodeCpus(9, EMPTY)):
            assert not release_in_node(ledger, "isolated", Terms("a"), node).change

    def test_a_grown_claim_keeps_the_policy_that_first_placed_it(self) -> None:
        ledger, at = self.placed(2, pools()), pools(numa_allocation_strategy="spread")
        grown = allocate(ledger, at.isolated, Terms("a"), 4).claim
        assert grown is not None
        assert grown.placed_by == PlacementPolicy(near=0)
        assert grown.wishes == Wishes()


class TestWishesForAPart:
    """`a` holds CPUs of node 0 that no wish has chosen, and then asks for one CPU of node 1 with `isolate`."""

    ISOLATE = Wishes(cpu_thread_policy="isolate")

    def ledger(self, held: str) -> Ledger:
        return in_node(pools().isolated, Terms("a", wishes=self.ISOLATE), 1, 1, holding(claim("a", held))).ledger

    def test_the_same_wish_for_all_isolates_all(self) -> None:
        grant = allocate(self.ledger("2"), pools().isolated, Terms("a", wishes=self.ISOLATE), 2)
        assert grant.claim is not None
        assert grant.claim.alone == grant.cpus
        assert "10" in str(grant.claim.withheld)

    def test_the_same_wish_for_all_is_refused_when_the_other_part_breaks_it(self) -> None:
        with pytest.raises(Refused, match="cpu-thread-policy=isolate"):
            allocate(self.ledger("2,10"), pools().isolated, Terms("a", wishes=self.ISOLATE), 3)

    def test_the_same_wish_for_the_part_changes_nothing(self) -> None:
        terms = Terms("a", wishes=self.ISOLATE)
        assert not in_node(pools().isolated, terms, 1, 1, self.ledger("2")).change
