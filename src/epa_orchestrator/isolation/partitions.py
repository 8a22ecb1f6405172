# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Partitions: finds the cpuset partitions of a host, and what makes one of them invalid.

Source: "Cpuset Interface Files" in Documentation/admin-guide/cgroup-v2.rst of the Linux kernel; the reasons are
`perr_strings` in kernel/cgroup/cpuset.c.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.kernel_lists import read_cpu_list

_ROOT: Final = "sys/fs/cgroup"

#: How many control groups are looked at, and how deep. Those with a partition are few and near the root.
_MOST_GROUPS: Final = 2000
_DEEPEST: Final = 8
_LONGEST_REASON: Final = 200

_INVALID: Final = re.compile(r"(?P<type>root|isolated) invalid(?: \((?P<reason>.*)\))?", re.DOTALL)

#: The kernel's own files in a control group, so that nobody tries to enter them.
_FILES: Final = tuple(
    f"{name}."
    for name in ("cgroup", "cpu", "cpuset", "memory", "io", "pids", "rdma", "hugetlb", "misc", "irq", "dmem", "net_cls")
)

#: Directories of version 1, of which at least one is mounted.
_VERSION_1: Final = frozenset({"cpuset", "memory", "systemd", "unified"})

#: What to do, by a part of the kernel's reason; `{group}` is the control group.
_REMEDIES: Final = (
    (
        "Invalid cpu list in cpuset.cpus.exclusive",
        "write only CPUs that are online, and that the parent has, to {group}/cpuset.cpus.exclusive",
    ),
    # Kernels before 6.7 have no other list.
    ("Invalid cpu list", "write only CPUs that are online, and that the parent has, to {group}/cpuset.cpus"),
    ("Parent is an invalid partition", "correct the partition of the control group above {group} first"),
    ("Parent is not a partition", "make the control group above {group} a partition first"),
    ("not exclusive", "remove the CPUs of {group}/cpuset.cpus from the control groups next to it"),
    ("unable to distribute", "leave a CPU to the control group above {group}: its other tasks need one"),
    ("hotplug", "bring the CPUs in {group}/cpuset.cpus online"),
    ("are empty", "write the CPUs to {group}/cpuset.cpus"),
    ("housekeeping", "write to {group}/cpuset.cpus only CPUs that isolcpus= and nohz_full= treat alike"),
    ("not permitted", "make {group} a partition as root of the host"),
    ("remote partition", "make the partitions below {group} members first"),
)
_REMEDY: Final = "correct {group}/cpuset.cpus, then write the partition's type to {group}/cpuset.cpus.partition again"


@dataclass(frozen=True)
class Partition:
    """A control group that is a cpuset partition: its path below the root, and its state as the kernel prints it.

    `isolated` are the CPUs that are isolated by it.
    """

    group: str
    state: str
    isolated: CpuSet = EMPTY

    @property
    def reason(self) -> str | None:
        """Why the partition is invalid, None while it is valid."""
        found = _INVALID.fullmatch(self.state)
        return None if found is None else printable((found["reason"] or "no reason given")[:_LONGEST_REASON])

    @property
    def remedy(self) -> str:
        """What makes an invalid partition valid."""
        reason = self.reason or ""
        remedy = next((remedy for part, remedy in _REMEDIES if part in reason), _REMEDY)
        return remedy.format(group=shlex.quote(f"/{_ROOT}/{self.name}"))

    @property
    def name(self) -> str:
        """The control group, fit for a terminal."""
        return printable(self.group[:_LONGEST_REASON])


def read_partitions(files: HostFiles) -> tuple[Partition, ...] | Unread:
    """The cpuset partitions of cgroup version 2; Unread where that is not mounted or may not be read."""
    controlled = files.read(f"{_ROOT}/cgroup.subtree_control")
    # Version 2 always has this file; a copy of only some of a host's files may lack it.
    is_partial_copy = isinstance(controlled, Unread) and controlled.reason == "missing" and not _has_version_1(files)
    if isinstance(controlled, Unread) and not is_partial_copy:
        return controlled
    found: list[Partition] = []
    has_state = False
    left = _MOST_GROUPS
    # Control groups whose children have cpuset files, nearest to the root first.
    parents = deque([("", 0)] if _may_control_cpusets(controlled) else [])
    while parents and left > 0:
        parent, depth = parents.popleft()
        names = files.names(f"{_ROOT}/{parent}".rstrip("/"))
        for name in () if isinstance(names, Unread) else sorted(names):
            if name.startswith(_FILES):
                continue
            left -= 1  # also one that cannot be read: a container may make thousands of them
            if left < 0:
                break
            group = f"{parent}/{name}".removeprefix("/")
            state = files.read(f"{_ROOT}/{group}/cpuset.cpus.partition")
            if isinstance(state, Unread):
                if not is_partial_copy:
                    continue
            else:
                has_state = True
                if state.strip() != "member":
                    found.append(Partition(group, state.strip(), _cpus_of(files, group, state.strip())))
            if depth < _DEEPEST and _may_control_cpusets(files.read(f"{_ROOT}/{group}/cgroup.subtree_control")):
                parents.append((group, depth + 1))
    return tuple(found) if isinstance(controlled, str) or has_state else controlled


def _has_version_1(files: HostFiles) -> bool:
    """Whether version 1 is mounted there: it has a directory for each controller."""
    names = files.names(_ROOT)
    return not isinstance(names, Unread) and not _VERSION_1.isdisjoint(names)


def _may_control_cpusets(controlled: str | Unread) -> bool:
    """Whether the children may have cpuset files: a copy of a host's files may lack this one."""
    return isinstance(controlled, Unread) or "cpuset" in controlled.split()


def _cpus_of(files: HostFiles, group: str, state: str) -> CpuSet:
    """The CPUs that a valid isolated partition takes from the scheduler, where the kernel tells."""
    if state != "isolated":
        return EMPTY
    cpus = read_cpu_list(files, f"{_ROOT}/{group}/cpuset.cpus.effective")
    return EMPTY if isinstance(cpus, Unread) else cpus
