# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scheduler checks: whether the kernel keeps its own work, PID 1 and the scheduler's off the isolated CPUs (B)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from epa_orchestrator.cpuset import CpuSet, union
from epa_orchestrator.isolation.activity import Activity
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.findings import AN_ISOLATED_CPU, Finding, bad, not_checked, passed, warned
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.remedies import housekeeping_list, housekeeping_mask, isolated_list, nohz_full_remedy
from epa_orchestrator.isolation.scheduler_facts import WORKQUEUES
from epa_orchestrator.isolation.task_facts import Task
from epa_orchestrator.isolation.task_names import listed, named
from epa_orchestrator.units import count_of, named_cpus, named_nodes

#: Kernel threads that belong elsewhere: to the CPUs of their NUMA node, to an interrupt, to a virtual machine, or to
#: RCU, which C3 judges.
_BOUND_ELSEWHERE: Final = re.compile(r"kswapd\d+|kcompactd\d+|irq/\d+-.*|vhost-\d+|kvm-.*|rcuo[pgs]/\d+", re.DOTALL)


def scheduler_checks(case: Case) -> Iterator[Finding]:
    """The findings B1, B2 and B4 to B7."""
    if case.isolated:
        yield _domains(case)
        yield _init(case)
        yield _kernel_threads(case)
        yield _workqueues(case)
    else:
        yield from (not_checked(check, AN_ISOLATED_CPU) for check in ("B1", "B2", "B4", "B5"))
    yield _partitions(case)
    yield _cores(case) if case.isolated else not_checked("B7", AN_ISOLATED_CPU)


def _domains(case: Case) -> Finding:
    balanced = case.now.scheduler.balanced
    if isinstance(balanced, Unread):
        return not_checked("B1", balanced.needs)
    wrong = balanced & case.isolated
    if not wrong:
        return passed("B1", f"No scheduling domain has {named_cpus(str(case.isolated))}")
    wanted = isolated_list(case)
    return bad(
        "B1",
        f"The scheduler balances {named_cpus(str(wrong))}",
        f"set isolcpus=domain,managed_irq,{wanted} on the kernel line, then reboot;"
        f" or make a cpuset partition of the type isolated with {named_cpus(wanted)}",
    )


def _init(case: Case) -> Finding:
    allowed = case.now.scheduler.init_allowed
    if case.now.scheduler.container:
        return not_checked("B2", "PID 1 of the host: this is a container")
    if isinstance(allowed, Unread):
        return not_checked("B2", allowed.needs)
    wrong = allowed & case.isolated
    if not wrong:
        return passed("B2", f"PID 1 runs on {named_cpus(str(allowed))}")
    remedy = f"set CPUAffinity={housekeeping_list(case)} in /etc/systemd/system.conf, then reboot"
    return bad("B2", f"PID 1 and the services that it starts may run on {named_cpus(str(wrong))}", remedy)


def _kernel_threads(case: Case) -> Finding:
    if isinstance(case.now.tasks, Unread):
        return not_checked("B4", f"all tasks of the host: {case.now.tasks.needs}")
    activity = Activity(case)
    movable = [task for task in activity.tasks if _is_movable(task) and task.allowed & case.isolated]
    working = [task for task in movable if task.cpu in case.isolated and activity.is_at_work(task)]
    # Without nohz_full, kernel threads may run anywhere; who does without it accepts that, unless they do run there.
    found = working if case.terms.nohz_full == "none" else working or movable
    cpus = named_cpus(str(case.isolated))
    if not found:
        return passed("B4", f"No movable kernel thread {'works' if movable else 'may run'} on {cpus}")
    names = listed([named(task) for task in found], "thread")
    work = "works" if len(found) == 1 else "work"
    seen = f"{count_of(len(found), 'kernel thread')} {work if found is working else 'may run'} on {cpus}: {names}"
    others = "" if len(found) == 1 else ", and the same for the others"
    now = f"sudo taskset -pc {housekeeping_list(case)} {found[0].pid}{others}"
    nohz_full = known(case.now.line.nohz_full)
    if case.isolated <= nohz_full:  # somebody moved them later; an end of a cpuset partition does so too
        return bad("B4", seen, now)
    later = nohz_full_remedy(case.now.line, case.in_force | case.all_isolated)
    return bad("B4", seen, f"{later}; until then: {now}")


def _is_movable(task: Task) -> bool:
    """Whether it is a kernel thread that somebody may move, and that may run on several CPUs."""
    if not task.is_kernel or not task.may_be_moved or len(task.allowed) < 2:
        return False
    return _BOUND_ELSEWHERE.fullmatch(task.name) is None


def _workqueues(case: Case) -> Finding:
    """Judges the mask of all unbound workqueues; a workqueue's own mask only narrows it (kernel/workqueue.c)."""
    cpus = case.now.scheduler.workqueues
    if isinstance(cpus, Unread):
        return not_checked("B5", cpus.needs)
    wrong = cpus & case.isolated
    if not wrong:
        return passed("B5", f"Unbound workqueues run on {named_cpus(str(cpus))}")
    remedy = f"echo {housekeeping_mask(case)} | sudo tee /{WORKQUEUES}"
    return bad("B5", f"Unbound workqueues may run on {named_cpus(str(wrong))}", remedy)


def _partitions(case: Case) -> Finding:
    partitions = case.now.scheduler.partitions
    if isinstance(partitions, Unread):
        return not_checked("B6", f"control groups of version 2: {partitions.needs}")
    invalid = [partition for partition in partitions if partition.reason is not None]
    if invalid:
        seen = listed([f"{partition.name} is invalid: {partition.reason}" for partition in invalid], "partition", "; ")
        return bad("B6", seen, invalid[0].remedy)
    if partitions:
        return passed("B6", f"{count_of(len(partitions), 'cpuset partition')}, none invalid")
    if not case.isolated:
        return not_checked("B6", "an isolated CPU, or a cpuset partition")
    return passed("B6", "There is no cpuset partition, so none is invalid")


def _cores(case: Case) -> Finding:
    machine = case.now.scheduler.machine
    if isinstance(machine, Unread):
        return not_checked("B7", machine.needs)
    split = [core.cpus for core in machine.cores if core.cpus & case.isolated and core.cpus & case.housekeeping]
    full = [
        node.id
        for node in machine.nodes
        if node.cpus & case.isolated and not node.cpus & case.housekeeping & machine.online
    ]
    seen: list[str] = []
    remedies: list[str] = []
    if split:
        cores = listed([named_cpus(str(cpus)) for cpus in split], "core")
        seen.append(f"Only a part of {count_of(len(split), 'core')} is isolated: {cores}")
        remedies.append(f"isolate whole cores: {_whole_cores(case, split)}")
    if full:
        nodes = named_nodes(str(CpuSet(full)))
        seen.append(f"All CPUs of {nodes} are isolated")
        remedies.append(f"leave a core of {nodes} to the kernel, which works there for devices and memory of the node")
    if seen:
        return warned("B7", "; ".join(seen), "; ".join(remedies))
    return passed("B7", "Only whole cores are isolated, and each NUMA node has another CPU")


def _whole_cores(case: Case, split: list[CpuSet]) -> CpuSet:
    """About as many CPUs as are isolated now, in whole cores: of the split ones, the last. The kernel keeps a core."""
    isolated = case.in_force | case.all_isolated
    split_cpus = CpuSet.from_mask(union(core.mask for core in split))
    whole, left = isolated - split_cpus, len(isolated & split_cpus)
    online = case.housekeeping | isolated
    for core in reversed(split):
        if left > 0 and online - whole - core:
            whole |= core
            left -= len(core)
    return whole
