# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Allocate: how each request for CPUs changes the ledger.

Pure decisions: each returns a `Grant`, or raises `Refused`, and then nothing has happened. The rules are those of
docs/reference/protocol.md. The steps of an allocation:

1. Check that the service may use the pool, and that all that it holds is available.
2. Find the CPUs that are free for it, and how many it gets.
3. Place them (`placement.search`), under the operator's placement policy and the request's wishes.
4. Describe the claim afterwards, and what other services lose.

A request for what the service holds is no replacement: whatever would refuse it (CPUs that are offline, a pool with a
problem, an option that has changed), the service keeps its CPUs, because guests run on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from epa_orchestrator.allocation.checks import (
    claim_in,
    eligible_in_node,
    preemption_policy_after,
    require_available,
    require_usable,
)
from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pool, Pools
from epa_orchestrator.allocation.refusal import HELD_BY_OTHERS, INSUFFICIENT, Refused
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.allocation.sizes import default_size, percent_of
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import with_siblings
from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import NO_WISHES, ContradictionError, PlacementPolicy, Wishes, with_wishes
from epa_orchestrator.placement.rules import Unplaceable, broken_rule
from epa_orchestrator.placement.search import Placed, place_compared
from epa_orchestrator.placement.task import Task

#: What a release has compared.
NOT_PLACED: Final = Placed([])


class Grant(NamedTuple):
    """A decision: what changes, the ledger after it, the CPUs that the answer names, and the service's claim then.

    `task` is how it was placed, None for a release; `placed` are the choices that were compared.
    """

    change: Change
    ledger: Ledger
    cpus: CpuSet
    claim: Claim | None
    task: Task | None = None
    placed: Placed = NOT_PLACED


class Terms(NamedTuple):
    """The service that gets the CPUs, and how. None and no wishes leave it to the claim and the operator.

    `choices` is how many choices to return, the best one first, for an explanation. `unknown` says why a wish cannot be
    fulfilled now: then the service can only keep what it holds.
    """

    service: str
    preemption_policy: PreemptionPolicy | None = None
    wishes: Wishes = NO_WISHES
    choices: int = 1
    unknown: str | None = None


def find_pool(ledger: Ledger, pools: Pools, name: PoolName) -> Pool:
    """The pool that a request names. An unconfigured one exists while services hold claims in it.

    Raises Refused.
    """
    pool = pools.get(name)
    if pool is not None:
        return pool
    if not ledger.owned[name]:
        raise Refused("Pool general is not configured: set cpu-pool to the CPUs that belong to it", rule="pool")
    return pools.unconfigured


def allocate(ledger: Ledger, pool: Pool, terms: Terms, count: int | None) -> Grant:
    """Grant the service `count` CPUs in all, or the default size when None, but then no fewer than it holds."""
    ledger = ledger.on(pool.cores)
    claim = claim_in(ledger, pool.name, terms.service)
    try:
        return _allocate(ledger, pool, terms, claim, count)
    except Refused as refused:
        if claim is None or count not in (None, len(claim.cpus)):
            raise
        return _keep(ledger, pool, terms, claim, claim.cpus, EMPTY, refused)


def _allocate(ledger: Ledger, pool: Pool, terms: Terms, claim: Claim | None, count: int | None) -> Grant:
    held = claim.cpus if claim else EMPTY
    require_usable(pool, terms.service, held)
    free = ledger.free_for(pool, claim)
    policy = _placement_policy(pool, terms)
    topology = pool.topology(ledger.claimed - held) if pool.eligible else None
    placed_by = claim.placed_by if claim and not _has_new_wishes(claim, terms) else None
    size = count or default_size(pool.settings, topology, free, held, policy, placed_by)
    if size > len(free) + len(held):
        available = len(free) + len(held)
        raise Refused(f"{INSUFFICIENT}Requested: {size}, Available: {available}", rule="insufficient")
    preemption_policy = preemption_policy_after(pool, claim, terms.preemption_policy)
    assert topology is not None
    task = Task(topology, free, held, size, policy)
    if count is not None:  # the default size grows in place under every option
        task = _task(pool.settings, task)
    placed = _place(task, claim, terms)
    chosen = placed.candidates[0]
    after = _placed(Claim(terms.service, pool.name, chosen, EMPTY, preemption_policy), claim, task, chosen, terms)
    return _grant(ledger, claim, after, chosen, (), task, placed)


def allocate_percent(ledger: Ledger, pool: Pool, terms: Terms, percent: int) -> Grant:
    """Grant the service `percent` (1 to 100) of the pool's eligible CPUs, rounded up.

    While CPUs of the service are offline, it asks for what it holds if it holds the percentage of the pool with some of
    the offline ones. Where no CPU of the pool is known, each percentage may be what it holds.
    """
    claim = ledger.claims.get(terms.service)
    count = percent_of(pool.eligible, percent)
    if claim is not None and claim.cpus - pool.eligible:
        held = len(claim.cpus)
        most = percent_of(pool.configured | claim.cpus, percent) if pool.configured else held
        count = held if count <= held <= most else count
    return allocate(ledger, pool, terms, count)


