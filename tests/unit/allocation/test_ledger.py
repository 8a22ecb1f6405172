"""Ledger: the ownership rules as tables, and random requests against a model that keeps them the slow way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast, get_args

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from epa_orchestrator.allocation.ledger import (
    Ask,
    Change,
    Claim,
    ClaimChange,
    Grant,
    Ledger,
    LedgerError,
    Refused,
    allocate,
    allocate_in_node,
    allocate_percent,
    drop_pages,
    free_pages,
    release,
    release_in_node,
    set_pages,
)
from epa_orchestrator.allocation.pools import Pools, build_pools
from epa_orchestrator.allocation.settings import SettingsError, parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import (
    CpuDistribution,
    CpuThreadPolicy,
    NumaAllocationStrategy,
    NumaPolicy,
    PlacementPolicy,
    UncoreCacheAlignment,
    Wishes,
    with_wishes,
)
from epa_orchestrator.placement.rules import broken_rule
from tests.machines import made_up
from tools.synthetic import Shape


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


# Two nodes of eight CPUs: 0-3,8-11 and 4-7,12-15, siblings 0 and 8 ... 7 and 15. CPUs 0 and 8 are the system's.
SHAPE = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15")
NODE = {0: cpus("0-3,8-11"), 1: cpus("4-7,12-15")}


def pools(offline: str = "", isolated: str = SHAPE.isolated, **options: object) -> Pools:
    machine = made_up(Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated=isolated, offline=offline))
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return build_pools(machine, None, parse_settings({"cpu-pool": "1,9", **named}))


def claim(
    service: str, own: str, *, explicit: str = "", policy: PreemptionPolicy = "legacy", withheld: str = ""
) -> Claim:
    return Claim(service, "isolated", cpus(own), cpus(explicit), policy, cpus(withheld))


def holding(*claims: Claim) -> Ledger:
    return Ledger.of(claims, {}, pools().cores)


def cores(
    ledger: Ledger, service: str, count: int, policy: PreemptionPolicy | None = None, at: Pools | None = None
) -> tuple[Ledger, str]:
    at = at or pools()
    grant = allocate(ledger, at, Ask(service, at.isolated, policy), count)
    return grant.ledger, str(grant.cpus)


def node_cores(
    ledger: Ledger, service: str, node: int, count: int, policy: PreemptionPolicy | None = None, at: Pools | None = None
) -> tuple[Ledger, str]:
    at = at or pools()
    grant = allocate_in_node(ledger, at, Ask(service, at.isolated, policy), node, NODE[node], count)
    return grant.ledger, str(grant.cpus)


def wish(service: str, count: int, wishes: Wishes, ledger: Ledger | None = None, at: Pools | None = None) -> Grant:
    """What a request with wishes is granted."""
    at = at or pools()
    return allocate(ledger or Ledger(), at, Ask(service, at.isolated, wishes=wishes), count)


def owned_and_withheld(ledger: Ledger) -> dict[str, tuple[str, str]]:
    return {service: (str(claim.cpus), str(claim.withheld)) for service, claim in ledger.claims.items()}


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


def test_default_size_counts_what_is_free_and_own() -> None:
    # 12 isolated CPUs, 2 held by another: floor(0.8 * 10) = 8.
    ledger, granted = cores(holding(claim("b", "2,10")), "a", 0)
    assert len(cpus(granted)) == 8
    assert cores(ledger, "a", 0)[1] == granted


@pytest.mark.parametrize(("percent", "count"), [(1, 1), (8, 1), (9, 2), (25, 3), (50, 6), (99, 12), (100, 12)])
def test_percent_of_the_eligible_cpus_rounds_up(percent: int, count: int) -> None:
    grant = allocate_percent(Ledger(), pools(), Ask("a", pools().isolated), percent)
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
        allocate(ledger, at, Ask("a", at.general), 1)
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

    def test_a_non_preemptive_request_takes_from_nobody(self) -> None:
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
        grant = release_in_node(ledger, "isolated", "a", NODE[0], None)
        assert grant.ledger.claims["a"] == claim("a", "4", explicit="4")
        assert release_in_node(grant.ledger, "isolated", "a", NODE[1], None).claim is None


class TestWithheld:
    """Under `cpu-thread-policy=isolate` a claim keeps the siblings of its CPUs from everybody else.

    Node 0 has the cores 2,10 and 3,11 in the pool, node 1 the cores 4,12 to 7,15.
    """

    AT = pools(cpu_thread_policy="isolate")

    def isolated(self, count: int = 2, ledger: Ledger | None = None) -> Ledger:
        """After `a` got so many CPUs, each on a core of its own."""
        return cores(ledger or Ledger(), "a", count, at=self.AT)[0]

    def test_siblings_are_not_free_for_others(self) -> None:
        ledger = self.isolated()
        assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
        assert str(ledger.free(pools().isolated)) == "4-7,12-15"
        assert str(ledger.withheld) == "10-11"
        with pytest.raises(Refused, match=r"^Insufficient CPUs available\. Requested: 9, Available: 8$"):
            cores(ledger, "b", 9)
        with pytest.raises(Refused, match="CPUs 10-11 are held by other services"):
            node_cores(ledger, "b", 0, 3)

    def test_siblings_are_free_for_the_owner(self) -> None:
        assert cores(self.isolated(), "a", 4)[1] == "2-3,10-11"
        assert node_cores(self.isolated(), "a", 0, 4)[1] == "2-3,10-11"
        assert cores(self.isolated(), "a", 12)[1] == "2-7,10-15"

    @pytest.mark.parametrize(
        ("count", "after"), [(1, ("2", "10")), (2, ("2-3", "10-11")), (3, ("2-4", "10-12")), (6, ("2-7", "10-15"))]
    )
    def test_follow_the_claim_when_it_changes_its_size(self, count: int, after: tuple[str, str]) -> None:
        assert owned_and_withheld(self.isolated(count, self.isolated())) == {"a": after}

    def test_are_given_back_on_release(self) -> None:
        ledger = self.isolated(3)
        released = release(ledger, "isolated", "a").ledger
        assert (released.withheld, len(released.free(pools().isolated))) == (EMPTY, 12)

    def test_are_given_back_on_release_in_a_node(self) -> None:
        ledger = node_cores(self.isolated(), "a", 1, 1, at=self.AT)[0]
        assert owned_and_withheld(ledger) == {"a": ("2-4", "10-12")}
        ledger = release_in_node(ledger, "isolated", "a", NODE[0], None).ledger
        assert owned_and_withheld(ledger) == {"a": ("4", "12")}
        assert str(ledger.free(pools().isolated)) == "2-3,5-7,10-11,13-15"

    def test_are_given_back_when_their_core_is_taken(self) -> None:
        ledger, granted = node_cores(self.isolated(), "b", 0, 1)
        assert granted == "2"
        assert owned_and_withheld(ledger) == {"a": ("3", "11"), "b": ("2", "")}
        assert "10" in str(ledger.free(pools().isolated)).split(",")
        ledger, granted = node_cores(self.isolated(), "b", 0, 2)
        assert granted == "2-3"
        assert owned_and_withheld(ledger) == {"b": ("2-3", "")}

    @pytest.mark.parametrize("count", [2, 0])
    @pytest.mark.parametrize("threads", ["prefer", "share", "isolate"])
    def test_stay_when_the_request_is_repeated_under_another_setting(self, threads: str, count: int) -> None:
        at = pools(cpu_thread_policy=threads, default_allocation_percent=34)  # of 6 cores
        ledger = self.isolated()
        assert cores(ledger, "a", count, at=at) == (ledger, "2-3")
        assert node_cores(ledger, "a", 0, 2, at=at)[0].withheld == ledger.withheld

    def test_are_not_withheld_by_a_claim_that_is_older_than_the_setting(self) -> None:
        ledger = holding(claim("a", "2-3"))
        assert cores(ledger, "a", 2, at=self.AT) == (ledger, "2-3")
        assert owned_and_withheld(self.isolated(3, ledger)) == {"a": ("2-4", "10-12")}

    def test_are_given_back_when_the_claim_changes_under_another_setting(self) -> None:
        ledger, granted = cores(self.isolated(), "a", 1)
        assert granted == "2"
        assert owned_and_withheld(ledger) == {"a": ("2", "")}

    def test_those_of_other_nodes_are_left_alone(self) -> None:
        ledger = node_cores(self.isolated(), "a", 1, 1, at=self.AT)[0]
        assert owned_and_withheld(ledger) == {"a": ("2-4", "10-12")}
        ledger = node_cores(ledger, "a", 1, 2, at=self.AT)[0]
        assert owned_and_withheld(ledger) == {"a": ("2-5", "10-13")}
        ledger = node_cores(ledger, "a", 1, 3)[0]  # another setting
        assert owned_and_withheld(ledger) == {"a": ("2-5,12", "10-11")}

    @pytest.mark.parametrize("reclaim", ["if-needed", "always"])
    @pytest.mark.parametrize(
        ("held", "count"),
        [
            ("2,10", 1),  # one free core is left
            ("2,10", 2),
            ("2-3,10-11", 1),
            ("2-3,10-11", 2),
            ("10-11", 2),
        ],
    )
    def test_what_another_keeps_is_never_withheld(self, held: str, count: int, reclaim: str) -> None:
        """Whether the other one loses the siblings, too, or the request is refused."""
        at = pools(cpu_thread_policy="isolate", numa_reclaim=reclaim)
        try:
            ledger = node_cores(holding(claim("b", held)), "a", 0, count, at=at)[0]
        except Refused:
            return
        assert not ledger.withheld & ledger.claimed
        rebuilt = Ledger.of(ledger.claims.values(), {}, ledger.cores)
        assert (rebuilt.claimed, rebuilt.withheld) == (ledger.claimed, ledger.withheld)

    def test_a_core_of_which_somebody_has_a_part_is_not_for_isolation(self) -> None:
        ledger = holding(claim("b", "2,7"))
        with pytest.raises(Refused, match="cpu-thread-policy=isolate allows one thread of a core that nobody else"):
            self.isolated(5, ledger)
        assert owned_and_withheld(self.isolated(4, ledger))["a"] == ("3-6", "11-14")


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
    def test_beside_another(self, threads: str, size: int) -> None:
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
    def test_a_repetition_changes_nothing_although_the_first_changed_the_size(self, before: str, after: str) -> None:
        """Another took CPUs of it and went, so that the default is more than the claim has left."""
        left = claim("a", "4-6", withheld="12-14") if before == "isolate" else claim("a", "4-5,12-13")
        ledger = holding(replace(left, placed_by=pools(cpu_thread_policy=before).settings.placement))
        at = pools(cpu_thread_policy=after)
        try:
            first, granted = cores(ledger, "a", 0, at=at)
        except Refused:
            assert (before, after) in {("prefer", "isolate"), ("share", "isolate"), ("require", "isolate")}
            return  # it holds two threads of a core, and keeps them when it grows
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
    def test_what_is_kept(self, resize: str, count: int, granted: str) -> None:
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

    def test_what_was_chosen_in_another_node_stays_placed_as_it_was(self) -> None:
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
        with pytest.raises(Refused, match="cpu-thread-policy=isolate allows one thread of a core"):
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
            node_cores(self.LEDGER, "a", 0, 1, at=at)
        assert node_cores(self.LEDGER, "a", 1, 1, at=at)[1] == "4"

    def test_can_be_released(self) -> None:
        assert release(self.LEDGER, "isolated", "a").claim is None
        grant = release_in_node(self.LEDGER, "isolated", "a", NODE[0], None)
        assert grant.claim == claim("a", "4")

    def test_are_not_taken_by_others(self) -> None:
        with pytest.raises(Refused, match="NUMA node 0 only has 3 eligible CPUs"):
            node_cores(self.LEDGER, "b", 0, 4, at=pools(offline="3"))


class TestPages:
    """Hugepages: free = free - max(recorded - (total - free), 0)."""

    @pytest.mark.parametrize(
        ("total", "free", "recorded", "reserved", "left"),
        [
            (8, 8, 0, 0, 8),
            (8, 8, 3, 0, 5),  # recorded, none in use yet
            (8, 5, 3, 0, 5),  # recorded and in use
            (8, 6, 3, 0, 5),  # two of the three in use
            (8, 2, 3, 0, 2),  # others use some as well
            (8, 1, 8, 0, 0),  # never below 0
            (8, 8, 3, 4, 1),  # and never the reserved ones
        ],
    )
    def test_free(self, total: int, free: int, recorded: int, reserved: int, left: int) -> None:
        ledger = Ledger.of([], {"a": {(0, 2048): recorded}} if recorded else {})
        options = parse_settings({"reserved-hugepages": f"0:2048:{reserved}"} if reserved else {})
        assert free_pages(ledger, Hugepages(2048, total, free), 0, options) == left

    def test_only_the_increase_must_fit(self) -> None:
        kernel, options = Hugepages(2048, 8, 8), parse_settings({})
        ledger = Ledger.of([], {"a": {(0, 2048): 6}, "b": {(0, 2048): 1}})
        ledger = ledger.apply(set_pages(ledger, kernel, options, "a", 0, 7))
        assert ledger.pages["a"] == {(0, 2048): 7}
        with pytest.raises(
            Refused, match=r"^NUMA node 0 size 2048 KB only has 0 free hugepages, requested additional 1$"
        ):
            set_pages(ledger, kernel, options, "b", 0, 2)
        assert set_pages(ledger, kernel, options, "a", 0, 7) == Change()
        assert ledger.apply(set_pages(ledger, kernel, options, "a", 0, 1)).recorded == {(0, 2048): 2}

    def test_dropping(self) -> None:
        ledger = Ledger.of([], {"a": {(0, 2048): 6, (1, 2048): 1}})
        ledger = ledger.apply(drop_pages(ledger, "a", (0, 2048)))
        assert ledger.pages == {"a": {(1, 2048): 1}}
        assert drop_pages(ledger, "a", (0, 2048)) == Change()
        ledger = ledger.apply(drop_pages(ledger, "a", (1, 2048)))
        assert (dict(ledger.pages), dict(ledger.recorded)) == ({}, {})


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ([claim("a", "2-3"), claim("b", "3-4")], "CPUs 3 of service 'b' are owned by another service as well"),
        ([claim("a", "")], "holds no CPUs"),
        ([claim("a", "2", explicit="3")], "explicit ones it does not own"),
        ([claim("a", "2"), claim("a", "3")], "two claims"),
    ],
)
def test_contradicting_claims_make_no_ledger(claims: list[Claim], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        holding(*claims)


@pytest.mark.parametrize(
    ("claims", "withheld"),
    [
        ([claim("a", "2", withheld="10"), claim("b", "10")], {"a": "", "b": ""}),
        ([claim("b", "10"), claim("a", "2", withheld="10")], {"a": "", "b": ""}),
        ([claim("b", "18", withheld="10"), claim("a", "2", withheld="10")], {"a": "10", "b": ""}),
        ([claim("a", "2,10", withheld="10")], {"a": ""}),
    ],
)
def test_owned_cpus_are_not_withheld(claims: list[Claim], withheld: dict[str, str]) -> None:
    ledger = holding(*claims)
    assert {service: str(claim.withheld) for service, claim in ledger.claims.items()} == withheld
    assert str(ledger.withheld) == "".join(withheld.values())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ((ClaimChange(None, claim("b", "3")),), "CPUs 3 of service 'b' are owned by another service as well"),
        ((ClaimChange(None, claim("b", "4")), ClaimChange(None, claim("c", "4"))), "CPUs 4 of service 'c' are owned"),
        ((ClaimChange(None, claim("a", "4")),), "service 'a' has two claims"),
        ((ClaimChange(claim("a", "2"), claim("a", "4")),), "service 'a' does not hold what a change takes from it"),
        ((ClaimChange(claim("b", "4"), None),), "service 'b' does not hold what a change takes from it"),
        ((ClaimChange(None, claim("b", "")),), "holds no CPUs"),
        ((ClaimChange(None, claim("b", "4", explicit="5")),), "explicit ones it does not own"),
        ((ClaimChange(None, replace(claim("b", "4"), alone=cpus("5"))),), "holds no CPUs, or explicit ones"),
        ((ClaimChange(None, replace(claim("b", "4"), pool=cast("PoolName", "other"))),), "names an unknown pool"),
    ],
)
def test_a_change_that_contradicts_the_claims_is_not_applied(changes: tuple[ClaimChange, ...], sentence: str) -> None:
    ledger = holding(claim("a", "2-3"))
    with pytest.raises(LedgerError, match=sentence):
        ledger.apply(Change(changes))
    assert (dict(ledger.claims), str(ledger.claimed)) == ({"a": claim("a", "2-3")}, "2-3")


SERVICES = st.sampled_from(["a", "b", "c", "d"])
POLICIES = st.sampled_from([None, "legacy", "non-preemptive"])
WISHES = st.one_of(
    st.just(Wishes()),
    st.builds(
        Wishes,
        numa_policy=st.sampled_from([None, *get_args(NumaPolicy)]),
        cpu_thread_policy=st.sampled_from([None, *get_args(CpuThreadPolicy)]),
        uncore_cache_alignment=st.sampled_from([None, *get_args(UncoreCacheAlignment)]),
        near=st.sampled_from([None, 0, 1]),
    ),
)
OPTIONS = st.fixed_dictionaries(
    {
        "numa-reclaim": st.sampled_from(["if-needed", "always", "never"]),
        "prefer-closest-numa-nodes": st.booleans(),
        **{
            option: st.sampled_from(get_args(values))
            for option, values in (
                ("numa-policy", NumaPolicy),
                ("numa-allocation-strategy", NumaAllocationStrategy),
                ("uncore-cache-alignment", UncoreCacheAlignment),
                ("cpu-thread-policy", CpuThreadPolicy),
                ("cpu-distribution", CpuDistribution),
            )
        },
    }
)


class Requests(RuleBasedStateMachine):
    """Random requests over a random machine keep the invariants."""

    @initialize(
        shape=st.sampled_from(
            [
                SHAPE,
                Shape(packages=1, nodes_per_package=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2),
                Shape(nodes_per_package=2, cores_per_l3=4, l3_scope="package", numbering="interleaved"),
                Shape(packages=3, cores_per_l3=2, threads_per_core=4, siblings="adjacent", l3_scope="none"),
            ]
        ),
        data=st.data(),
        options=OPTIONS,
    )
    def start(self, shape: Shape, data: st.DataObject, options: dict[str, Any]) -> None:
        everything = list(range(shape.cpus))
        isolated = CpuSet(data.draw(st.sets(st.sampled_from(everything), min_size=1)))
        self.general = CpuSet(data.draw(st.sets(st.sampled_from(everything)))) - isolated
        self.machine = made_up(replace(shape, isolated=str(isolated)))
        self.set(options)
        self.nodes = {node.id: node.cpus for node in self.machine.nodes}
        self.ledger = Ledger()

    @rule(options=OPTIONS)
    def set(self, options: dict[str, Any]) -> None:
        """The operator changes the settings, as far as they do not contradict each other."""
        try:
            settings = parse_settings({"cpu-pool": str(self.general), **options})
        except SettingsError:
            settings = parse_settings({"cpu-pool": str(self.general), "numa-reclaim": options["numa-reclaim"]})
        self.pools = build_pools(self.machine, None, settings)

    def decide(self, service: str, grant: Grant, kept: CpuSet) -> None:
        """Take a grant over; `kept` are the CPUs that the service must keep (a grown or repeated request)."""
        before = self.ledger
        self.ledger = grant.ledger
        after = self.ledger.claims.get(service)
        assert after == grant.claim
        assert grant.cpus <= (after.cpus if after else EMPTY)
        assert kept <= (after.cpus if after else EMPTY)
        for name, claim in before.claims.items():
            if name != service and self.ledger.claims.get(name) != claim:
                assert claim.preemption_policy == "legacy"
                left = self.ledger.claims[name].cpus if name in self.ledger.claims else EMPTY
                assert (claim.cpus - left) <= grant.cpus - claim.explicit

    def held(self, service: str) -> CpuSet:
        return self.ledger.claims[service].cpus if service in self.ledger.claims else EMPTY

    def respects(self, grant: Grant, own: CpuSet, wishes: Wishes) -> None:
        """The CPUs respect the rules of the policy, unless they are what the service held and asked nothing of."""
        assert grant.task is not None
        assert grant.claim is not None
        if grant.cpus != own or wishes != Wishes():
            assert broken_rule(grant.task, grant.cpus) is None
            if len(grant.claim.cpus) == len(grant.cpus) and not own:
                assert grant.claim.placed_by == with_wishes(self.pools.settings.placement, wishes)

    @rule(service=SERVICES, count=st.integers(0, 20), policy=POLICIES, wishes=WISHES, general=st.booleans())
    def allocate(
        self, service: str, count: int, policy: PreemptionPolicy | None, wishes: Wishes, general: bool
    ) -> None:
        pool = self.pools.general if general else self.pools.isolated
        if pool is None:
            return
        own = self.held(service)
        ask = Ask(service, pool, policy, wishes)
        try:
            grant = allocate(self.ledger, self.pools, ask, count)
        except Refused:
            return
        self.respects(grant, own, wishes)
        assert count == 0 or len(grant.cpus) == count
        assert grant.cpus <= own or own <= grant.cpus
        self.decide(service, grant, own if len(grant.cpus) >= len(own) else EMPTY)
        again = allocate(self.ledger, self.pools, ask, count)
        assert (again.change, again.cpus) == (Change(), grant.cpus)

    @rule(
        service=SERVICES,
        node=st.integers(0, 2),
        count=st.integers(1, 12),
        policy=POLICIES,
        wishes=WISHES,
        general=st.booleans(),
    )
    def allocate_in_node(
        self, service: str, node: int, count: int, policy: PreemptionPolicy | None, wishes: Wishes, general: bool
    ) -> None:
        pool = self.pools.general if general else self.pools.isolated
        if pool is None or node not in self.nodes:
            return
        before, own = self.ledger, self.held(service)
        ask = Ask(service, pool, policy, wishes._replace(near=None))
        try:
            grant = allocate_in_node(self.ledger, self.pools, ask, node, self.nodes[node], count)
        except Refused:
            return
        self.respects(grant, own & self.nodes[node], ask.wishes)
        assert len(grant.cpus) == count
        assert grant.cpus <= self.nodes[node]
        in_node = own & self.nodes[node]
        self.decide(service, grant, own if count >= len(in_node) else own - in_node)
        threads = grant.task.policy.cpu_thread_policy if grant.task else None
        enough = len(before.free(pool) & self.nodes[node]) + len(in_node) >= count
        if enough and self.pools.settings.numa_reclaim != "always" and threads not in ("require", "isolate"):
            assert all(change.service == service for change in grant.change.claims)
        again = allocate_in_node(self.ledger, self.pools, ask, node, self.nodes[node], count)
        assert (again.change, again.cpus) == (Change(), grant.cpus)

    @rule(service=SERVICES)
    def release(self, service: str) -> None:
        claim = self.ledger.claims.get(service)
        self.decide(service, release(self.ledger, claim.pool if claim else "isolated", service), EMPTY)
        assert service not in self.ledger.claims

    @rule(service=SERVICES, node=st.integers(0, 2))
    def release_in_node(self, service: str, node: int) -> None:
        claim = self.ledger.claims.get(service)
        cpus_of_node = self.nodes.get(node, EMPTY)
        grant = release_in_node(self.ledger, claim.pool if claim else "isolated", service, cpus_of_node, None)
        kept = self.held(service) - cpus_of_node
        self.decide(service, grant, kept)
        assert self.held(service) == kept

    @invariant()
    def owners_are_disjoint_and_inside_their_pool(self) -> None:
        if not hasattr(self, "ledger"):
            return
        seen = EMPTY
        for claim in self.ledger.claims.values():
            pool = self.pools.get(claim.pool)
            assert pool is not None
            assert claim.cpus
            assert not claim.cpus & seen
            assert claim.cpus <= pool.configured
            assert claim.explicit <= claim.cpus
            seen |= claim.cpus
        rebuilt = Ledger.of(self.ledger.claims.values(), {}, self.ledger.cores)
        assert self.ledger.claimed == rebuilt.claimed == seen
        assert self.ledger.withheld == rebuilt.withheld
        assert self.ledger.owned == rebuilt.owned
        assert self.ledger.reclaimable == rebuilt.reclaimable

    @invariant()
    def what_is_withheld_is_siblings_and_withheld_once(self) -> None:
        if not hasattr(self, "ledger"):
            return
        seen = EMPTY
        for claim in self.ledger.claims.values():
            assert not claim.withheld & (seen | self.ledger.claimed)
            seen |= claim.withheld
            cores_of_claim = [core.cpus for core in self.machine.cores if core.cpus & claim.cpus]
            assert all(any(cpu in core for core in cores_of_claim) for cpu in claim.withheld)
        assert self.ledger.withheld == seen
        for pool in (self.pools.isolated, self.pools.general):
            assert pool is None or self.ledger.free(pool) == pool.eligible - self.ledger.claimed - seen


TestRequests = Requests.TestCase
TestRequests.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)


class TestRepeated:
    """A repeated request is a no-op, whatever the operator has changed meanwhile."""

    NEAR = Wishes(near=0)

    def placed(self, count: int, at: Pools) -> Ledger:
        return allocate(Ledger(), at, Ask("a", at.isolated, None, self.NEAR), count).ledger

    @pytest.mark.parametrize(
        "change",
        [{"numa_policy": "single-numa-node"}, {"cpu_thread_policy": "isolate"}, {"cpu_thread_policy": "require"}],
    )
    @pytest.mark.parametrize("count", [0, 7])
    def test_with_the_same_wishes(self, count: int, change: dict[str, Any]) -> None:
        ledger, at = self.placed(count, pools()), pools(**change)
        assert not allocate(ledger, at, Ask("a", at.isolated, None, self.NEAR), count).change

    def test_a_claim_that_only_grew_was_placed_by_the_policy_that_placed_it_first(self) -> None:
        ledger, at = self.placed(2, pools()), pools(numa_allocation_strategy="spread")
        grown = allocate(ledger, at, Ask("a", at.isolated), 4).claim
        assert grown is not None
        assert grown.placed_by == PlacementPolicy(near=0)
        assert grown.wishes == Wishes()


def test_siblings_in_the_other_pool_are_somebody_elses() -> None:
    at = pools(isolated="2-7", cpu_pool="10-15", cpu_thread_policy="isolate")
    with pytest.raises(Refused, match="2 cores would not be so"):
        allocate(Ledger(), at, Ask("a", at.isolated), 2)


def test_what_is_withheld_and_offline_stays_so_when_the_claim_grows() -> None:
    at = pools(cpu_thread_policy="isolate")
    ledger, known = allocate(Ledger(), at, Ask("a", at.isolated), 2).ledger, at.cores
    at = replace(pools(offline="10", cpu_thread_policy="isolate"), cores=known)
    grown = allocate(ledger, at, Ask("a", at.isolated), 3).claim
    assert grown is not None
    assert "10" in str(grown.withheld)


def test_a_withheld_thread_of_an_older_database_that_is_offline_at_first_stays_withheld() -> None:
    old = [claim("a", "2-3", withheld="10-11")]
    ledger = Ledger.of(old, {}).on(pools(offline="10").cores)
    assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
    ledger = ledger.on(pools().cores)
    assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
    assert str(ledger.claims["a"].alone) == "2-3"


def test_a_thread_of_a_core_that_is_not_known_any_more_is_neither_withheld_nor_free_for_its_claim() -> None:
    ledger = holding(replace(claim("a", "2"), alone=cpus("2")))
    assert owned_and_withheld(ledger) == {"a": ("2", "10")}
    alone = pools(offline="10", isolated="2-3,10")
    ledger = Ledger.of([*ledger.on({}).claims.values(), claim("b", "10")], {})
    assert owned_and_withheld(ledger) == {"a": ("2", ""), "b": ("10", "")}
    grown, chosen = cores(ledger, "a", 2, at=replace(alone, cores={}))
    assert (chosen, str(grown.claims["b"].cpus)) == ("2-3", "10")
