# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Review: which claims the settings in use would place differently, and that nothing else makes a claim outdated."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.outdated import Review, is_outdated
from epa_orchestrator.allocation.pools import Pools, build_pools
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.policy import DEFAULT_POLICY, NO_WISHES, PlacementPolicy, Wishes, with_wishes
from tests.machines import made_up
from tools.synthetic import Shape

# Node 0 has the cores 2,10 and 3,11 in the pool, node 1 the cores 4,12 to 7,15; each node is one L3 domain.
ISOLATED = "2-7,10-15"


def pools(offline: str = "", isolated: str = ISOLATED, **options: object) -> Pools:
    machine = made_up(Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated=isolated, offline=offline))
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return build_pools(machine, None, parse_settings(named))


def claim(
    own: str,
    *,
    service: str = "a",
    explicit: str = "",
    withheld: str = "",
    wishes: Wishes = NO_WISHES,
    **placed_by: Any,
) -> Claim:
    policy = with_wishes(PlacementPolicy(**placed_by), wishes)
    parts = (CpuSet.parse(part) for part in (explicit, withheld))
    by_node, kept = parts
    return Claim(service, "isolated", CpuSet.parse(own), by_node, "legacy", kept, policy, wishes)


def judged(first: Claim, *others: Claim, at: Pools) -> bool:
    return is_outdated(Ledger.of([first, *others], {}), at.isolated, first)


@pytest.mark.parametrize("own", ["2,10", "2-3", "2,4", "2-7,10-15", "7"])
@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"cpu_thread_policy": "share"},
        {"cpu_distribution": "cores"},
        {"numa_allocation_strategy": "spread"},
        {"uncore_cache_alignment": "none"},
    ],
)
def test_without_a_change_none_is(own: str, policy: dict[str, Any]) -> None:
    """However much better it could be placed now that others have released."""
    assert not judged(claim(own, **policy), at=pools(**policy))
    assert not judged(claim(own, explicit=own, **policy), at=pools(**policy))


@pytest.mark.parametrize(
    ("own", "policy", "expected"),
    [
        ("2,10", {"cpu_thread_policy": "require"}, False),
        ("2-3", {"cpu_thread_policy": "require"}, True),
        ("2-3", {"cpu_thread_policy": "isolate"}, False),
        ("2,10", {"cpu_thread_policy": "isolate"}, True),
        ("2,10", {"numa_policy": "single-numa-node"}, False),
        ("2,4", {"numa_policy": "single-numa-node"}, True),
        ("2-3,4", {"numa_policy": "restricted"}, True),
        ("2-7,10-12", {"numa_policy": "restricted"}, False),  # 9 CPUs need both nodes
        ("4,12", {"uncore_cache_alignment": "require"}, False),
        ("2,4", {"uncore_cache_alignment": "require"}, True),
    ],
)
def test_a_claim_that_breaks_the_rule_that_placed_it_is(own: str, policy: dict[str, Any], expected: bool) -> None:
    """The machine has changed since, or another service has taken CPUs of the claim."""
    assert judged(claim(own, **policy), at=pools(**policy)) is expected
    wishes = Wishes(**policy)
    assert judged(claim(own, wishes=wishes), at=pools()) is expected


@pytest.mark.parametrize(
    ("own", "policy", "expected"),
    [
        # Two threads of one core, and cores of which the claim has a part.
        ("2,10", {"cpu_thread_policy": "isolate"}, True),
        ("2-3", {"cpu_thread_policy": "isolate"}, False),
        ("4-5", {"cpu_thread_policy": "isolate"}, False),
        ("2,10", {"cpu_thread_policy": "require"}, False),
        ("2-3", {"cpu_thread_policy": "require"}, True),
        ("2,10", {"cpu_thread_policy": "share"}, False),
        ("2-3", {"cpu_thread_policy": "share"}, False),
        # The freest node instead of the one that fits tightest.
        ("2,10", {"numa_allocation_strategy": "spread"}, True),
        ("4,12", {"numa_allocation_strategy": "spread"}, False),
        ("7,15", {"numa_allocation_strategy": "spread"}, False),  # as good as 4,12: the CPU id alone moves nobody
        ("2,10", {"numa_allocation_strategy": "distribute"}, False),
        ("2-6,10-14", {"numa_allocation_strategy": "distribute"}, False),  # 4 and 6, as node 0 has no more
        # More NUMA nodes than are needed.
        ("2,4", {"numa_policy": "restricted"}, True),
        ("2,10", {"numa_policy": "restricted"}, False),
        ("2-5,10-14", {"numa_policy": "restricted"}, False),
        ("2-5,10-14", {"numa_policy": "single-numa-node"}, True),
        # More L3 domains than are needed.
        ("2,4", {"uncore_cache_alignment": "require"}, True),
        ("2,10", {"uncore_cache_alignment": "require"}, False),
        # Inside the node.
        ("2,10", {"cpu_distribution": "cores"}, True),
        ("2-3", {"cpu_distribution": "cores"}, False),
        ("2,10", {"prefer_closest_numa_nodes": False}, False),
        ("2,10", {"prefer_core_type": "performance"}, False),  # there is one type only
    ],
)
def test_after_a_change(own: str, policy: dict[str, Any], expected: bool) -> None:
    assert judged(claim(own), at=pools(**policy)) is expected


