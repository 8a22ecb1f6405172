# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scheduler facts: which CPUs the scheduler balances, and which ones it gives to services and to the kernel's own work.

Sources: Documentation/scheduler/sched-stats.rst, Documentation/core-api/workqueue.rst of the Linux kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.cpuset import MAX_CPU_ID, CpuSet
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.kernel_lists import read_cpu_mask
from epa_orchestrator.isolation.machine_files import read_host_machine
from epa_orchestrator.isolation.partitions import Partition, read_partitions
from epa_orchestrator.isolation.task_facts import KTHREADD, is_kernel_thread, read_cpu_line

WORKQUEUES: Final = "sys/devices/virtual/workqueue/cpumask"
_SCHEDSTAT: Final = "proc/schedstat"
_CPU_LINE: Final = re.compile(r"cpu(\d{1,5})((?: \d{1,20}){8})", re.ASCII)
#: The numbers of a CPU's line are the same in the versions 15 to 17; the eighth is the waiting time.
_WAITED: Final = 7

#: Files that are there in containers only: of systemd's, Docker's and Podman's.
_CONTAINER_FILES: Final = ("run/systemd/container", ".dockerenv", "run/.containerenv")
#: Parts of the control group of a container's PID 1. It is `/` in a container with a cgroup namespace.
_CONTAINER_GROUP: Final = re.compile(r"[/.-](?:docker|lxc|lxc\.payload|kubepods|libpod|containerd|machine\.slice)[/.-]")


@dataclass(frozen=True)
class SchedulerFacts:
    """What the scheduler does with each CPU.

    `balanced` are the CPUs in a scheduling domain, to which the scheduler moves tasks. `waited_ns` is how long tasks
    have waited for each CPU since the boot, in ns. `init_allowed` are the CPUs of PID 1. `container` says whether
    PID 1 is that of a container. `workqueues` are the CPUs for unbound work of the kernel.
    """

    balanced: CpuSet | Unread
    waited_ns: Mapping[int, int] | Unread
    init_allowed: CpuSet | Unread
    container: bool
    workqueues: CpuSet | Unread
    partitions: tuple[Partition, ...] | Unread
    machine: Machine | Unread


def read_scheduler_facts(files: HostFiles) -> SchedulerFacts:
    """Read them."""
    balanced, waited_ns = _read_schedstat(files)
    return SchedulerFacts(
        balanced=balanced,
        waited_ns=waited_ns,
        init_allowed=read_cpu_line(files, "proc/1/status"),
        container=_is_container(files),
        workqueues=read_cpu_mask(files, WORKQUEUES),
        partitions=read_partitions(files),
        machine=read_host_machine(files),
    )


def _read_schedstat(files: HostFiles) -> tuple[CpuSet | Unread, Mapping[int, int] | Unread]:
    """The CPUs whose line is followed by one of a domain, and the waiting time of each CPU."""
    text = files.read(_SCHEDSTAT)
    if isinstance(text, Unread):
        return text, text
    balanced = 0
    waited: dict[int, int] = {}
    cpu = -1
    for line in text.splitlines():
        if line.startswith("domain") and cpu >= 0:
            balanced |= 1 << cpu
        elif line.startswith("cpu"):
            found = _CPU_LINE.match(line)
            cpu = -1 if found is None or int(found[1]) > MAX_CPU_ID else int(found[1])
            if found is not None and cpu >= 0:
                waited[cpu] = int(found[2].split()[_WAITED])
    return (CpuSet.from_mask(balanced), waited) if waited else (Unread(_SCHEDSTAT), Unread(_SCHEDSTAT))


def _is_container(files: HostFiles) -> bool:
    """Whether PID 1 is not the host's. Its environment may hold secrets, so nobody reads `container=` there."""
    if any(not isinstance(files.read(path), Unread) for path in _CONTAINER_FILES):
        return True
    second = files.read(KTHREADD)
    if not isinstance(second, Unread) and not is_kernel_thread(second):
        return True
    group = files.read("proc/1/cgroup")
    return not isinstance(group, Unread) and _CONTAINER_GROUP.search(group) is not None
