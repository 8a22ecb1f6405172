# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claim troubles: for each claim, the strangers on its CPUs, and the owner's own tasks in the wrong place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.activity import Activity
from epa_orchestrator.isolation.case import Case, Owner
from epa_orchestrator.isolation.owners import OwnerIndex, Processes, booted_at
from epa_orchestrator.isolation.task_facts import Task


@dataclass(eq=False)
class JudgedClaim:
    """A claim with the tasks on and around its CPUs. `processes` is None where the owner is not known.

    `strangers` are tasks of others at work on the claim's CPUs. Without a known owner, they are all user tasks there,
    and may be the owner's. `outside` are tasks of the owner that may run on the claim and are at work elsewhere.
    `stacked` are tasks of the owner that wait for each other on one CPU while another CPU of the claim idles.
    """

    owner: Owner
    processes: Processes | None
    #: The owner's user tasks, empty where it is not known.
    tasks: list[Task] = field(default_factory=list[Task])
    strangers: list[Task] = field(default_factory=list[Task])
    outside: list[Task] = field(default_factory=list[Task])
    stacked: list[Task] = field(default_factory=list[Task])
    is_pinned: bool = False
    idle: CpuSet = EMPTY


class Ownership:
    """Who works where on a host: `claims`, and `squatters`, which work on isolated CPUs that nobody claimed."""

    def __init__(self, case: Case) -> None:
        self.activity = Activity(case)
        tasks = [task for task in self.activity.tasks if not task.is_kernel]
        index = OwnerIndex(tasks, booted_at(case.now))
        self.claims = [
            JudgedClaim(owner, index.processes_of(owner))
            for owner in case.owners or ()
            if owner.pool == "isolated" and owner.cpus & case.isolated
        ]
        self._default = case.now.scheduler.init_allowed
        self._claim_of = {cpu: claim for claim in self.claims for cpu in claim.owner.cpus}
        self.squatters: list[Task] = []
        working = [task for task in tasks if self.activity.is_at_work(task)]
        self._find_strangers(working, case.isolated)
        self._judge_owners(tasks, working)

    def _find_strangers(self, working: list[Task], isolated: CpuSet) -> None:
        for task in working:
            if not (isolated.mask & task.allowed.mask) >> task.cpu & 1:
                continue
            claim = self._claim_of.get(task.cpu)
            if claim is None:
                self.squatters.append(task)
            elif claim.processes is None or task.pid not in claim.processes:
                claim.strangers.append(task)

    def _judge_owners(self, tasks: list[Task], working: list[Task]) -> None:
        # Many claims may have one owner, such as all virtual machines: its tasks are looked at once.
        groups: dict[Processes, list[JudgedClaim]] = defaultdict(list)
        for claim in self.claims:
            if claim.processes:
                groups[claim.processes].append(claim)
        own: dict[int, int] = defaultdict(int)
        for processes, claims in groups.items():
            mask = 0
            for claim in claims:
                mask |= claim.owner.cpus.mask
            for pid in processes:
                own[pid] |= mask
        busy = CpuSet(task.cpu for task in working)
        for processes, claims in groups.items():
            owned = [task for task in tasks if task.pid in processes]
            masks = {task.allowed.mask for task in owned}
            for claim in claims:
                cpus = claim.owner.cpus.mask
                claim.tasks = owned
                claim.is_pinned = any(mask and not mask & ~cpus for mask in masks)
                claim.idle = claim.owner.cpus - busy
            self._find_misplaced([task for task in working if task.pid in processes], claims, own)

    def _find_misplaced(self, working: list[Task], claims: list[JudgedClaim], own: Mapping[int, int]) -> None:
        by_cpu: dict[int, list[Task]] = defaultdict(list)
        for task in working:
            by_cpu[task.cpu].append(task)
            if own[task.pid] >> task.cpu & 1 or task.allowed == self._default:
                continue  # a task with the CPUs of PID 1 was placed by nobody: it is one for control
            for claim in claims:
                if task.allowed.mask & claim.owner.cpus.mask:
                    claim.outside.append(task)
        for claim in claims:
            if not claim.idle:
                continue
            for cpu in claim.owner.cpus:
                wanting = [task for task in by_cpu[cpu] if self.activity.wants_its_cpu(task)]
                if len(wanting) > 1 and any(map(self.activity.waits, wanting)):
                    claim.stacked += wanting
