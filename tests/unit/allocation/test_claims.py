# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claims: what a claim keeps when it loses CPUs, and the service that a change is about."""

from __future__ import annotations

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PagesChange
from epa_orchestrator.cpuset import EMPTY, CpuSet

CLAIM = Claim("a", "isolated", CpuSet([2, 3, 4]), CpuSet([3, 4]), "legacy", CpuSet([10, 11]), alone=CpuSet([2, 3]))


def test_claim_that_loses_cpus_is_explicit_and_alone_on_the_rest() -> None:
    left = CLAIM.without(CpuSet([3]))
    assert left is not None
    assert (left.cpus, left.explicit, left.alone) == (CpuSet([2, 4]), CpuSet([4]), CpuSet([2]))


def test_withheld_cpus_are_derived_again_for_the_rest() -> None:
    left = CLAIM.without(CpuSet([3]))
    assert left is not None
    assert left.withheld == EMPTY


def test_claim_that_loses_everything_is_gone() -> None:
    assert CLAIM.without(CpuSet([2, 3, 4, 5])) is None


def test_change_names_the_service_of_either_side() -> None:
    assert ClaimChange(CLAIM, None).service == ClaimChange(None, CLAIM).service == "a"


def test_only_a_change_of_something_is_true() -> None:
    assert not Change()
    assert Change((ClaimChange(CLAIM, None),))
    assert Change(pages=PagesChange("a", (0, 2048), 0, 1))