def allocate_in_node(ledger: Ledger, pool: Pool, terms: Terms, node: NodeCpus, count: int) -> Grant:
    """Grant the service exactly `count` CPUs of a NUMA node in all; what it holds in other nodes stays.

    A service whose own claim is `legacy` may also take reclaimable CPUs of others, as the option `numa-reclaim` says:
    with `if-needed` only those that are missing when free CPUs do not suffice, with `always` as if they were free.
    """
    ledger = ledger.on(pool.cores)
    claim = claim_in(ledger, pool.name, terms.service)
    try:
        return _allocate_in_node(ledger, pool, terms, claim, node, count)
    except Refused as refused:
        if claim is None or count != len(claim.cpus & node.cpus):
            raise
        held_there = claim.cpus & node.cpus
        return _keep(ledger, pool, terms, claim, held_there, claim.explicit | held_there, refused)


def _allocate_in_node(
    ledger: Ledger, pool: Pool, terms: Terms, claim: Claim | None, node: NodeCpus, count: int
) -> Grant:
    held = claim.cpus if claim else EMPTY
    held_there = held & node.cpus
    eligible = eligible_in_node(pool, node, count)
    require_available(pool, terms.service, held_there)
    preemption_policy = preemption_policy_after(pool, claim, terms.preemption_policy)
    policy = _placement_policy(pool, terms)
    topology = pool.topology(ledger.claimed - held)
    free_anywhere = ledger.free_for(pool, claim)
    usable = eligible
    if topology.cores_span_nodes and policy.cpu_thread_policy == "isolate":
        # The service has its one thread of these cores.
        usable -= CpuSet.from_mask(with_siblings((held - node.cpus).mask, pool.cores))
    free = free_anywhere & usable
    reclaimable = EMPTY
    # A request for no more than the service holds in the node reclaims nothing.
    if count > len(held_there) and preemption_policy == "legacy" and pool.settings.numa_reclaim != "never":
        reclaimable = ledger.reclaimable_for(pool, terms.service, held) & usable
    available = len(free) + len(held_there) + len(reclaimable)
    if count > available:
        raise Refused(
            f"NUMA node {node.id} has {available} CPUs that can be given to this service, but {count} were requested:"
            f" CPUs {eligible - free - held_there - reclaimable}{HELD_BY_OTHERS}",
            rule="insufficient",
        )
    around = (free_anywhere | held) - node.cpus
    whole = Task(topology, free | reclaimable, held_there, count, policy, reclaimable, node.id, around=around)
    task = _task(pool.settings, whole)
    placed = _place(task, claim, terms)
    chosen = placed.candidates[0]
    explicit = (claim.explicit if claim else EMPTY) - held_there | chosen
    claimed = Claim(terms.service, pool.name, held - held_there | chosen, explicit, preemption_policy)
    after = _placed(claimed, claim, task, chosen, terms)
    return _grant(ledger, claim, after, chosen, _losses(ledger, chosen & reclaimable), task, placed)


def _keep(
    ledger: Ledger, pool: Pool, terms: Terms, claim: Claim, kept: CpuSet, explicit: CpuSet, refused: Refused
) -> Grant:
    """Leave the service the CPUs that it holds and asks for, although `refused` says why it could not get them now.

    Raises `refused` when the request has new wishes: nobody can tell whether these CPUs fulfil them.
    """
    if _has_new_wishes(claim, terms):
        raise refused
    after = replace(
        claim, explicit=explicit, preemption_policy=preemption_policy_after(pool, claim, terms.preemption_policy)
    )
    online = kept & pool.eligible
    if not online:
        return _grant(ledger, claim, after, kept)
    topology = pool.topology(ledger.claimed - claim.cpus)
    task = Task(topology, ledger.free_for(pool, claim), online, len(online), pool.settings.placement)
    return _grant(ledger, claim, after, kept, (), task, Placed([online]))


def release(ledger: Ledger, pool: PoolName, service: str) -> Grant:
    """Take from the service all that it holds; no change when it holds nothing."""
    return _grant(ledger, claim_in(ledger, pool, service), None, EMPTY)


def release_in_node(ledger: Ledger, pool: PoolName, terms: Terms, node: NodeCpus) -> Grant:
    """Take from the service what it holds in a NUMA node; no change when it holds nothing there.

    The preemption policy of the terms can protect the rest of the claim, but never removes its protection.
    """
    claim = claim_in(ledger, pool, terms.service)
    after = claim.without(node.cpus) if claim else None
    if after and terms.preemption_policy == "non-preemptive":
        after = replace(after, preemption_policy=terms.preemption_policy)
    return _grant(ledger, claim, after, EMPTY)


