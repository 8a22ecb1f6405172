# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Moving: how an operator moves a claim by hand: a release, then ordinary requests that place it again.

The requests ask for what the claim has: its size, its wishes and thread policy, its CPUs by NUMA node in these nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epa_orchestrator.allocation.allocate import Terms, allocate, allocate_in_node
from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pool
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes

#: The thread policies that promise something about the cores of a claim.
_PROMISES = ("require", "isolate")


@dataclass(frozen=True)
class Step:
    """One request that places a part of a claim: `count` CPUs anywhere, or so many more CPUs of a NUMA node."""

    count: int
    node: NodeCpus | None
    wishes: Wishes


@dataclass(frozen=True)
class Movable:
    """A claim that can be moved, its pool, and the requests that place it again, in order."""

    claim: Claim
    pool: Pool
    steps: tuple[Step, ...]

    def near(self, node: int) -> Movable:
        """The same, placed near a NUMA node."""
        first, *rest = self.steps
        steered = Step(first.count, None, first.wishes._replace(near=node))
        return Movable(self.claim, self.pool, (steered, *rest))

    @property
    def can_be_steered(self) -> bool:
        """Whether the wish to be near a NUMA node can say where the claim goes."""
        return self.steps[0].node is None and self.steps[0].wishes.near is None

    def place(self, ledger: Ledger) -> Ledger | None:
        """The ledger after all steps, on one where the claim is released; None if one of them is refused.

        None also if a step would take CPUs from a service: that would move one claim more.
        """
        claim = self.claim
        for step in self.steps:
            terms = Terms(claim.service, claim.preemption_policy, step.wishes)
            try:
                if step.node is None:
                    grant = allocate(ledger, self.pool, terms, step.count)
                else:
                    placed = ledger.claims.get(claim.service)
                    there = len(placed.cpus & step.node.cpus) if placed else 0
                    grant = allocate_in_node(ledger, self.pool, terms, step.node, there + step.count)
            except Refused:
                return None
            if len(grant.change.claims) > 1:
                return None
            ledger = grant.ledger
        return ledger


def movable(claim: Claim, pool: Pool, nodes: Mapping[int, CpuSet]) -> Movable | None:
    """The requests that place a claim again; None if it has CPUs by NUMA node in a node that is not known."""
    wishes = _wishes(claim)
    in_nodes = wishes._replace(near=None)
    steps: list[Step] = []
    # First, because a request for CPUs anywhere makes all CPUs of the service ordinary ones.
    if anywhere := claim.cpus - claim.explicit:
        steps.append(Step(len(anywhere), None, wishes))
    left = claim.explicit
    for node, cpus in sorted(nodes.items()) if left else ():
        if part := left & cpus:
            steps.append(Step(len(part), NodeCpus(node, cpus), in_nodes))
            left -= part
    if left:
        return None
    return Movable(claim, pool, tuple(steps))


def without(ledger: Ledger, claims: tuple[Claim, ...]) -> Ledger:
    """The ledger after these claims are released."""
    return ledger.apply(Change(tuple([ClaimChange(claim, None) for claim in claims])))


def _wishes(claim: Claim) -> Wishes:
    """The wishes of a claim, and the thread policy that was promised when it was placed."""
    promised = claim.placed_by.cpu_thread_policy
    if claim.alone:
        promised = "isolate"
    if claim.wishes.cpu_thread_policy is not None or promised not in _PROMISES:
        return claim.wishes
    return claim.wishes._replace(cpu_thread_policy=promised)


def has_fine_rules(policy: PlacementPolicy) -> bool:
    """Whether rules about cores or L3 domains decide what is possible, not only the CPUs of each NUMA node."""
    return policy.cpu_thread_policy in _PROMISES or policy.uncore_cache_alignment == "require"
