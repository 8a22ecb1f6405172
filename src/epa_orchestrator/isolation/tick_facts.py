# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tick facts: clock source, lockup watchdog, and how much time each CPU was busy, idle and stolen.

Sources: proc_stat(5), and Documentation/admin-guide/lockup-watchdogs.rst of the Linux kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.kernel_lists import read_cpu_list, read_word, whole_number

_CLOCK: Final = "sys/devices/system/clocksource/clocksource0"
_STAT: Final = "proc/stat"

#: Columns of a cpuN line: user, nice, system, idle, iowait, irq, softirq, steal. Later ones are part of user and nice.
_TIMES: Final = 8


@dataclass(frozen=True)
class CpuTimes:
    """How long a CPU was busy, idle (or waiting for a disk) and stolen since the boot, in ticks of 1/100 s."""

    busy: int
    idle: int
    steal: int

    def since(self, earlier: CpuTimes) -> CpuTimes:
        """What was added since an earlier reading; the kernel sometimes takes a tick of idle time back."""
        return CpuTimes(
            max(self.busy - earlier.busy, 0), max(self.idle - earlier.idle, 0), max(self.steal - earlier.steal, 0)
        )


@dataclass(frozen=True)
class TickFacts:
    """What shapes and measures the timer tick.

    `watchdog` is the master switch of the lockup detectors, `soft_watchdog` and `nmi_watchdog` are those of each kind;
    all are words such as "1". `clock_sources` are those that the kernel could use.
    """

    clock_source: str | Unread
    clock_sources: tuple[str, ...] | Unread
    watchdog: str | Unread
    soft_watchdog: str | Unread
    nmi_watchdog: str | Unread
    watchdog_cpus: CpuSet | Unread
    cpu_times: Mapping[int, CpuTimes] | Unread


def read_tick_facts(files: HostFiles) -> TickFacts:
    """Read clock source, watchdog and CPU times."""
    available = read_word(files, f"{_CLOCK}/available_clocksource")
    return TickFacts(
        clock_source=read_word(files, f"{_CLOCK}/current_clocksource"),
        clock_sources=available if isinstance(available, Unread) else tuple(available.split()),
        watchdog=read_word(files, "proc/sys/kernel/watchdog"),
        soft_watchdog=read_word(files, "proc/sys/kernel/soft_watchdog"),
        nmi_watchdog=read_word(files, "proc/sys/kernel/nmi_watchdog"),
        watchdog_cpus=read_cpu_list(files, "proc/sys/kernel/watchdog_cpumask"),
        cpu_times=_read_cpu_times(files),
    )


def _read_cpu_times(files: HostFiles) -> Mapping[int, CpuTimes] | Unread:
    text = files.read(_STAT)
    if isinstance(text, Unread):
        return text
    return dict(_cpu_times(text)) or Unread(_STAT)


def _cpu_times(text: str) -> Iterator[tuple[int, CpuTimes]]:
    """The times in the lines `cpuN …`; lines that are cut or nonsense are left out."""
    for line in text.split("\n"):
        if not line.startswith("cpu"):
            if line:
                return  # the lines of CPUs come first; that of all interrupts is long
            continue
        label, *fields = line.split()
        cpu = whole_number(label.removeprefix("cpu"))
        times = [time for field in fields[:_TIMES] if (time := whole_number(field)) is not None]
        if cpu is None or len(times) < _TIMES:
            continue
        user, nice, system, idle, iowait, irq, softirq, steal = times
        yield cpu, CpuTimes(user + nice + system + irq + softirq, idle + iowait, steal)
