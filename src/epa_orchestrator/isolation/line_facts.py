# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Line facts: what the kernel was asked to isolate, what it isolates, and which CPUs there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.boot_loader import BootLoader, read_boot_loader
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.kernel_lists import read_cpu_list, read_word
from epa_orchestrator.isolation.task_facts import KTHREADD, is_kernel_thread, read_cpu_line
from epa_orchestrator.names import IsolatedCpusFrom

_CPU = "sys/devices/system/cpu"

#: What a kernel has to be built with to isolate CPUs.
KERNEL_FEATURES: Final = ("CONFIG_CPU_ISOLATION", "CONFIG_NO_HZ_FULL", "CONFIG_RCU_NOCB_CPU")

_RELEASE: Final = re.compile(r"[A-Za-z0-9_.+~-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class LineFacts:
    """The kernel line and the lists of CPUs that are in force.

    `cpuset_isolated` are the CPUs of isolated cpuset partitions (cgroup v2, Linux 6.8 and later; newer
    kernels list those of isolcpus= too). An `isolated` or `nohz_full` that the kernel does not have is Unread.
    `possible` are all CPU ids that this boot can use, also for CPUs that may be added later. `kthreadd_allowed` are the
    CPUs of the thread from which kernel threads inherit theirs. `kernel_config` says for each of KERNEL_FEATURES
    whether the kernel was built with it.
    """

    cmdline: str | Unread
    present: CpuSet | Unread
    online: CpuSet | Unread
    isolated: CpuSet | Unread
    nohz_full: CpuSet | Unread
    cpuset_isolated: CpuSet | Unread
    possible: CpuSet | Unread
    kthreadd_allowed: CpuSet | Unread
    kernel_config: Mapping[str, bool] | Unread
    boot_loader: BootLoader

    def source(self, option: IsolatedCpusFrom) -> CpuSet | Unread:
        """The CPUs that the option isolated-cpus-from makes the isolated ones."""
        sources = {"isolcpus": self.isolated, "nohz_full": self.nohz_full, "cpuset": self.cpuset_isolated}
        return sources[option]

    @property
    def lacks_nohz_full(self) -> bool:
        """Whether the kernel was built without nohz_full. A copy of only some of a host's files tells nothing."""
        is_missing = isinstance(self.nohz_full, Unread) and self.nohz_full.reason == "missing"
        return is_missing and isinstance(self.present, CpuSet)

    @property
    def cpu_ids(self) -> CpuSet:
        """All CPU ids of this boot, or where the kernel's list of them is not known, those of present CPUs."""
        return next((cpus for cpus in (self.possible, self.present, self.online) if isinstance(cpus, CpuSet)), EMPTY)


def read_line_facts(files: HostFiles) -> LineFacts:
    """Read the kernel line and the lists in force."""
    return LineFacts(
        cmdline=read_word(files, "proc/cmdline"),
        present=read_cpu_list(files, f"{_CPU}/present"),
        online=read_cpu_list(files, f"{_CPU}/online"),
        isolated=read_cpu_list(files, f"{_CPU}/isolated"),
        nohz_full=read_cpu_list(files, f"{_CPU}/nohz_full"),
        cpuset_isolated=read_cpu_list(files, "sys/fs/cgroup/cpuset.cpus.isolated"),
        possible=read_cpu_list(files, f"{_CPU}/possible"),
        kthreadd_allowed=_read_kthreadd(files),
        kernel_config=_read_kernel_config(files),
        boot_loader=read_boot_loader(files),
    )


def _read_kthreadd(files: HostFiles) -> CpuSet | Unread:
    """The CPUs of kthreadd; process 2 of a container is another one."""
    stat = files.read(KTHREADD)
    if isinstance(stat, Unread):
        return stat
    return read_cpu_line(files, "proc/2/status") if is_kernel_thread(stat) else Unread(KTHREADD)


def _read_kernel_config(files: HostFiles) -> Mapping[str, bool] | Unread:
    release = read_word(files, "proc/sys/kernel/osrelease")
    if isinstance(release, Unread):
        return release
    if _RELEASE.fullmatch(release) is None:
        return Unread("proc/sys/kernel/osrelease")
    text = files.read(f"boot/config-{release}")
    if isinstance(text, Unread):
        return text
    lines = set(text.splitlines())
    if "CONFIG_SMP=y" not in lines and not any(f"{feature}=y" in lines for feature in KERNEL_FEATURES):
        return Unread(f"boot/config-{release}")  # cut, or not a kernel's configuration
    return {feature: f"{feature}=y" in lines for feature in KERNEL_FEATURES}
