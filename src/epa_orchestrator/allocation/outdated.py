# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Outdated: which claims the settings in use would place differently. Such claims are reported, never moved.

So are claims with a promise that the machine no longer keeps as it is now: a core that others have threads of, a rule
about whole cores, NUMA nodes or L3 domains.

Judging a claim places it once more, which takes 2 ms on 4,096 CPUs, and 250 ms for a claim of half of them. So a
`Review` only keeps the verdicts, and another thread judges the claims, a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pool, Pools
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.policy import NO_WISHES, ContradictionError, PlacementPolicy, with_wishes
from epa_orchestrator.placement.rules import Unplaceable, broken_rule
from epa_orchestrator.placement.search import place
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import Node, Topology

_NO_CLAIMS: Final[Mapping[str, Claim]] = {}


@dataclass(frozen=True)
class Pending:
    """Claims that are not judged yet, with the ledger and pools that they are judged on.

    Nothing in it changes, so any thread may judge them.
    """

    ledger: Ledger
    pools: Pools
    claims: tuple[Claim, ...]

    def judge(self, time_is_up: Callable[[], bool]) -> list[tuple[Claim, bool]]:
        """The verdicts on the first claim, and on more of them until the time is up."""
        verdicts: list[tuple[Claim, bool]] = []
        for claim in self.claims:
            pool = self.pools.get(claim.pool)
            verdicts.append((claim, pool is not None and is_outdated(self.ledger, pool, claim)))
            if time_is_up():
                break
        return verdicts


class Review:
    """Which claims are outdated, and which claims have to be judged.

    A verdict is kept until its claim is judged again, even if other claims change. It is dropped when the claim itself
    or the placement policy changes. `revision` counts the changes of `outdated`.
    """

    def __init__(self) -> None:
        self._outdated: dict[str, Claim] = {}
        self.revision = 0
        self._ledger = Ledger()
        self._pools: Pools | None = None
        #: The claims that were placed by a policy other than the one in use, or that were promised something: only
        #: these are judged.
        self._contested: dict[str, Claim] = {}
        #: Claims with a verdict, the oldest verdict first; and claims that wait for one on the present ledger.
        self._judged: dict[str, Claim] = {}
        self._left: dict[str, Claim] = {}

    @property
    def outdated(self) -> set[str]:
        """The services with claims that were found outdated."""
        return set(self._outdated)

    def services_with_outdated(self, claims: Mapping[str, Claim]) -> set[str]:
        """The services whose claims are among those found outdated; a claim that has changed since is not.

        Any thread may call it.
        """
        outdated = self._outdated.copy()  # the event loop may change it meanwhile
        return {service for service, claim in outdated.items() if claims.get(service) is claim}

    def use(self, ledger: Ledger, pools: Pools) -> None:
        """Use this ledger and these pools from now on; cheap when they are in use already."""
        if pools is self._pools and ledger.claims is self._ledger.claims:
            return
        same_policy = self._pools is not None and pools.settings.placement == self._pools.settings.placement
        before = self._ledger.claims if same_policy else _NO_CLAIMS
        self._sort_out(before, ledger.claims, pools.settings.placement)
        self._ledger, self._pools = ledger, pools
        # Claims without a verdict first, then the oldest verdicts: each gets its turn even if the ledger changes.
        unjudged = {service: claim for service, claim in self._contested.items() if service not in self._judged}
        self._left = unjudged | self._judged

    def pending(self, most: int) -> Pending | None:
        """The next claims to judge, at most `most`; None when all are judged."""
        if not self._left or self._pools is None:
            return None
        return Pending(self._ledger, self._pools, tuple(islice(self._left.values(), most)))

    def take(self, pending: Pending, verdicts: Sequence[tuple[Claim, bool]]) -> None:
        """Keep verdicts, except those on claims that have changed since."""
        is_current = pending.pools is self._pools and pending.ledger.claims is self._ledger.claims
        for claim, verdict in verdicts:
            if self._contested.get(claim.service) is claim:
                self._keep(claim, verdict, is_current=is_current)

    def _sort_out(self, before: Mapping[str, Claim], claims: Mapping[str, Claim], placement: PlacementPolicy) -> None:
        """Find the contested claims among those that are new since `before`."""
        for service in [each for each in (*self._contested, *self._outdated) if each not in claims]:
            self._forget(service)
        for service, claim in claims.items():
            if before.get(service) is claim:
                continue
            policy = _policy(placement, claim)
            self._forget(service)
            if policy is None:
                self._set(claim, verdict=True)
            elif policy != claim.placed_by or policy.rules or claim.alone or claim.withheld:
                self._contested[service] = claim

    def _forget(self, service: str) -> None:
        self._contested.pop(service, None)
        self._judged.pop(service, None)
        if self._outdated.pop(service, None) is not None:
            self.revision += 1

    def _keep(self, claim: Claim, verdict: bool, *, is_current: bool) -> None:
        self._judged.pop(claim.service, None)
        self._judged[claim.service] = claim
        self._set(claim, verdict=verdict)
        if is_current:
            self._left.pop(claim.service, None)

    def _set(self, claim: Claim, *, verdict: bool) -> None:
        if verdict == (self._outdated.get(claim.service) is claim):
            return
        self.revision += 1
        if verdict:
            self._outdated[claim.service] = claim
        else:
            del self._outdated[claim.service]


