# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Rules: which values of the options refuse a request, what they allow, and the refusal that names the broken one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import CpuSet, union
from epa_orchestrator.errors import EpaError
from epa_orchestrator.placement.minimum import is_mixed, minimum_domains
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import NO_NODE, Topology
from epa_orchestrator.units import count_of, joined, named_cpus

#: What stands between the number of CPUs and the broken rule in the sentence of each `Unplaceable`.
NOT_PLACEABLE: Final = " cannot be placed: "


@dataclass(frozen=True)
class Rule:
    """A rule that a candidate breaks: the option, its value, and a text about what it allows and what is needed."""

    option: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.option}={self.value} {self.reason}"


class Unplaceable(EpaError):
    """There are enough CPUs, but a rule allows no choice of them; `choice` is the best one for the `relaxed` task."""

    def __init__(self, task: Task, choice: CpuSet, rule: Rule, relaxed: Task | None = None) -> None:
        self.task, self.choice, self.rule = task, choice, rule
        self.relaxed = relaxed or replace(task, policy=task.policy.without(*task.policy.rules))
        cost = self.relaxed.cost(choice)
        vector = ", ".join(f"{name}={value}" for name, _ in self.relaxed.levels if (value := getattr(cost, name)))
        held = "; the CPUs that the service holds break it already: release them first" if _held_breaks(task) else ""
        super().__init__(
            f"{count_of(task.count, 'CPU')}{NOT_PLACEABLE}{rule}{held}."
            f" Otherwise the best choice would be {choice} ({vector})"
        )

    def without_traceback(self) -> Unplaceable:
        """A copy without the traceback, which would keep many objects in memory."""
        refusal = Unplaceable.__new__(Unplaceable)
        refusal.args = self.args
        refusal.task, refusal.choice, refusal.rule, refusal.relaxed = self.task, self.choice, self.rule, self.relaxed
        return refusal


def _held_breaks(task: Task) -> bool:
    """Whether a service that asks for more holds CPUs that break a rule, whichever CPUs are added to them."""
    if not 0 < len(task.own) < task.count:
        return False
    rule = broken_rule(task, task.own)
    return rule is not None and rule.value != "require"


def broken_rule(task: Task, chosen: CpuSet) -> Rule | None:
    """The first rule of the policy that a candidate breaks, None when it respects them all."""
    return _broken_thread_rule(task, chosen) or _broken_numa_rule(task, chosen) or _broken_l3_rule(task, chosen)


def _broken_thread_rule(task: Task, chosen: CpuSet) -> Rule | None:
    policy = task.policy.cpu_thread_policy
    if policy not in ("require", "isolate"):
        return None
    of_others = ~((task.free - task.reclaimable) | task.own | task.around | chosen).mask
    cores = [
        core for cell in task.topology.cells if cell.cpus & chosen.mask for core in cell.cores if core & chosen.mask
    ]
    stacked: list[int] = []
    if policy == "require":
        broken = [core for core in cores if core & ~chosen.mask]
        reason = f"allows whole cores only, but the service would have only a part of {count_of(len(broken), 'core')}"
    else:
        stacked = [core for core in cores if (core & chosen.mask).bit_count() > 1]
        broken = [core for core in cores if core & of_others or core in stacked]
        reason = f"allows one thread per core and no shared core, and {count_of(len(broken), 'core')} would break this"
    if not broken:
        return None
    in_the_way = _owners(task.topology, union(broken) & of_others)
    if own_threads := CpuSet.from_mask(union(stacked) & chosen.mask):
        in_the_way.append(f"the service itself would have {named_cpus(str(own_threads))}")
    if in_the_way:
        reason += f": {joined(in_the_way)} of these cores"
    return Rule("cpu-thread-policy", policy, reason)


def _owners(topology: Topology, threads: int) -> list[str]:
    """Who has these threads, which the service cannot get."""
    system, reserved, other_pool = (
        threads & cpus for cpus in (topology.system, topology.reserved, topology.other_pool)
    )
    of_services = threads & ~(system | reserved | other_pool)
    owners = [
        ("the operating system runs on", system),
        ("reserved-cpus names", reserved),
        ("the other pool has", other_pool),
        ("other services have", of_services),
    ]
    return [f"{does} {named_cpus(str(CpuSet.from_mask(cpus)))}" for does, cpus in owners if cpus]


def _broken_numa_rule(task: Task, chosen: CpuSet) -> Rule | None:
    limit, nodes = _most_nodes(task), task.topology.nodes_of(chosen.mask)
    if _is_strict(task) and is_mixed(nodes):
        nowhere = chosen & CpuSet.from_mask(task.topology.nodes[NO_NODE].cpus)
        reason = f"allows no CPUs of NUMA nodes together with CPUs {nowhere}, which are in none"
    elif len(nodes) > limit:
        reason = f"allows {count_of(limit, 'NUMA node')}, and {len(nodes)} would be needed"
    else:
        return None
    return Rule("numa-policy", task.policy.numa_policy, reason)


def _broken_l3_rule(task: Task, chosen: CpuSet) -> Rule | None:
    limit, l3s = _most_l3s(task), _count_l3s(task.topology, chosen)
    reason = f"allows {count_of(limit, 'L3 domain')}, and {l3s} would be needed"
    return Rule("uncore-cache-alignment", "require", reason) if l3s > limit else None


class Limits(NamedTuple):
    """How many NUMA nodes and L3 domains a policy allows for a task; all there are when no rule limits them.

    `mixed`: CPUs in no NUMA node may be taken together with others.
    """

    numa_nodes: int
    l3_domains: int
    mixed: bool = True

    def allow(self, topology: Topology, chosen: CpuSet) -> bool:
        """Whether the CPUs are in no more domains than these."""
        nodes = topology.nodes_of(chosen.mask)
        if len(nodes) > self.numa_nodes or (is_mixed(nodes) and not self.mixed):
            return False
        return _count_l3s(topology, chosen) <= self.l3_domains


def limits(task: Task) -> Limits:
    """The limits of a task's policy."""
    return Limits(_most_nodes(task), _most_l3s(task), mixed=not _is_strict(task))


def _is_strict(task: Task) -> bool:
    """Whether the number of NUMA nodes is limited: then it must be known."""
    return task.node is None and task.policy.numa_policy in ("restricted", "single-numa-node")


def _most_nodes(task: Task) -> int:
    every = len(task.topology.nodes)
    if not _is_strict(task):
        return every
    if task.policy.numa_policy == "single-numa-node":
        return 1
    minimum = minimum_domains(task.topology, task.count, task.policy.cpu_thread_policy, mixed=False)
    return minimum.numa_nodes if minimum else every


def _most_l3s(task: Task) -> int:
    every = len(task.topology.l3_cpus)
    if task.policy.uncore_cache_alignment != "require":
        return every
    threads = task.policy.cpu_thread_policy
    minimum = minimum_domains(task.topology, task.count, threads, task.node, mixed=not _is_strict(task))
    return minimum.l3_domains if minimum else every


def _count_l3s(topology: Topology, chosen: CpuSet) -> int:
    return sum(1 for cpus in topology.l3_cpus.values() if cpus & chosen.mask)
