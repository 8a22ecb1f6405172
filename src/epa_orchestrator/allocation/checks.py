# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks: what refuses a request for CPUs before any are chosen. Each raises `Refused`."""

from __future__ import annotations

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pool
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.names import PoolName, PreemptionPolicy


def claim_in(ledger: Ledger, pool: PoolName, service: str) -> Claim | None:
    """The service's claim, None when it holds nothing. Refuses one in the other pool."""
    claim = ledger.claims.get(service)
    if claim is not None and claim.pool != pool:
        raise Refused(
            f"Service '{service}' holds CPUs in pool {claim.pool}: release that allocation in its pool,"
            f" with pool {claim.pool}, before it uses pool {pool}",
            rule="pool",
        )
    return claim


def require_usable(pool: Pool, service: str, held: CpuSet) -> None:
    """Refuse to grant from a pool that has a problem, and to change a claim with unavailable CPUs."""
    if pool.problem is not None:
        raise Refused(pool.problem, rule="pool")
    require_available(pool, service, held)


def require_available(pool: Pool, service: str, held: CpuSet) -> None:
    """Refuse to change a claim with CPUs that are offline or have left the pool: their owner may be running on them."""
    if unavailable := held - pool.eligible:
        raise Refused(
            f"Service '{service}' holds CPUs {unavailable}, which are offline or no longer in pool {pool.name}:"
            " release it first",
            rule="unavailable",
        )


def eligible_in_node(pool: Pool, node: NodeCpus, count: int) -> CpuSet:
    """The pool's CPUs in a node. Refuses a node that does not exist, and more CPUs than the pool has there."""
    if pool.machine is not None and pool.machine.node(node.id) is None:
        raise Refused(f"NUMA node {node.id} does not exist", rule="not-found")
    if pool.problem is not None:
        raise Refused(pool.problem, rule="pool")
    eligible = pool.eligible & node.cpus
    if not eligible:
        raise Refused(f"No eligible CPUs available in NUMA node {node.id}", rule="insufficient")
    if count > len(eligible):
        sentence = f"NUMA node {node.id} only has {len(eligible)} eligible CPUs, but {count} were requested"
        raise Refused(sentence, rule="insufficient")
    return eligible


def preemption_policy_after(pool: Pool, claim: Claim | None, requested: PreemptionPolicy | None) -> PreemptionPolicy:
    """The preemption policy of a claim after a request, which may leave it as it is (None), but not weaken it."""
    if claim is None:
        return requested or pool.settings.default_preemption_policy
    if requested == "legacy" and claim.preemption_policy == "non-preemptive":
        raise Refused(
            f"Service '{claim.service}' is non-preemptive: release its CPUs before it goes back to legacy",
            rule="preemption-policy",
        )
    return requested or claim.preemption_policy
