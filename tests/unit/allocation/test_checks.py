# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks: the sentence of each refusal before placement."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.checks import (
    claim_in,
    eligible_in_node,
    preemption_policy_after,
    require_available,
    require_usable,
)
from epa_orchestrator.allocation.pools import NO_ISOLATED_CPUS, NodeCpus
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.cpuset import EMPTY
from tests.builders import NODE, claim, cpus, holding, pools

POOL = pools().isolated


def test_a_claim_is_found_in_its_pool_only() -> None:
    ledger = holding(claim("a", "2"))
    assert claim_in(ledger, "isolated", "a") == claim("a", "2")
    assert claim_in(ledger, "general", "b") is None
    with pytest.raises(Refused, match="Service 'a' holds CPUs in pool isolated: release that allocation in its pool"):
        claim_in(ledger, "general", "a")


def test_unavailable_cpus_are_named() -> None:
    require_available(POOL, "a", cpus("2-7"))
    with pytest.raises(Refused, match="'a' holds CPUs 0-1, which are offline or no longer in pool isolated: release"):
        require_available(POOL, "a", cpus("0-2"))


def test_the_problem_of_the_pool_comes_first() -> None:
    with pytest.raises(Refused, match=NO_ISOLATED_CPUS):
        require_usable(pools(isolated="").isolated, "a", cpus("2"))


def test_a_node_has_its_cpus_of_the_pool() -> None:
    assert eligible_in_node(POOL, NodeCpus(0, NODE[0]), 4) == cpus("2-3,10-11")


@pytest.mark.parametrize(
    ("node", "isolated", "count", "sentence"),
    [
        (2, "2-7", 1, "NUMA node 2 does not exist"),
        (0, "", 1, NO_ISOLATED_CPUS),
        (0, "4-7", 1, "No eligible CPUs available in NUMA node 0"),
        (0, "2-7", 3, "NUMA node 0 only has 2 eligible CPUs, but 3 were requested"),
    ],
)
def test_a_node_without_enough_cpus_is_refused(node: int, isolated: str, count: int, sentence: str) -> None:
    with pytest.raises(Refused, match=f"^{sentence}$"):
        eligible_in_node(pools(isolated=isolated).isolated, NodeCpus(node, NODE.get(node, EMPTY)), count)


def test_a_preemption_policy_is_set_and_inherited() -> None:
    assert preemption_policy_after(POOL, None, None) == "legacy"
    assert preemption_policy_after(POOL, claim("a", "2"), "non-preemptive") == "non-preemptive"
    assert preemption_policy_after(POOL, claim("a", "2", policy="non-preemptive"), None) == "non-preemptive"


def test_a_preemption_policy_is_not_weakened() -> None:
    with pytest.raises(Refused, match="release its CPUs before it goes back to legacy"):
        preemption_policy_after(POOL, claim("a", "2", policy="non-preemptive"), "legacy")
