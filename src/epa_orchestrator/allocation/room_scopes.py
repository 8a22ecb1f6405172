# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room scopes: where a request's CPUs must be, what is missing there, and which claims could free as much.

These are upper bounds, quick to work out: a set of claims that they rule out makes no room in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from epa_orchestrator.allocation.allocate import Terms
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.moving import Movable, has_fine_rules
from epa_orchestrator.allocation.pools import NodeCpus, Pool
from epa_orchestrator.cpuset import EMPTY, CpuSet, iter_bits, union
from epa_orchestrator.hardware.machine import with_siblings
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import limits
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import Topology


@dataclass(frozen=True)
class Question:
    """A request: its terms, the number of CPUs in all or in a NUMA node, and the policy in force for it."""

    terms: Terms
    count: int
    node: NodeCpus | None
    policy: PlacementPolicy


class Scope(NamedTuple):
    """What is missing in a scope, and the claims with what each can free there at most, those with the most first."""

    missing: int
    gains: tuple[int, ...]
    claims: tuple[Movable, ...]

    def sets(self, size: int) -> Iterator[tuple[Movable, ...]]:
        """The sets of this size that can free what is missing."""
        for indexes in _covering(self.gains, size, self.missing):
            yield tuple([self.claims[index] for index in indexes])


def _covering(gains: Sequence[int], size: int, missing: int, first: int = 0) -> Iterator[tuple[int, ...]]:
    """The indexes of each `size` gains, which are sorted, that come to at least what is missing."""
    if size == 0:
        yield ()
        return
    for index in range(first, len(gains) - size + 1):
        if sum(gains[index : index + size]) < missing:
            return
        for rest in _covering(gains, size - 1, missing - gains[index], index + 1):
            yield (index, *rest)


def scopes_of(
    ledger: Ledger, pool: Pool, claims: Sequence[Movable], question: Question, time_is_up: Callable[[], bool]
) -> list[Scope]:
    """The scopes of a request, those with the least missing first; only some of them if the time is up."""
    terms, count, node, policy = question.terms, question.count, question.node, question.policy
    topology, asking = pool.topology(), ledger.claims.get(terms.service)
    held = asking.cpus if asking else EMPTY
    available = (ledger.free_for(pool, asking) | held | reclaimable(ledger, pool, terms, node)).mask
    # CPUs that a claim asked for by NUMA node stay in this node; rules about cores count cores, not CPUs.
    counts_cpus = not has_fine_rules(policy)
    capacity, freed_by = _Capacity(topology, policy), [_freed(pool, policy, each.claim) for each in claims]
    found: list[Scope] = []
    for scope, is_node in _masks(pool, topology, count, node, policy):
        if time_is_up():
            break
        gains: list[tuple[int, Movable]] = []
        for each, freed in zip(claims, freed_by, strict=True):
            gain = capacity.gain(scope, available, freed & scope) if freed & scope else 0
            stays = (each.claim.explicit.mask & scope).bit_count() if is_node and counts_cpus else 0
            gains.append((max(gain - stays, 0), each))
        gains.sort(key=lambda gain: -gain[0])
        missing = count - capacity.of(scope, scope, available)
        found.append(Scope(missing, tuple([gain for gain, _ in gains]), tuple([each for _, each in gains])))
    return sorted(found, key=lambda scope: scope.missing)


def reclaimable(ledger: Ledger, pool: Pool, terms: Terms, node: NodeCpus | None) -> CpuSet:
    """The CPUs that the request may take from others: those of a NUMA node, if its service is legacy."""
    claim = ledger.claims.get(terms.service)
    preemption_policy = terms.preemption_policy or (
        claim.preemption_policy if claim else pool.settings.default_preemption_policy
    )
    if node is None or preemption_policy != "legacy" or pool.settings.numa_reclaim == "never":
        return EMPTY
    return ledger.reclaimable_for(pool, terms.service, claim.cpus if claim else EMPTY) & node.cpus & pool.eligible


def _masks(
    pool: Pool, topology: Topology, count: int, node: NodeCpus | None, policy: PlacementPolicy
) -> list[tuple[int, bool]]:
    """The scopes as masks, each with whether it is a whole NUMA node."""
    eligible = pool.eligible & node.cpus if node else pool.eligible
    if count > len(eligible):
        return [(eligible.mask, False)]
    allowed = limits(Task(topology, eligible, EMPTY, count, policy, node=node.id if node else None))
    one_node = node is not None or allowed.numa_nodes == 1
    areas = [each.cpus & eligible.mask for each in topology.nodes.values()] if one_node else [eligible.mask]
    if allowed.l3_domains == 1:
        areas = [area & l3 for area in areas for l3 in topology.l3_cpus.values()]
        one_node = False
    return [(area, one_node) for area in areas if area]


class _Capacity:
    """How many CPUs the available ones can give under the thread policy, at most."""

    def __init__(self, topology: Topology, policy: PlacementPolicy) -> None:
        self._one_of_a_core = policy.cpu_thread_policy == "isolate"
        self._core_of: dict[int, int] | None = None
        if policy.cpu_thread_policy in ("require", "isolate"):
            self._core_of = {cpu: core for cell in topology.cells for core in cell.cores for cpu in iter_bits(core)}

    def of(self, part: int, scope: int, available: int) -> int:
        """What a part of a scope gives; where cores count, what the cores with CPUs of the part give in the scope."""
        if self._core_of is None:
            return (part & available).bit_count()
        whole = [core for core in {self._core_of[cpu] & scope for cpu in iter_bits(part)} if not core & ~available]
        return len(whole) if self._one_of_a_core else union(whole).bit_count()

    def gain(self, scope: int, available: int, freed: int) -> int:
        """How many more CPUs a scope gives when these CPUs of it are free."""
        return self.of(freed, scope, available | freed) - self.of(freed, scope, available)


def _freed(pool: Pool, policy: PlacementPolicy, claim: Claim) -> int:
    """What the claim frees at most: its CPUs and what it withholds, and where cores count, all threads of its cores."""
    mask = claim.cpus.mask | claim.withheld.mask
    if policy.cpu_thread_policy not in ("require", "isolate"):
        return mask
    return with_siblings(mask, pool.cores)
