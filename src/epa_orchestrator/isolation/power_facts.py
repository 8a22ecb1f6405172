# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Power facts: frequency governors and idle states of CPUs, and what scans or moves the host's memory.

Sources: Documentation/admin-guide/pm/cpufreq.rst and cpuidle.rst, Documentation/admin-guide/mm, and
Documentation/ABI/testing/sysfs-devices-power of the Linux kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.kernel_line import KernelLine
from epa_orchestrator.isolation.kernel_lists import read_cpu_list, read_word, whole_number

_CPU: Final = "sys/devices/system/cpu"
_LISTS: Final = (f"{_CPU}/isolated", f"{_CPU}/nohz_full", "sys/fs/cgroup/cpuset.cpus.isolated")


@dataclass(frozen=True)
class CpuPower:
    """How a CPU saves power: its governor, and the latencies of the idle states that are not disabled, in µs.

    A file that is missing means that the CPU has no such thing. `longest_latency` is the limit of the CPU's
    pm_qos_resume_latency_us: 0 allows no idle state, None sets no limit.
    """

    governor: str | Unread
    latencies: tuple[int, ...] | Unread
    longest_latency: int | None

    @property
    def wakeup(self) -> int:
        """The most µs that waking up may take."""
        if isinstance(self.latencies, Unread):
            return 0
        limit = self.longest_latency
        return max((latency for latency in self.latencies if limit is None or latency <= limit), default=0)


@dataclass(frozen=True)
class PowerFacts:
    """The CPUs that somebody meant to isolate, and the switches of KSM, huge pages and NUMA balancing as words."""

    cpus: Mapping[int, CpuPower]
    ksm: str | Unread
    huge_pages: str | Unread
    numa_balancing: str | Unread


def read_power_facts(files: HostFiles) -> PowerFacts:
    """Read them; the CPUs of housekeeping may save power, so nothing is read about them."""
    return PowerFacts(
        cpus={cpu: _read_cpu(files, f"{_CPU}/cpu{cpu}") for cpu in _meant(files)},
        ksm=read_word(files, "sys/kernel/mm/ksm/run"),
        huge_pages=read_word(files, "sys/kernel/mm/transparent_hugepage/enabled"),
        numa_balancing=read_word(files, "proc/sys/kernel/numa_balancing"),
    )


def _meant(files: HostFiles) -> CpuSet:
    """The online CPUs that are isolated in any way, or that the kernel line names."""
    line = files.read("proc/cmdline")
    meant = EMPTY if isinstance(line, Unread) else KernelLine(line).named_cpus
    for path in _LISTS:
        cpus = read_cpu_list(files, path)
        meant |= EMPTY if isinstance(cpus, Unread) else cpus
    online = read_cpu_list(files, f"{_CPU}/online")
    return EMPTY if isinstance(online, Unread) else meant & online


def _read_cpu(files: HostFiles, directory: str) -> CpuPower:
    governor = read_word(files, f"{directory}/cpufreq/scaling_governor")
    latencies = _read_latencies(files, f"{directory}/cpuidle")
    limit = files.read(f"{directory}/power/pm_qos_resume_latency_us") if latencies else ""
    return CpuPower(governor, latencies, None if isinstance(limit, Unread) else _limit(limit.strip()))


def _read_latencies(files: HostFiles, directory: str) -> tuple[int, ...] | Unread:
    states = files.names(directory)
    if isinstance(states, Unread):
        return states
    latencies: list[int] = []
    for state in sorted(states):
        disabled = read_word(files, f"{directory}/{state}/disable")
        if disabled == "1":
            continue
        text = read_word(files, f"{directory}/{state}/latency")
        if isinstance(text, Unread):
            return text
        latency = whole_number(text)
        if latency is not None:
            latencies.append(latency)
    return tuple(latencies)


def _limit(text: str) -> int | None:
    """The limit in µs: `0` means none, and `n/a` that waking up may take no time (drivers/base/power/sysfs.c)."""
    if text == "n/a":
        return 0
    return whole_number(text) or None
