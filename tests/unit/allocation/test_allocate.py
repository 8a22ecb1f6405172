# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Allocate: the ownership rules as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import (
    Terms,
    allocate,
    allocate_percent,
    release,
    release_in_node,
)
from epa_orchestrator.allocation.claims import Change, Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.placement.policy import (
    Wishes,
    with_wishes,
)
from tests.builders import NODE, claim, cores, cpus, holding, node_cores, owned_and_withheld, pools, wish
from tests.machines import made_up
from tools.synthetic import Shape


@pytest.mark.parametrize(
    ("isolated", "count"),
    [
        ("0", 1),  # at least 1
        ("0-1", 1),  # floor(1.6)
        ("0-9", 8),
        ("0-99", 80),  # 100 is not large yet
        ("0-100", 85),  # large: all but 16
        ("0-127", 112),
    ],
)
def test_default_size(isolated: str, count: int) -> None:
    machine = made_up(Shape(cores_per_l3=128, isolated=isolated))
    at = build_pools(machine, None, parse_settings({}))
    ledger, granted = cores(Ledger(), "a", 0, at=at)
    assert len(cpus(granted)) == count
    assert cores(ledger, "a", 0, at=at) == (ledger, granted)


def test_default_size_counts_free_and_own_cpus() -> None:
    # 12 isolated CPUs, 2 held by another: floor(0.8 * 10) = 8.
    ledger, granted = cores(holding(claim("b", "2,10")), "a", 0)
    assert len(cpus(granted)) == 8
    assert cores(ledger, "a", 0)[1] == granted


@pytest.mark.parametrize(("percent", "count"), [(1, 1), (8, 1), (9, 2), (25, 3), (50, 6), (99, 12), (100, 12)])
def test_percent_of_the_eligible_cpus_rounds_up(percent: int, count: int) -> None:
    grant = allocate_percent(Ledger(), pools().isolated, Terms("a"), percent)
    assert len(grant.cpus) == count


def test_a_refusal_says_how_many_there_are() -> None:
    with pytest.raises(Refused, match=r"^Insufficient CPUs available\. Requested: 11, Available: 10$"):
        cores(holding(claim("b", "2,10")), "a", 11)


def test_another_size_of_the_same_claim_may_use_its_own() -> None:
    ledger = holding(claim("a", "2-7"), claim("b", "10-12"))
    assert cores(ledger, "a", 9)[1] == "2-7,13-15"


def test_replacing_makes_a_claim_inexplicit() -> None:
    ledger, granted = cores(holding(claim("a", "2,10", explicit="2,10")), "a", 2)
    assert granted == "2,10"
    assert ledger.claims["a"].explicit == EMPTY


def test_a_cpu_claimed_in_another_pool_is_not_free() -> None:
    other = Claim("b", "general", cpus("2-3"), EMPTY, "legacy")
    assert len(Ledger.of([other], {}).free(pools().isolated)) == 10


def test_a_service_lives_in_one_pool() -> None:
    at = pools()
    ledger = holding(claim("a", "2"))
    assert at.general is not None
    with pytest.raises(Refused, match="holds CPUs in pool isolated: release that allocation in its pool"):
        allocate(ledger, at.general, Terms("a"), 1)
    with pytest.raises(Refused, match="release that allocation in its pool"):
        release(ledger, "general", "a")


