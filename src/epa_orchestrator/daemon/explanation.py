# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Explanation: why a request gets its CPUs, or which rule refuses it, as the protocol's models."""

from __future__ import annotations

from dataclasses import asdict

from epa_orchestrator.allocation.allocate import Grant
from epa_orchestrator.allocation.taken import NOTHING_TAKEN, Taken
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon import sentences, summary
from epa_orchestrator.placement.rules import Unplaceable
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import NO_NODE
from epa_orchestrator.protocol.answers import Candidate, Explanation


def of_grant(grant: Grant, taken: Taken = NOTHING_TAKEN, near: int | str | None = None) -> Explanation | None:
    """Why a request that wants to be `near` gets these CPUs, and from whom it takes some; None for a release."""
    if grant.task is None:
        return None
    decided_by = sentences.of_grant(grant.task, grant.placed, taken, near)
    return _explanation(grant.task, grant.placed.candidates, decided_by)


def of_refusal(refusal: Unplaceable) -> Explanation:
    """The rule that refused, and the best choice without it."""
    explained = _explanation(refusal.relaxed, [refusal.choice], f"Refused: {refusal.rule}.")
    return explained.model_copy(update={"rule": refusal.rule.option, "policy": _policy(refusal.task)})


def _explanation(task: Task, candidates: list[CpuSet], decided_by: str) -> Explanation:
    available = (task.free | task.own).mask
    nodes = [node for node in task.topology.nodes.values() if node.id != NO_NODE]
    return Explanation(
        policy=_policy(task),
        room={str(node.id): (node.cpus & available).bit_count() for node in nodes},
        scopes=[_candidate(task, each) for each in candidates],
        decided_by=decided_by,
    )


def _policy(task: Task) -> dict[str, str | bool | int]:
    return {name.replace("_", "-"): value for name, value in asdict(task.policy).items() if value is not None}


def _candidate(task: Task, cpus: CpuSet) -> Candidate:
    cost = task.cost(cpus)
    return Candidate(
        numa_nodes=summary.nodes_of(task.topology, cpus),
        cpus=str(cpus),
        cost={name: getattr(cost, name) for name, _ in task.levels},
    )
