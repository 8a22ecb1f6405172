# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Explanation: why a request gets its CPUs, or which rule refuses it, as the protocol's models."""

from __future__ import annotations

from dataclasses import asdict

from epa_orchestrator.allocation.allocate import Grant
from epa_orchestrator.allocation.taken import NOTHING_TAKEN, Taken
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.cost import LABELS
from epa_orchestrator.placement.rules import Unplaceable
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import NO_NODE
from epa_orchestrator.protocol.answers import Candidate, Explanation


def of_grant(grant: Grant, taken: Taken = NOTHING_TAKEN) -> Explanation | None:
    """Why the request gets these CPUs, and from whom it takes some; None for a release."""
    if grant.task is None:
        return None
    takes = f" It takes {taken}." if taken else ""
    return _explanation(grant.task, grant.candidates, _decided_by(grant.task, grant.candidates) + takes)


def of_refusal(refusal: Unplaceable) -> Explanation:
    """The rule that refused, and the best choice without it."""
    explained = _explanation(refusal.relaxed, (refusal.choice,), f"Refused: {refusal.rule}.")
    return explained.model_copy(update={"rule": refusal.rule.option, "policy": _policy(refusal.task)})


def _explanation(task: Task, candidates: tuple[CpuSet, ...], decided_by: str) -> Explanation:
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
        numa_nodes=str(_nodes(task, cpus)), cpus=str(cpus), cost={name: getattr(cost, name) for name, _ in task.levels}
    )


def _decided_by(task: Task, candidates: tuple[CpuSet, ...]) -> str:
    if task.count == len(task.own):
        return "The service keeps the CPUs that it holds: it asks for as many as it has."
    if task.shrinking:
        return "The claim shrinks: the service gives up what it uses least, and keeps the rest."
    grown = "The claim grows: the service keeps what it holds. " if task.own else ""
    return f"{grown}{_comparison(task, candidates)}"


def _comparison(task: Task, candidates: tuple[CpuSet, ...]) -> str:
    best = candidates[0]
    if task.node is not None:
        return f"The request names NUMA node {task.node}; these are the best CPUs in it."
    if task.policy.numa_policy == "none":
        return "These are the best CPUs of the pool: numa-policy=none compares no NUMA nodes."
    if len(candidates) == 1 and task.own:
        return f"It has the best CPUs that are free in {_named(task, best)}."
    if len(candidates) == 1:
        verb = "is" if len(_nodes(task, best)) == 1 else "are"
        return f"Only {_named(task, best)} {verb} possible: other choices need more NUMA nodes, or more distant ones."
    return _difference(task, best, candidates[1])


def _difference(task: Task, best: CpuSet, second: CpuSet) -> str:
    """The first level in which two choices differ, as a sentence."""
    mine, other = task.cost(best), task.cost(second)
    name = next((name for name, _ in task.levels if getattr(mine, name) != getattr(other, name)), "lowest_cpu")
    verb = "was" if len(_nodes(task, best)) == 1 else "were"
    if name == "lowest_cpu":
        return f"{_named(task, best)} and {_named(task, second)} are equally good; the lower CPU ids decide."
    return (
        f"{_named(task, best)} {verb} chosen over {_named(task, second)} for its {LABELS[name]}:"
        f" {getattr(mine, name)} against {getattr(other, name)}."
    )


def _named(task: Task, cpus: CpuSet) -> str:
    nodes = _nodes(task, cpus)
    if len(nodes) == len(task.topology.nodes_of(cpus.mask)):
        return f"NUMA node{'s' * (len(nodes) != 1)} {nodes}"
    unknown = "CPUs in no NUMA node"
    return f"NUMA node{'s' * (len(nodes) != 1)} {nodes} with {unknown}" if nodes else unknown


def _nodes(task: Task, cpus: CpuSet) -> CpuSet:
    return CpuSet(node.id for node in task.topology.nodes_of(cpus.mask) if node.id != NO_NODE)