@pytest.mark.parametrize("own", ["4,12", "7,15", "2-3", "2,4", "5,7"])
@pytest.mark.parametrize(
    "policy",
    [
        {"prefer_core_type": "performance"},  # there is one type only
        {"cpu_thread_policy": "share"},
        {"prefer_closest_numa_nodes": False},
        {"numa_allocation_strategy": "distribute"},
    ],
)
def test_released_cpus_do_not_count_after_a_change_either(own: str, policy: dict[str, Any]) -> None:
    """CPUs 2 and 10 would be better under both policies."""
    assert not judged(claim(own), at=pools(**policy))


@pytest.mark.parametrize(
    ("own", "before", "withheld", "after", "expected"),
    [
        ("2-3", "isolate", "10-11", "isolate", False),
        ("2-3", "isolate", "10-11", "prefer", True),
        ("2-3", "isolate", "10-11", "share", True),
        ("2-3", "isolate", "10-11", "require", True),
        ("2", "isolate", "10", "prefer", False),
        ("2,10", "require", "", "isolate", True),
        ("2,10", "require", "", "prefer", False),
    ],
)
def test_withheld_threads_count_as_the_claims_own(
    own: str, before: str, withheld: str, after: str, expected: bool
) -> None:
    held = claim(own, withheld=withheld, cpu_thread_policy=before)
    assert judged(held, at=pools(cpu_thread_policy=after)) is expected


def test_others_are_in_the_way() -> None:
    """What is not free now is no better place."""
    spread, isolate = pools(numa_allocation_strategy="spread"), pools(cpu_thread_policy="isolate")
    assert judged(claim("2,10"), at=spread)
    assert judged(claim("2,10"), claim("4-6", service="b"), at=spread)
    assert not judged(claim("2,10"), claim("4-6,12-14", service="b"), at=spread)
    assert not judged(claim("2,10"), claim("4-6", service="b", withheld="12-14"), at=spread)
    assert not judged(claim("2-3"), at=isolate)
    assert judged(claim("2-3"), claim("10", service="b"), at=isolate), "a sibling that somebody else has"
    # Where no choice at all respects the new rule, the claim does not either.
    assert judged(claim("2-3"), claim("4-7,10-11", service="b"), at=isolate)


@pytest.mark.parametrize(
    ("own", "wishes", "placed_by", "policy", "expected"),
    [
        # The operator has changed nothing.
        ("2-3", Wishes(cpu_thread_policy="isolate"), {}, {}, False),
        ("4,12", Wishes(near=1), {}, {}, False),
        # The wishes still count under the new setting.
        ("2-3", Wishes(cpu_thread_policy="isolate"), {}, {"numa_allocation_strategy": "spread"}, True),
        ("4-5", Wishes(cpu_thread_policy="isolate"), {}, {"numa_allocation_strategy": "spread"}, False),
        ("4,12", Wishes(near=1), {"numa_allocation_strategy": "spread"}, {}, False),
        ("2,10", Wishes(near=0), {}, {"numa_allocation_strategy": "spread"}, False),
        # What the request wished, or better, the operator now wants of all: nothing changes for it.
        ("2,10", Wishes(cpu_thread_policy="require"), {}, {"cpu_thread_policy": "require"}, False),
        ("2-3", Wishes(cpu_thread_policy="isolate"), {}, {"cpu_thread_policy": "require"}, False),
        # The operator wants more than the request.
        ("2,10", Wishes(cpu_thread_policy="require"), {}, {"cpu_thread_policy": "isolate"}, True),
        ("2,4", Wishes(numa_policy="none"), {}, {"numa_policy": "single-numa-node"}, True),
        # The wish now contradicts another option.
        ("2,10", Wishes(cpu_thread_policy="require"), {}, {"cpu_distribution": "cores"}, True),
        ("2,10", Wishes(uncore_cache_alignment="require"), {}, {"cpu_distribution": "caches"}, True),
    ],
)
def test_wishes(own: str, wishes: Wishes, placed_by: dict[str, Any], policy: dict[str, Any], expected: bool) -> None:
    assert judged(claim(own, wishes=wishes, **placed_by), at=pools(**policy)) is expected


