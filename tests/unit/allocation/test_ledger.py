# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Ledger: what it derives from claims, and the changes that it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.ledger import LedgerError
from epa_orchestrator.names import PoolName
from tests.builders import claim, cpus, holding


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


def test_a_release_changes_what_another_claim_withholds() -> None:
    before = holding(claim("b", "18", withheld="10"), claim("a", "2", withheld="10"), claim("c", "4", withheld="12"))
    change = Change((ClaimChange(before.claims["a"], None),))
    changed = before.apply(change).changes_since(before, change)
    assert [(each.service, each.before and str(each.before.withheld)) for each in changed] == [("a", "10"), ("b", "")]
    assert [each.after and str(each.after.withheld) for each in changed] == [None, "10"]


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