# --- placing ------------------------------------------------------------------------------------------------------


def _placement_policy(pool: Pool, terms: Terms) -> PlacementPolicy:
    """The placement policy in force for the request. Refuses wishes that it contradicts or that the machine lacks."""
    if terms.unknown is not None:
        raise Refused(terms.unknown, rule="not-found")
    near = terms.wishes.near
    if near is not None and pool.machine is not None and pool.machine.node(near) is None:
        raise Refused(f"near={near}: NUMA node {near} does not exist", rule="not-found")
    try:
        return with_wishes(pool.settings.placement, terms.wishes)
    except ContradictionError as error:
        raise Refused(str(error), rule="wish") from None


def _task(settings: Settings, task: Task) -> Task:
    """The task, adapted to the settings for resizing and reclaiming."""
    if settings.resize_policy == "reallocate":
        task = replace(task, free=task.free | task.own, own=EMPTY)
    return task if settings.numa_reclaim != "always" else replace(task, sparing=False)


def _has_new_wishes(claim: Claim | None, terms: Terms) -> bool:
    """Whether the request has wishes that the claim was not placed with."""
    return terms.wishes not in (NO_WISHES, claim.wishes if claim else NO_WISHES)


def _place(task: Task, claim: Claim | None, terms: Terms) -> Placed:
    """The choices for a task, best first.

    A request that keeps what the service holds, and has new wishes, is granted only if the held CPUs fulfil them.
    """
    try:
        placed = place_compared(task, terms.choices)
    except Unplaceable as error:
        raise Refused(str(error), error) from None
    chosen = placed.candidates[0]
    if _has_new_wishes(claim, terms) and (rule := broken_rule(task, chosen)) is not None:
        error = Unplaceable(task, chosen, rule)
        raise Refused(str(error), error)
    return placed


def _placed(after: Claim, before: Claim | None, task: Task, chosen: CpuSet, terms: Terms) -> Claim:
    """The claim with how it was placed.

    A claim that keeps its CPUs stays as it was, unless the request has new wishes. A claim that only grows or shrinks
    keeps the policy that first placed it. With resize-policy=reallocate its CPUs are among the free ones: then all are
    chosen again, even if they are the same in the end.
    """
    again = before is not None and bool(before.cpus & task.free)
    if before is not None and before.cpus == after.cpus and not again and not _has_new_wishes(before, terms):
        return replace(before, explicit=after.explicit, preemption_policy=after.preemption_policy)
    isolated = task.policy.cpu_thread_policy == "isolate"
    alone = chosen if isolated else EMPTY
    if before is not None:
        alone |= (before.alone - chosen) & after.cpus
    resized = before is not None and (before.cpus <= after.cpus or after.cpus <= before.cpus)
    kept = before is not None and not before.cpus <= task.free
    # Withheld is derived, but a claim that turns out the same must be equal, so that nothing is written.
    withheld = EMPTY
    if before is not None and alone and (alone, after.cpus) == (before.alone, before.cpus):
        withheld = before.withheld
    placed_by = before.placed_by if before is not None and resized and kept else task.policy
    # The same as replace(after, …), but 4 µs faster.
    return Claim(
        after.service,
        after.pool,
        after.cpus,
        after.explicit,
        after.preemption_policy,
        withheld,
        placed_by,
        _wishes_of_all(before, after, chosen, terms),
        alone,
    )


def _wishes_of_all(before: Claim | None, after: Claim, chosen: CpuSet, terms: Terms) -> Wishes:
    """The wishes that the whole claim fulfils: those of a request for a part only if the rest was placed with them."""
    whole = chosen == after.cpus or (before is not None and before.wishes == terms.wishes)
    return terms.wishes if whole else NO_WISHES


def _losses(ledger: Ledger, taken: CpuSet) -> tuple[ClaimChange, ...]:
    """What the owners of `taken` lose. Looks through all claims, but only when something is taken at all."""
    if not taken:
        return ()
    return tuple([ClaimChange(claim, claim.without(taken)) for claim in ledger.claims.values() if claim.cpus & taken])


def _grant(
    ledger: Ledger,
    before: Claim | None,
    after: Claim | None,
    cpus: CpuSet,
    losses: tuple[ClaimChange, ...] = (),
    task: Task | None = None,
    placed: Placed = NOT_PLACED,
) -> Grant:
    """The decision to change claims in this way, with what they withhold afterwards."""
    changes = (ClaimChange(before, after), *losses) if before != after else losses
    change = Change(changes)
    result = ledger.apply(change)
    claim = result.claims.get(after.service) if after else None
    if result.withheld or ledger.withheld:
        change = Change(tuple([ClaimChange(each.before, result.claims.get(each.service)) for each in changes]))
    return Grant(change, result, cpus, claim, task, placed)
