"""Review: which claims the settings in use would place otherwise. They stay where they are; this only says so."""

from __future__ import annotations

from dataclasses import replace

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.domains import Node, Topology
from epa_orchestrator.ledger import Claim, Ledger
from epa_orchestrator.placement import Task, Unplaceable, broken_rule, place
from epa_orchestrator.policy import ContradictionError, PlacementPolicy, with_wishes
from epa_orchestrator.pools import Pool, Pools


def outdated(ledger: Ledger, pools: Pools, pool: Pool, claim: Claim) -> bool:
    """Whether a claim was placed by another policy, and the one in use would choose better CPUs of those free now.

    Better by its own measure, and than what the other policy would choose now: what has become free meanwhile does not
    count. A claim whose CPUs are not all there is not judged.
    """
    try:
        policy = with_wishes(pools.settings.placement, claim.wishes)
    except ContradictionError:
        return True
    if policy == claim.placed_by or not claim.cpus <= pool.eligible:
        return False
    top = pools.topologies[pool.name]
    if policy.near is not None and policy.near not in top.distance:
        return False  # the machine came back without that node
    free = ledger.free(pool) | (claim.withheld & pool.eligible) | claim.cpus
    if not claim.explicit:
        return _placed_otherwise(Task(top, free, EMPTY, len(claim.cpus), policy), claim)
    nodes = top.nodes_of(claim.cpus.mask)
    return any(_placed_otherwise(_in_node(top, free, claim, policy, node), claim) for node in nodes)


def _in_node(top: Topology, free: CpuSet, claim: Claim, policy: PlacementPolicy, node: Node) -> Task:
    """The part of a claim that lies in one NUMA node, as a request for that node."""
    cpus = CpuSet.from_mask(node.cpus)
    return Task(top, free & cpus, EMPTY, len(claim.cpus & cpus), policy, node=node.id)


def _placed_otherwise(task: Task, claim: Claim) -> bool:
    held = claim.cpus & task.free
    if broken_rule(task, held) is not None:
        return True
    chosen = _chosen(task)
    if chosen is None or _rank(task, chosen) >= _rank(task, held):
        return False
    before = _chosen(replace(task, policy=claim.placed_by)) if _known(task, claim.placed_by) else None
    return before is None or _rank(task, chosen) < _rank(task, before)


def _known(task: Task, policy: PlacementPolicy) -> bool:
    return policy.near is None or policy.near in task.top.distance


def _chosen(task: Task) -> CpuSet | None:
    try:
        return place(task)[0]
    except Unplaceable:
        return None


def _rank(task: Task, cpus: CpuSet) -> tuple[int, ...]:
    """The levels of the cost vector but for the lowest CPU id, which makes nothing better."""
    return task.rank(cpus)[:-1]
