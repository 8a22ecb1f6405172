# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Owners: finds the processes that belong to a claim, by control group, systemd unit, snap or process."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from epa_orchestrator.control_groups import snap_of_unit, unit_of_path
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Owner
from epa_orchestrator.isolation.facts import Facts
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.task_facts import Task

#: The kernel prints times of tasks in these ticks a second (USER_HZ).
USER_HZ: Final = 100

#: How much later (seconds) than its request a process may seem to start: the clock may have been set.
_TOLERANCE: Final = 2.0

#: Units that ask for others: Juju's agents, and the sessions of people. What they ask for runs in other units.
_AGENTS: Final = re.compile(r"jujud-.+|snap\.juju\..+|session-.+\.scope|user@.+\.service")

Processes = frozenset[int]


def booted_at(facts: Facts) -> float | None:
    """The time of the host's boot, in seconds since 1970; None where it is not known."""
    return None if isinstance(facts.uptime, Unread) else facts.at - facts.uptime


class OwnerIndex:
    """The user processes of a host by everything that an owner is known by; `boot` is the time of the boot."""

    def __init__(self, tasks: Iterable[Task], boot: float | None) -> None:
        self._boot = boot
        self._started: dict[int, int] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        self._masks: dict[int, set[int]] = defaultdict(set)
        self._by_path: dict[str, set[int]] = defaultdict(set)
        for task in tasks:
            if task.is_kernel:
                continue
            self._masks[task.pid].add(task.allowed.mask)
            if task.pid == task.tid:
                self._started[task.pid] = task.started
                self._children[task.parent].append(task.pid)
            if task.cgroup is not None:
                self._by_path[task.cgroup.strip("/")].add(task.pid)
        self._paths = sorted(self._by_path)
        self._by_unit: dict[str, set[int]] = defaultdict(set)
        self._by_snap: dict[str, set[int]] = defaultdict(set)
        for path, processes in self._by_path.items():
            unit = unit_of_path(path)
            if unit is not None:
                self._by_unit[unit] |= processes
                self._by_snap[snap_of_unit(unit) or ""] |= processes
        self._known: dict[object, Processes] = {}

    def processes_of(self, owner: Owner) -> Processes | None:
        """The owner's processes, of which there may be none; None where it is not known which ones they are.

        Owners with the same processes get the same set. A unit that asks for others counts as the owner only once one
        of its tasks was placed on CPUs of the claim.
        """
        if owner.cgroups:
            return self._remembered(owner.cgroups, owner)
        key = (owner.unit, owner.snap, owner.pid if self._is_the_one_that_asked(owner) else None)
        processes = self._remembered(key, owner)
        if not processes:
            return None
        asks_for_others = owner.unit is not None and _AGENTS.fullmatch(owner.unit) is not None
        return processes if not asks_for_others or self._has_placed(processes, owner.cpus) else None

    def _remembered(self, key: object, owner: Owner) -> Processes:
        processes = self._known.get(key)
        if processes is None:
            processes = self._known[key] = frozenset(
                self._below(owner.cgroups) if owner.cgroups else self._named(owner)
            )
        return processes

    def _below(self, cgroups: Iterable[str]) -> set[int]:
        """The processes in these control groups and those below them."""
        found: set[int] = set()
        for group in cgroups:
            group = group.strip("/")
            if not group:
                continue
            found |= self._by_path.get(group, set())
            # "0" follows "/", so these are the paths that begin with the group and a slash.
            for path in self._paths[bisect_left(self._paths, group + "/") : bisect_left(self._paths, group + "0")]:
                found |= self._by_path[path]
        return found

    def _named(self, owner: Owner) -> set[int]:
        found: set[int] = set()
        if owner.unit is not None:
            found |= self._by_unit.get(owner.unit, set())
        elif owner.snap:
            found |= self._by_snap.get(owner.snap, set())
        if owner.pid is not None and self._is_the_one_that_asked(owner):
            found |= self._descendants(owner.pid)
        return found

    def _is_the_one_that_asked(self, owner: Owner) -> bool:
        """Whether the process id still belongs to the process that asked, and not to one that was started later."""
        started = None if owner.pid is None else self._started.get(owner.pid)
        if started is None or owner.asked_at is None or self._boot is None:
            return False
        return self._boot + started / USER_HZ <= owner.asked_at + _TOLERANCE

    def _descendants(self, pid: int) -> set[int]:
        found = {pid}
        left = [pid]
        while left:
            for child in self._children.get(left.pop(), ()):
                if child not in found:
                    found.add(child)
                    left.append(child)
        return found

    def _has_placed(self, processes: Processes, cpus: CpuSet) -> bool:
        """Whether a task was given CPUs of these, other than by inheriting the CPUs of PID 1."""
        default = self._masks.get(1, set())
        return any(mask & cpus.mask and mask not in default for pid in processes for mask in self._masks[pid])
