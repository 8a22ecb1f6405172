# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Promises about relations between CPUs hold as the machine is now: cores, NUMA nodes and L3 domains may change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import Terms, allocate, allocate_in_node
from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.outdated import is_outdated
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from tests.builders import claim, cpus, owned_and_withheld
from tests.machines import made_up
from tools.synthetic import Shape

# One node of eight cores with the threads n and n + 8, in two L3 domains.
SPLIT = Shape(l3_per_node=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15")


def pools(shape: Shape = SPLIT, *, before: Pools | None = None, **options: object) -> Pools:
    """The pools of a machine; `before`: those of the same host earlier, which knew some cores already."""
    machine = made_up(shape)
    seen = LastSeen().updated(before.machine) if before and before.machine else LastSeen()
    settings = parse_settings({name.replace("_", "-"): value for name, value in options.items()})
    return build_pools(machine, None, settings, seen.known_cores(machine))


def alone(service: str, own: str) -> Claim:
    """A claim that was promised a core for each of its CPUs."""
    return replace(claim(service, own), alone=cpus(own), placed_by=PlacementPolicy(cpu_thread_policy="isolate"))


def outdated(ledger: Ledger, at: Pools) -> list[str]:
    pools_of = {"isolated": at.isolated, "general": at.general}
    return [
        name
        for name, each in ledger.claims.items()
        if (pool := pools_of[each.pool]) is not None and is_outdated(ledger, pool, each)
    ]


class TestSiblingThatComesOnline:
    """`a` has CPUs 2 and 3 to themselves, and was placed while the host had never shown CPUs 10 and 11."""

    FIRST = pools(replace(SPLIT, offline="10-11"))

    def placed(self) -> Ledger:
        terms = Terms("a", wishes=Wishes(cpu_thread_policy="isolate"))
        ledger = allocate(Ledger(), self.FIRST.isolated, terms, 2).ledger
        assert owned_and_withheld(ledger) == {"a": ("2-3", "")}
        return ledger

    def test_is_withheld_from_others_at_once(self) -> None:
        at = pools(before=self.FIRST)
        ledger = self.placed().on(at.cores)
        assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
        assert str(ledger.free(at.isolated)) == "4-7,12-15"
        assert outdated(ledger, at) == []

    def test_is_withheld_by_the_next_request_of_another(self) -> None:
        at = pools(before=self.FIRST)
        with pytest.raises(Refused, match=r"Requested: 9, Available: 8"):
            allocate(self.placed(), at.isolated, Terms("b"), 9)

    def test_is_withheld_after_a_restart(self) -> None:
        at = pools()
        restarted = Ledger.of(self.placed().claims.values(), {}, at.cores)
        assert owned_and_withheld(restarted) == {"a": ("2-3", "10-11")}

    def test_makes_the_claim_outdated_when_another_owns_it(self) -> None:
        at = pools(before=self.FIRST)
        ledger = Ledger.of([*self.placed().claims.values(), claim("b", "10,12")], {}, at.cores)
        assert owned_and_withheld(ledger)["a"] == ("2-3", "11")
        assert outdated(ledger, at) == ["a"]

    def test_makes_the_claim_outdated_while_its_owner_is_offline(self) -> None:
        at = pools(replace(SPLIT, offline="10"), before=pools())
        ledger = Ledger.of([*self.placed().claims.values(), claim("b", "10,12")], {}, at.cores)
        assert outdated(ledger, at) == ["a"]

    def test_is_withheld_in_the_general_pool_too(self) -> None:
        at = pools(replace(SPLIT, isolated="2-7"), before=self.FIRST, cpu_pool="10-15")
        ledger = self.placed().on(at.cores)
        assert at.general is not None
        assert str(ledger.free(at.general)) == "12-15"
        assert outdated(ledger, at) == ["a"], "the operating system runs there"

    @pytest.mark.parametrize(
        ("isolated", "options"), [("2-7,10-15", {"reserved_cpus": "10"}), ("2-7,12-15", {})], ids=["reserved", "system"]
    )
    def test_makes_the_claim_outdated_when_the_system_uses_it(self, isolated: str, options: dict[str, Any]) -> None:
        at = pools(replace(SPLIT, isolated=isolated), before=self.FIRST, **options)
        assert outdated(self.placed().on(at.cores), at) == ["a"]

    def test_counts_although_another_cpu_of_the_claim_is_offline(self) -> None:
        at = pools(replace(SPLIT, offline="3"), before=pools())
        ledger = Ledger.of([*self.placed().claims.values(), claim("b", "10")], {}, at.cores)
        assert outdated(ledger, at) == ["a"]

    def test_counts_although_the_operator_asks_for_no_whole_cores_any_more(self) -> None:
        ledger = Ledger.of([alone("a", "2-3"), claim("b", "10")], {}, pools().cores)
        assert outdated(ledger, pools(cpu_thread_policy="share")) == ["a"]


class TestOtherNumbers:
    """The host came back with the threads 2n and 2n + 1 on each core; they were n and n + 8 when `a` was placed."""

    AT = pools(replace(SPLIT, siblings="adjacent", isolated="2-15"), before=pools(), cpu_thread_policy="isolate")

    def test_the_new_siblings_are_withheld(self) -> None:
        ledger = Ledger.of([alone("a", "2,4")], {}, pools().cores).on(self.AT.cores)
        assert owned_and_withheld(ledger) == {"a": ("2,4", "3,5")}
        assert outdated(ledger, self.AT) == []

    def test_two_cpus_that_share_a_core_now_are_outdated(self) -> None:
        ledger = Ledger.of([alone("a", "2-3")], {}, pools().cores).on(self.AT.cores)
        assert owned_and_withheld(ledger) == {"a": ("2-3", "")}
        assert outdated(ledger, self.AT) == ["a"]

    def test_two_services_that_share_a_core_now_are_both_outdated(self) -> None:
        ledger = Ledger.of([alone("a", "2"), alone("b", "3"), alone("c", "6")], {}, self.AT.cores)
        assert outdated(ledger, self.AT) == ["a", "b"]

    def test_a_part_of_a_core_is_no_whole_core(self) -> None:
        placed = replace(claim("a", "2,10"), placed_by=PlacementPolicy(cpu_thread_policy="require"))
        assert outdated(Ledger.of([placed], {}, self.AT.cores), pools(cpu_thread_policy="require")) == []
        ledger = Ledger.of([placed], {}, self.AT.cores)
        at = pools(replace(SPLIT, siblings="adjacent", isolated="2-15"), cpu_thread_policy="require")
        assert outdated(ledger, at) == ["a"]

    @pytest.mark.parametrize("own", ["2,4", "2"])
    def test_a_claim_of_an_older_database_withholds_the_new_siblings(self, own: str) -> None:
        siblings = {"2,4": "10,12", "2": "10"}[own]
        old = replace(claim("a", own, withheld=siblings), placed_by=PlacementPolicy(cpu_thread_policy="isolate"))
        ledger = Ledger.of([old], {}, self.AT.cores)
        assert owned_and_withheld(ledger) == {"a": (own, {"2,4": "3,5", "2": "3"}[own])}
        assert ledger.claims["a"].alone == cpus(own)


class TestDomains:
    """The host came back with other NUMA nodes, or with other L3 domains."""

    @pytest.mark.parametrize(
        ("policy", "shape", "expected"),
        [
            ({"numa_policy": "single-numa-node"}, SPLIT, []),
            ({"numa_policy": "single-numa-node"}, replace(SPLIT, nodes_per_package=2, l3_per_node=1), ["a"]),
            ({"numa_policy": "restricted"}, replace(SPLIT, nodes_per_package=2, l3_per_node=1), ["a"]),
            ({"numa_policy": "best-effort"}, replace(SPLIT, nodes_per_package=2, l3_per_node=1), []),
            ({"uncore_cache_alignment": "require"}, replace(SPLIT, l3_per_node=1, cores_per_l3=8), []),
            ({"uncore_cache_alignment": "require"}, SPLIT, ["a"]),
            ({"uncore_cache_alignment": "require"}, replace(SPLIT, offline="4"), ["a"]),
            ({"uncore_cache_alignment": "require"}, replace(SPLIT, offline="4-5"), []),
            ({"uncore_cache_alignment": "prefer"}, SPLIT, []),
        ],
    )
    def test_a_promise_is_judged_by_the_cpus_that_are_online(
        self, policy: dict[str, Any], shape: Shape, expected: list[str]
    ) -> None:
        placed = replace(claim("a", "2-5"), placed_by=PlacementPolicy(**policy))  # 4 and 5 are in the second half
        at = pools(shape, **policy)
        assert outdated(Ledger.of([placed], {}, at.cores), at) == expected

    def test_a_wish_is_a_promise_too(self) -> None:
        wishes = Wishes(uncore_cache_alignment="require")
        policy = PlacementPolicy(uncore_cache_alignment="require")
        placed = replace(claim("a", "3-4"), placed_by=policy, wishes=wishes)
        assert outdated(Ledger.of([placed], {}), pools()) == ["a"]

    def test_nothing_is_said_while_the_machine_cannot_be_read(self) -> None:
        at = build_pools(None, "unreadable", parse_settings({}), pools().cores)
        assert outdated(Ledger.of([alone("a", "2"), claim("b", "10")], {}, pools().cores), at) == []
        assert at.isolated.eligible == EMPTY


def test_threads_that_two_claims_were_promised_are_taken_by_neither() -> None:
    """The machine has cores of four threads by now, and two claims have CPUs of the core 2,6,10,14 to themselves."""
    shape = Shape(cores_per_l3=4, threads_per_core=4, isolated="2-3,6-7,10-11,14-15")
    at = pools(shape)
    ledger = Ledger.of([alone("a", "2"), alone("b", "6")], {}, at.cores)
    assert str(ledger.free_for(at.isolated, ledger.claims["a"])) == "3,7,11,15"
    assert str(allocate(ledger, at.isolated, Terms("a"), 3).cpus) == "2-3,7"
    # With the other claim gone the threads are the first one's again.
    without_b = ledger.apply(Change((ClaimChange(ledger.claims["b"], None),)))
    assert str(without_b.free_for(at.isolated, without_b.claims["a"])) == "3,6-7,10-11,14-15"


def test_a_thread_of_a_core_that_a_claim_was_promised_is_not_taken_from_a_third() -> None:
    """CPUs 2 and 10 were claimed while the kernel did not show them together, and are one core by now."""
    at = pools()
    ledger = Ledger.of([alone("promised", "2"), claim("owner", "10-11")], {}, at.cores)
    grant = allocate_in_node(ledger, at.isolated, Terms("third"), NodeCpus(0, cpus("2,10-11")), 1)
    assert str(grant.cpus) == "11"
    with pytest.raises(Refused, match="has 1 CPUs that can be given to this service, but 2 were requested"):
        allocate_in_node(ledger, at.isolated, Terms("third"), NodeCpus(0, cpus("10-11")), 2)


def test_one_of_two_cpus_that_a_claim_was_promised_a_core_for_is_not_taken_either() -> None:
    """The other one would share its core with the new owner. Its CPU 3 can be taken, which is the last of its core."""
    at = pools()
    ledger = Ledger.of([alone("owner", "2-3,10")], {}, at.cores)
    assert str(ledger.reclaimable_for(at.isolated, "third", EMPTY)) == "3"


def test_a_service_that_was_promised_a_core_takes_its_threads_from_others() -> None:
    at = pools()
    ledger = Ledger.of([alone("promised", "2"), claim("owner", "10")], {}, at.cores)
    assert str(ledger.reclaimable_for(at.isolated, "promised", cpus("2"))) == "10"
    third = Ledger.of([alone("promised", "2"), claim("owner", "10"), alone("other", "3")], {}, at.cores)
    assert str(third.reclaimable_for(at.isolated, "other", cpus("3"))) == "2"
