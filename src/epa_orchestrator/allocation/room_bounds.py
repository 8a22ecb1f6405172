# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room bounds: whether the claims of others leave enough CPUs at all, whichever they hold.

A claim takes as many CPUs as it has. One that has its cores to itself takes whole cores, anywhere: the smallest at
best. This needs no search, and is never wrong when it says that too few are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.moving import Movable
from epa_orchestrator.allocation.pools import Pool
from epa_orchestrator.allocation.room_scopes import Question
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.policy import ContradictionError, with_wishes
from epa_orchestrator.units import count_of


def too_full(
    pool: Pool, question: Question, others: Sequence[Claim], movables: Mapping[str, Movable], *, holds_cpus: bool
) -> str | None:
    """Why the claims of others leave too few CPUs, whichever they hold; None if they may leave enough.

    `movables` are those that can move, by service; `holds_cpus` says whether the asking service has CPUs already.
    """
    node, count = question.node, question.count
    area = pool.eligible if node is None else pool.eligible & node.cpus
    # CPUs that a claim asked for by NUMA node stay in this node.
    parts = [(claim, (claim.cpus if node is None else claim.explicit) & area) for claim in others]
    parts = [(claim, cpus) for claim, cpus in parts if claim.pool == pool.name]
    held = sum(len(cpus) for _, cpus in parts)
    cores = _whole_cores(pool, area)
    alone = sum(_alone(claim, cpus, cores) for claim, cpus in parts if _stays_alone(movables.get(claim.service)))
    least = [0, *accumulate(sorted((core & area.mask).bit_count() for core in set(cores.values())))]
    withheld = least[alone] - alone
    left = len(area) - held - withheld
    if question.policy.cpu_thread_policy == "isolate" and not holds_cpus:
        left = sum(1 for size in least[alone + 1 :] if size - least[alone] <= left)
    if left >= count:
        return None
    where, whichever = (f"NUMA node {node.id}", "") if node else (f"pool {pool.name}", ", whichever they hold")
    theirs = f"asked for {held} in this very node" if node else f"hold {held} of them"
    theirs += f", and at least {withheld} more stay withheld for them" if withheld else ""
    return (
        f"{where} has {count_of(len(area), 'eligible CPU')}, and other services {theirs}, so {count} are not"
        f" left{whichever}: release a claim, or ask for at most {left}"
    )


def _whole_cores(pool: Pool, area: CpuSet) -> dict[int, int]:
    """By CPU of an area, the threads of its core (a mask), without cores on which others than the pool's claims run."""
    threads = {cpu: pool.cores.get(cpu, 1 << cpu) for cpu in area}
    return {cpu: core for cpu, core in threads.items() if not core & pool.neighbours.mask}


def _alone(claim: Claim, cpus: CpuSet, cores: Mapping[int, int]) -> int:
    """How many of these CPUs of a claim have such a core to themselves now."""
    return sum(1 for cpu in claim.alone & cpus if cpu in cores and not cores[cpu] & ~(1 << cpu | claim.withheld.mask))


def _stays_alone(how: Movable | None) -> bool:
    """Whether a claim that has cores to itself has them to itself anywhere; None for a claim that cannot move."""
    if how is None:
        return True
    try:
        policies = [with_wishes(how.pool.settings.placement, step.wishes) for step in how.steps]
    except ContradictionError:
        return True
    return all(policy.cpu_thread_policy == "isolate" for policy in policies)