class TestNode:
    """allocate_numa_cores."""

    def test_replaces_in_the_node_and_adds_elsewhere(self) -> None:
        ledger, _ = node_cores(Ledger(), "a", 0, 2)
        ledger, granted = node_cores(ledger, "a", 1, 2)
        assert granted == "4,12"
        assert str(ledger.claims["a"].cpus) == "2,4,10,12"
        ledger, granted = node_cores(ledger, "a", 0, 1)
        assert granted == "2"
        assert str(ledger.claims["a"].cpus) == "2,4,12"
        assert str(ledger.claims["a"].explicit) == "2,4,12"

    def test_only_the_cpus_of_the_node_become_explicit(self) -> None:
        ledger, _ = node_cores(holding(claim("a", "2,4")), "a", 1, 1)
        assert str(ledger.claims["a"].explicit) == "4"

    def test_takes_free_ones_before_those_of_others(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10")), "a", 0, 2)
        assert granted == "3,11"
        assert str(ledger.claims["b"].cpus) == "2,10"

    def test_takes_only_what_is_missing(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,4,10")), "a", 0, 3)
        # 3 and 11 are free; one of 2 and 10 is missing.
        assert granted == "2-3,11"
        assert str(ledger.claims["b"].cpus) == "4,10"

    def test_a_service_left_with_none_is_gone(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10")), "a", 0, 4)
        assert granted == "2-3,10-11"
        assert set(ledger.claims) == {"a"}

    @pytest.mark.parametrize(
        "other",
        [
            claim("b", "2,10", explicit="2,10"),
            claim("b", "2,10", policy="non-preemptive"),
            Claim("b", "general", cpus("2,10"), EMPTY, "legacy"),
        ],
        ids=["explicit", "non-preemptive", "another pool"],
    )
    def test_never_takes_protected_ones(self, other: Claim) -> None:
        with pytest.raises(Refused, match=r"2 CPUs that can be given .* 3 were requested: CPUs 2,10 are held by other"):
            node_cores(holding(other), "a", 0, 3)

    def test_only_the_explicit_part_of_a_claim_is_protected(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10,11", explicit="2")), "a", 0, 3)
        assert granted == "3,10-11"
        assert str(ledger.claims["b"].cpus) == "2"

    def test_a_non_preemptive_request_reclaims_nothing(self) -> None:
        with pytest.raises(Refused, match="CPUs 2,10 are held by other services"):
            node_cores(holding(claim("b", "2,10")), "a", 0, 3, "non-preemptive")

    def test_numa_reclaim_never(self) -> None:
        with pytest.raises(Refused, match="CPUs 2,10 are held by other services"):
            node_cores(holding(claim("b", "2,10")), "a", 0, 3, at=pools(numa_reclaim="never"))

    def test_numa_reclaim_always(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10")), "a", 0, 2, at=pools(numa_reclaim="always"))
        assert granted == "2,10"
        assert set(ledger.claims) == {"a"}

    def test_says_how_many_the_node_has(self) -> None:
        with pytest.raises(Refused, match=r"^NUMA node 0 only has 4 eligible CPUs, but 5 were requested$"):
            node_cores(Ledger(), "a", 0, 5)
        with pytest.raises(Refused, match=r"^No eligible CPUs available in NUMA node 1$"):
            node_cores(Ledger(), "a", 1, 1, at=pools(isolated="2-3"))

    def test_releasing_keeps_the_rest(self) -> None:
        ledger = holding(claim("a", "2,4", explicit="2,4"))
        grant = release_in_node(ledger, "isolated", Terms("a"), NodeCpus(0, NODE[0]))
        assert grant.ledger.claims["a"] == claim("a", "4", explicit="4")
        assert release_in_node(grant.ledger, "isolated", Terms("a"), NodeCpus(1, NODE[1])).claim is None


class TestDefaultSize:
    """12 CPUs on 6 cores are isolated."""

    @pytest.mark.parametrize(
        ("threads", "size"),
        [
            ("prefer", 9),  # floor(0.8 * 12)
            ("share", 9),
            ("require", 8),  # whole cores, at most 9
            ("isolate", 4),  # floor(0.8 * 6)
        ],
    )
    def test_is_what_the_thread_policy_can_grant(self, threads: str, size: int) -> None:
        at = pools(cpu_thread_policy=threads)
        ledger, granted = cores(Ledger(), "a", 0, at=at)
        assert len(cpus(granted)) == size
        assert cores(ledger, "a", 0, at=at) == (ledger, granted)

    @pytest.mark.parametrize(
        ("threads", "size"),
        [
            ("prefer", 8),  # floor(0.8 * 11)
            ("share", 8),
            ("require", 8),  # of 5 whole cores
            ("isolate", 4),  # floor(0.8 * 5)
        ],
    )
    def test_with_another_service(self, threads: str, size: int) -> None:
        at = pools(cpu_thread_policy=threads)
        ledger, granted = cores(holding(claim("b", "2")), "a", 0, at=at)
        assert len(cpus(granted)) == size
        assert cores(ledger, "a", 0, at=at) == (ledger, granted)

    @pytest.mark.parametrize("after", ["prefer", "share", "require", "isolate"])
    @pytest.mark.parametrize("before", ["prefer", "share", "require", "isolate"])
    def test_a_repetition_changes_nothing_when_the_policy_has_changed(self, before: str, after: str) -> None:
        first, granted = cores(Ledger(), "a", 0, at=pools(cpu_thread_policy=before))
        assert cores(first, "a", 0, at=pools(cpu_thread_policy=after)) == (first, granted)

    @pytest.mark.parametrize("after", ["prefer", "share", "require", "isolate"])
    @pytest.mark.parametrize("before", ["prefer", "share", "require", "isolate"])
    def test_a_repetition_changes_nothing_when_the_first_changed_the_size(self, before: str, after: str) -> None:
        """Another took CPUs of it and went, so that the default is more than the claim has left."""
        left = claim("a", "4-6", withheld="12-14") if before == "isolate" else claim("a", "4-5,12-13")
        ledger = holding(replace(left, placed_by=pools(cpu_thread_policy=before).settings.placement))
        at = pools(cpu_thread_policy=after)
        first, granted = cores(ledger, "a", 0, at=at)
        assert ledger.claims["a"].cpus <= cpus(granted)
        assert cores(first, "a", 0, at=at) == (first, granted)

    def test_without_a_whole_core_it_is_refused_where_the_policy_wants_one(self) -> None:
        ledger = holding(claim("b", "2-7"))
        for threads in ("require", "isolate"):
            with pytest.raises(Refused, match=f"cpu-thread-policy={threads} allows"):
                cores(ledger, "a", 0, at=pools(cpu_thread_policy=threads))

    def test_is_that_of_the_policy_that_the_request_wishes(self) -> None:
        assert len(wish("a", 0, Wishes(cpu_thread_policy="isolate")).cpus) == 4
        assert len(wish("a", 0, Wishes(cpu_thread_policy="require")).cpus) == 8


class TestResizing:
    """resize-policy: the service holds CPUs 2 and 4, in two NUMA nodes, one sibling of each is free."""

    LEDGER = holding(claim("a", "2,4"))

    @pytest.mark.parametrize(
        ("resize", "count", "granted"),
        [
            ("in-place", 2, "2,4"),
            ("in-place", 1, "2"),
            ("in-place", 3, "2,4,10"),  # one core whole, in node 0, which fits tighter
            ("reallocate", 2, "2,10"),
            ("reallocate", 1, "2"),
            ("reallocate", 3, "2-3,10"),
        ],
    )
    def test_keeps_the_best_part(self, resize: str, count: int, granted: str) -> None:
        assert cores(self.LEDGER, "a", count, at=pools(resize_policy=resize))[1] == granted

    @pytest.mark.parametrize(("resize", "granted"), [("in-place", "5"), ("reallocate", "4")])
    def test_in_a_node(self, resize: str, granted: str) -> None:
        ledger, got = node_cores(holding(claim("a", "2,5")), "a", 1, 1, at=pools(resize_policy=resize))
        assert got == granted
        assert str(ledger.claims["a"].cpus) == f"2,{granted}"

    @pytest.mark.parametrize("threads", ["prefer", "share", "require", "isolate"])
    def test_a_repetition_changes_nothing(self, threads: str) -> None:
        at = pools(resize_policy="reallocate", cpu_thread_policy=threads)
        for count in (0, 2, 4):
            first, granted = cores(Ledger(), "a", count, at=at)
            assert cores(first, "a", count, at=at) == (first, granted)

    @pytest.mark.parametrize("by_node", [False, True])
    def test_the_same_cpus_chosen_again_are_placed_as_the_options_are_now(self, by_node: bool) -> None:
        ledger = Ledger()
        for threads, withheld in [("prefer", ""), ("isolate", "10"), ("isolate", "10"), ("share", "")]:
            at = pools(resize_policy="reallocate", cpu_thread_policy=threads)
            ledger, _ = node_cores(ledger, "a", 0, 1, at=at) if by_node else cores(ledger, "a", 1, at=at)
            assert owned_and_withheld(ledger) == {"a": ("2", withheld)}
            assert ledger.claims["a"].placed_by == at.settings.placement

    def test_cpus_in_another_node_keep_their_placement(self) -> None:
        first, _ = node_cores(Ledger(), "a", 0, 1)
        at = pools(resize_policy="reallocate", cpu_thread_policy="isolate")
        second, _ = node_cores(first, "a", 1, 1, at=at)
        assert owned_and_withheld(second) == {"a": ("2,4", "12")}
        assert second.claims["a"].placed_by == pools().settings.placement


class TestWishes:
    """What a request asks for itself."""

    @pytest.mark.parametrize(
        ("wishes", "count", "granted", "withheld"),
        [
            (Wishes(), 3, "2-3,10", ""),
            (Wishes(near=1), 3, "4-5,12", ""),
            (Wishes(cpu_thread_policy="isolate"), 3, "4-6", "12-14"),
            (Wishes(cpu_thread_policy="isolate", near=1), 2, "4-5", "12-13"),
            (Wishes(cpu_thread_policy="require"), 4, "2-3,10-11", ""),
            (Wishes(numa_policy="single-numa-node"), 5, "4-6,12-13", ""),
        ],
    )
    def test_shape_the_choice_and_are_kept(self, wishes: Wishes, count: int, granted: str, withheld: str) -> None:
        grant = wish("a", count, wishes)
        assert grant.claim is not None
        assert (str(grant.cpus), str(grant.claim.withheld), grant.claim.wishes) == (granted, withheld, wishes)
        assert grant.claim.placed_by == with_wishes(pools().settings.placement, wishes)
        again = wish("a", count, wishes, grant.ledger)
        assert (again.change, again.cpus) == (Change(), grant.cpus)
        # Whoever repeats it without wishes leaves the claim as it is, wishes and all.
        again = wish("a", count, Wishes(), grant.ledger)
        assert (again.change, again.claim) == (Change(), grant.claim)

    @pytest.mark.parametrize(
        ("options", "wishes", "count", "sentence"),
        [
            ({}, Wishes(cpu_thread_policy="require"), 3, "cpu-thread-policy=require allows whole cores only"),
            ({}, Wishes(numa_policy="single-numa-node"), 9, "numa-policy=single-numa-node allows 1 NUMA node, and 2"),
            # What the operator refuses no wish allows.
            ({"cpu_thread_policy": "require"}, Wishes(cpu_thread_policy="share"), 3, "cpu-thread-policy=require allow"),
            ({"cpu_thread_policy": "isolate"}, Wishes(cpu_thread_policy="require"), 8, "cpu-thread-policy=isolate all"),
            ({"numa_policy": "single-numa-node"}, Wishes(numa_policy="restricted"), 9, "numa-policy=single-numa-node"),
            ({"numa_policy": "restricted"}, Wishes(numa_policy="single-numa-node"), 9, "numa-policy=single-numa-node"),
            # Nor does one contradict what the operator has set.
            (
                {"cpu_distribution": "cores"},
                Wishes(cpu_thread_policy="require"),
                2,
                "cpu_thread_policy=require contradicts cpu-distribution=cores, which the operator has set",
            ),
            (
                {"numa_allocation_strategy": "distribute"},
                Wishes(uncore_cache_alignment="require"),
                2,
                "uncore_cache_alignment=require contradicts numa-allocation-strategy=distribute",
            ),
        ],
    )
    def test_go_as_far_as_the_operator_allows(
        self, options: dict[str, Any], wishes: Wishes, count: int, sentence: str
    ) -> None:
        with pytest.raises(Refused, match=sentence):
            wish("a", count, wishes, at=pools(**options))

    @pytest.mark.parametrize(
        ("held", "wishes", "rule"),
        [
            ("2,10", Wishes(cpu_thread_policy="isolate"), "cpu-thread-policy=isolate"),
            ("2-3", Wishes(cpu_thread_policy="require"), "cpu-thread-policy=require"),
            ("2,4", Wishes(numa_policy="restricted"), "numa-policy=restricted"),
            ("2,4", Wishes(uncore_cache_alignment="require"), "uncore-cache-alignment=require"),
        ],
    )
    def test_that_the_claim_does_not_fulfil_are_refused(self, held: str, wishes: Wishes, rule: str) -> None:
        ledger = holding(claim("a", held))
        with pytest.raises(Refused, match=rule) as caught:
            wish("a", 2, wishes, ledger)
        assert caught.value.unplaceable is not None
        assert str(caught.value.unplaceable.choice) == held
        # The operator's own rule does not reach back: the same request without wishes keeps what is held.
        option, value = rule.replace("-", "_", option_dashes(rule)).split("=")
        at = pools(**{option: value})
        assert cores(ledger, "a", 2, at=at) == (ledger, held)

    def test_that_the_claim_fulfils_take_effect(self) -> None:
        grant = wish("a", 2, Wishes(cpu_thread_policy="isolate"), holding(claim("a", "2-3")))
        assert grant.claim is not None
        assert (str(grant.cpus), str(grant.claim.withheld)) == ("2-3", "10-11")
        with pytest.raises(Refused, match="cpu-thread-policy=isolate allows one thread per core"):
            wish("a", 2, Wishes(cpu_thread_policy="isolate"), holding(claim("a", "2-3"), claim("b", "10")))


def option_dashes(rule: str) -> int:
    """How many dashes an option's name has, before the value's."""
    return rule.partition("=")[0].count("-")


class TestPolicy:
    """Preemption policies."""

    def test_new_claims_take_the_default(self) -> None:
        assert cores(Ledger(), "a", 1)[0].claims["a"].preemption_policy == "legacy"
        at = pools(default_preemption_policy="non-preemptive")
        assert cores(Ledger(), "a", 1, at=at)[0].claims["a"].preemption_policy == "non-preemptive"

    def test_is_inherited(self) -> None:
        ledger, _ = cores(holding(claim("a", "2", policy="non-preemptive")), "a", 2)
        assert ledger.claims["a"].preemption_policy == "non-preemptive"

    def test_protects_the_whole_claim(self) -> None:
        ledger, _ = node_cores(holding(claim("a", "4")), "a", 0, 1, "non-preemptive")
        with pytest.raises(Refused, match="CPUs 4 are held"):
            node_cores(ledger, "b", 1, 8)

    def test_does_not_go_back_while_cpus_are_held(self) -> None:
        ledger = holding(claim("a", "2", policy="non-preemptive"))
        with pytest.raises(Refused, match="release its CPUs before it goes back to legacy"):
            cores(ledger, "a", 2, "legacy")
        released = release(ledger, "isolated", "a").ledger
        assert cores(released, "a", 2, "legacy")[0].claims["a"].preemption_policy == "legacy"


class TestUnavailable:
    """Claimed CPUs that went offline or left the pool."""

    LEDGER = holding(claim("a", "2-3,4"))

    @pytest.mark.parametrize("at", [pools(offline="3"), pools(isolated="2,4-7")], ids=["offline", "not isolated"])
    def test_are_not_replaced(self, at: Pools) -> None:
        with pytest.raises(Refused, match="holds CPUs 3, which are offline or no longer in pool isolated: release it"):
            cores(self.LEDGER, "a", 1, at=at)
        with pytest.raises(Refused, match="release it first"):
            cores(self.LEDGER, "a", 4, at=at)
        with pytest.raises(Refused, match="release it first"):
            node_cores(self.LEDGER, "a", 0, 1, at=at)

    def test_may_grow_in_another_node(self) -> None:
        assert node_cores(self.LEDGER, "a", 1, 2, at=pools(offline="3"))[1] == "4,12"

    def test_can_be_released(self) -> None:
        assert release(self.LEDGER, "isolated", "a").claim is None
        grant = release_in_node(self.LEDGER, "isolated", Terms("a"), NodeCpus(0, NODE[0]))
        assert grant.claim == claim("a", "4")

    def test_are_not_taken_by_others(self) -> None:
        with pytest.raises(Refused, match="NUMA node 0 only has 3 eligible CPUs"):
            node_cores(self.LEDGER, "b", 0, 4, at=pools(offline="3"))


def test_siblings_in_the_other_pool_are_somebody_elses() -> None:
    at = pools(isolated="2-7", cpu_pool="10-15", cpu_thread_policy="isolate")
    with pytest.raises(Refused, match="2 cores would break this"):
        allocate(Ledger(), at.isolated, Terms("a"), 2)
