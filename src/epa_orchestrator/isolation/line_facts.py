# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Line facts: what the kernel was asked to isolate, what it isolates, and which CPUs there are."""

from __future__ import annotations

from dataclasses import dataclass

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.kernel_lists import read_cpu_list, read_word

_CPU = "sys/devices/system/cpu"


@dataclass(frozen=True)
class LineFacts:
    """The kernel line and the lists of CPUs that are in force.

    `cpuset_isolated` are the CPUs of isolated cpuset partitions (cgroup v2, Linux 6.8 and later; newer
    kernels list those of isolcpus= too). An `isolated` or `nohz_full` that the kernel does not have is Unread.
    """

    cmdline: str | Unread
    present: CpuSet | Unread
    online: CpuSet | Unread
    isolated: CpuSet | Unread
    nohz_full: CpuSet | Unread
    cpuset_isolated: CpuSet | Unread


def read_line_facts(files: HostFiles) -> LineFacts:
    """Read the kernel line and the lists in force."""
    return LineFacts(
        cmdline=read_word(files, "proc/cmdline"),
        present=read_cpu_list(files, f"{_CPU}/present"),
        online=read_cpu_list(files, f"{_CPU}/online"),
        isolated=read_cpu_list(files, f"{_CPU}/isolated"),
        nohz_full=read_cpu_list(files, f"{_CPU}/nohz_full"),
        cpuset_isolated=read_cpu_list(files, "sys/fs/cgroup/cpuset.cpus.isolated"),
    )