@pytest.mark.parametrize(
    ("own", "policy", "expected"),
    [
        ("2,10", {"numa_allocation_strategy": "spread"}, False),  # the request named the node
        ("2,4", {"numa_policy": "single-numa-node"}, False),
        ("2,4", {"uncore_cache_alignment": "require"}, False),
        ("2,10", {"cpu_thread_policy": "isolate"}, True),
        ("2,4,12", {"cpu_thread_policy": "isolate"}, True),  # in node 1
        ("2,4", {"cpu_thread_policy": "isolate"}, False),
        ("2,10,4", {"cpu_thread_policy": "require"}, True),
        ("2,10,4,12", {"cpu_thread_policy": "require"}, False),
        ("2,4,10", {"cpu_distribution": "cores"}, True),
        ("2-4", {"cpu_distribution": "cores"}, False),
    ],
)
def test_claims_by_node_are_judged_node_by_node(own: str, policy: dict[str, Any], expected: bool) -> None:
    assert judged(claim(own, explicit=own), at=pools(**policy)) is expected


@pytest.mark.parametrize(
    "at",
    [
        pools(offline="10", cpu_thread_policy="isolate"),
        pools(isolated="2-7,11-15", cpu_thread_policy="isolate"),
        pools(isolated="", cpu_thread_policy="isolate"),
    ],
    ids=["offline", "not isolated", "no CPUs"],
)
def test_claims_on_cpus_that_are_not_there_are_not_judged(at: Pools) -> None:
    assert not judged(claim("2,10"), at=at)
    assert not judged(claim("2,10", explicit="2"), at=at)


def test_a_claim_of_the_defaults_is_what_older_databases_have() -> None:
    older = Claim("a", "isolated", CpuSet.parse("2,10"), EMPTY, "legacy")
    assert older == claim("2,10")
    assert older.placed_by == DEFAULT_POLICY == pools().settings.placement


@pytest.mark.parametrize("own", ["4", "4-6", "7"])
def test_a_claim_resized_against_its_earlier_wish_is_not_outdated(own: str) -> None:
    """The service asked for whole cores first, then for another number without that wish; no option changed."""
    assert not judged(claim(own, cpu_thread_policy="require"), at=pools())


def test_a_wish_to_be_near_a_node_that_is_gone_is_not_judged() -> None:
    first = claim("2,10", wishes=Wishes(near=7), cpu_distribution="cores")
    assert not judged(first, at=pools())
    assert judged(claim("2-3", numa_policy="none", near=7), at=pools(cpu_thread_policy="require"))


# --- a review in pieces --------------------------------------------------------------------------------------------


def worked_through(review: Review) -> set[str]:
    """One claim after the other, as if the time were always up."""
    while (pending := review.pending(3)) is not None:
        review.take(pending, pending.judge(lambda: True))
    return set(review.outdated)


def at_once(ledger: Ledger, at: Pools) -> set[str]:
    return {each.service for each in ledger.claims.values() if is_outdated(ledger, at.isolated, each)}


CLAIMS = (
    claim("2,10", service="pair"),
    claim("3,4", service="apart"),
    claim("5", service="one", explicit="5"),
    claim("6,14", service="strict", wishes=Wishes(cpu_thread_policy="require")),
    claim("7", service="isolated", cpu_thread_policy="isolate"),
)

CHANGES: list[dict[str, Any]] = [
    {},
    {"cpu_thread_policy": "isolate"},
    {"cpu_thread_policy": "require"},
    {"numa_allocation_strategy": "spread"},
    {"cpu_distribution": "cores"},
    {"numa_policy": "single-numa-node"},
    {"offline": "4", "cpu_thread_policy": "isolate"},
    {},
]