def is_outdated(ledger: Ledger, pool: Pool, claim: Claim) -> bool:
    """Whether a claim breaks a promise on the machine as it is now, or the policy in use would choose better CPUs.

    The promises are a core to itself, and the rules of the policy in use. "Better" is measured by the policy in use if
    another one placed the claim, and also against what the other policy would choose now: CPUs that have become free
    since do not count. A claim with CPUs that are not eligible is only judged by its promises.
    """
    policy = _policy(pool.settings.placement, claim)
    if policy is None:
        return True
    if not pool.eligible:
        return False
    if _shares_a_core(ledger, pool, claim):
        return True
    is_contested = policy != claim.placed_by and claim.cpus <= pool.eligible
    if not policy.rules and not is_contested:
        return False
    topology = pool.topology(ledger.claimed - claim.cpus)
    free = ledger.free_for(pool, claim) | claim.cpus
    tasks = [Task(topology, free, EMPTY, len(claim.cpus), policy)]
    if claim.explicit:
        tasks = [_in_node(topology, free, claim, policy, node) for node in topology.nodes_of(claim.cpus.mask)]
    if any(broken_rule(task, claim.cpus & task.free & pool.eligible) is not None for task in tasks):
        return True
    # The machine may have come back without the node that the claim is to be near.
    return is_contested and _known(topology, policy) and any(_is_placed_differently(task, claim) for task in tasks)


def _shares_a_core(ledger: Ledger, pool: Pool, claim: Claim) -> bool:
    """Whether a CPU that was promised a core to itself shares it: a thread of it is used by others, or by the claim.

    Others are other services, and whoever runs on online CPUs that are not in the pool.
    """
    if not claim.alone:
        return False
    online = pool.machine.online if pool.machine else EMPTY
    used = ledger.claimed | pool.neighbours | (online - pool.eligible)
    siblings = ledger.threads_of(claim) & ~claim.alone.mask
    if siblings & used.mask:
        return True
    cores = {threads for cpu in claim.alone if (threads := ledger.cores.get(cpu))}
    return any((threads & claim.alone.mask).bit_count() > 1 for threads in cores)


def _policy(placement: PlacementPolicy, claim: Claim) -> PlacementPolicy | None:
    """The policy that a claim would be placed by now; None where its wishes contradict it."""
    if claim.wishes == NO_WISHES:
        return placement
    try:
        return with_wishes(placement, claim.wishes)
    except ContradictionError:
        return None


def _in_node(topology: Topology, free: CpuSet, claim: Claim, policy: PlacementPolicy, node: Node) -> Task:
    """The part of a claim that lies in one NUMA node, as a request for that node."""
    cpus = CpuSet.from_mask(node.cpus)
    return Task(topology, free & cpus, EMPTY, len(claim.cpus & cpus), policy, node=node.id, around=free - cpus)


def _is_placed_differently(task: Task, claim: Claim) -> bool:
    """Whether the policy of the task would choose better CPUs than the claim has, and than the claim's own policy."""
    held = claim.cpus & task.free
    chosen = _chosen(task)
    if chosen is None or _rank(task, chosen) >= _rank(task, held):
        return False
    if not _known(task.topology, claim.placed_by):
        return True
    before = _chosen(replace(task, policy=claim.placed_by))
    # The claim may have been resized to what the other policy cannot place: then there is nothing to compare with.
    return before is not None and _rank(task, chosen) < _rank(task, before)


def _known(topology: Topology, policy: PlacementPolicy) -> bool:
    return policy.near is None or policy.near in topology.distance


def _chosen(task: Task) -> CpuSet | None:
    try:
        return place(task)[0]
    except Unplaceable:
        return None


def _rank(task: Task, cpus: CpuSet) -> tuple[int, ...]:
    """The levels of the cost vector but for the lowest CPU id, which makes nothing better."""
    return task.rank(cpus)[:-1]