def test_a_review_finds_what_judging_each_claim_finds() -> None:
    """Through changes of the options, of the machine and of the claims; interrupted after each piece."""
    review, ledger = Review(), Ledger.of(CLAIMS, {})
    for options in CHANGES:
        at = pools(**options)
        for change in (Change(), Change((ClaimChange(CLAIMS[0], None),)), Change((ClaimChange(None, CLAIMS[0]),))):
            ledger = ledger.apply(change)
            review.use(ledger, at)
            assert worked_through(review) == at_once(ledger, at), options
            assert review.pending(1) is None


def test_claims_of_the_same_policy_cost_nothing() -> None:
    review = Review()
    review.use(Ledger.of(CLAIMS[:3], {}), pools())
    assert review.pending(1) is None
    assert review.revision == 0


def test_a_hugepage_record_starts_no_review() -> None:
    review, at, ledger = Review(), pools(cpu_thread_policy="isolate"), Ledger.of(CLAIMS, {})
    review.use(ledger, at)
    worked_through(review)
    review.use(ledger.apply(Change(pages=PagesChange("a", (0, 2048), 0, 1))), at)
    assert review.pending(1) is None


def test_a_verdict_stands_until_the_next_one() -> None:
    review, at, ledger = Review(), pools(cpu_thread_policy="isolate"), Ledger.of(CLAIMS, {})
    review.use(ledger, at)
    found = worked_through(review)
    assert {"pair", "apart"} & found
    freed = ledger.apply(Change((ClaimChange(CLAIMS[4], None),)))
    review.use(freed, at)
    assert review.pending(1) is not None
    assert review.outdated == found - {"isolated"}
    # One that changes itself, or whose policy does, has none.
    moved = claim("2-3,10", service="pair")
    review.use(Ledger.of([moved, *CLAIMS[2:]], {}), at)
    assert review.outdated == found - {"pair", "apart"}
    review.use(ledger, pools(cpu_thread_policy="require"))
    assert not review.outdated - {"isolated"}


def test_all_claims_get_their_turn_while_the_state_keeps_changing() -> None:
    review, at = Review(), pools(cpu_thread_policy="isolate")
    with_it, without = Ledger.of(CLAIMS, {}), Ledger.of(CLAIMS[:4], {})
    expected = at_once(without, at)
    for number in range(len(CLAIMS)):
        review.use((with_it, without)[number % 2], at)
        pending = review.pending(1)
        assert pending is not None
        review.take(pending, pending.judge(lambda: True))
    assert review.outdated == expected


def test_the_revision_counts_the_changes_of_what_is_outdated() -> None:
    review, at = Review(), pools(cpu_thread_policy="isolate")
    review.use(Ledger.of(CLAIMS[:1], {}), at)
    assert (review.revision, worked_through(review), review.revision) == (0, {"pair"}, 1)
    review.use(Ledger(), at)
    assert (review.outdated, review.revision) == (set(), 2)


def test_verdicts_from_elsewhere_count_for_claims_that_have_not_changed() -> None:
    review, at, ledger = Review(), pools(cpu_thread_policy="isolate"), Ledger.of(CLAIMS[:2], {})
    review.use(ledger, at)
    pending = review.pending(10)
    assert pending is not None
    assert [each.service for each in pending.claims] == ["pair", "apart"]
    verdicts = pending.judge(lambda: False)
    changed = ledger.apply(Change((ClaimChange(CLAIMS[0], claim("2", service="pair")),)))
    review.use(changed, at)
    review.take(pending, verdicts)
    assert "pair" not in review.outdated
    waiting = review.pending(10)
    assert waiting is not None
    assert [each.service for each in waiting.claims] == ["apart", "pair"], "judged again on the new ledger"
    assert worked_through(review) == at_once(changed, at)


def test_a_later_claim_of_the_same_service_is_not_shown_as_outdated() -> None:
    review, at, ledger = Review(), pools(cpu_thread_policy="isolate"), Ledger.of(CLAIMS[:1], {})
    review.use(ledger, at)
    worked_through(review)
    assert review.services_with_outdated(ledger.claims) == {"pair"}
    changed = ledger.apply(Change((ClaimChange(CLAIMS[0], claim("2", service="pair")),)))
    assert review.services_with_outdated(changed.claims) == set()
