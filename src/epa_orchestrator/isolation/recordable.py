# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Recordable: what a host's files may tell in a recording, which people send to others.

Of texts that people write, such as the kernel line, only the words that the audit reads are kept: the others may be
passwords, addresses and names. Sources: proc_pid_stat(5), proc_pid_status(5).
"""

from __future__ import annotations

import re
from typing import Final

#: The kernel parameters that say which CPUs and hugepages there are, who may use them, and how quiet they are.
KERNEL_PARAMETERS: Final = frozenset(
    {
        *("isolcpus", "nohz_full", "nohz", "rcu_nocbs", "rcu_nocb_poll", "irqaffinity", "kthread_cpus", "maxcpus"),
        *("nr_cpus", "possible_cpus", "nosmt", "numa", "numa_balancing", "mitigations", "default_hugepagesz"),
        *("hugepagesz", "hugepages", "hugetlb_free_vmemmap", "transparent_hugepage", "skew_tick", "nowatchdog"),
        *("nmi_watchdog", "nosoftlockup", "tsc", "clocksource", "hpet", "idle", "processor.max_cstate"),
        *("intel_idle.max_cstate", "intel_pstate", "amd_pstate", "cpufreq.default_governor", "cpuidle.off"),
        *("workqueue.cpu_intensive_thresh_us", "workqueue.power_efficient", "threadirqs", "preempt", "acpi", "apic"),
        *("cgroup_no_v1", "systemd.unified_cgroup_hierarchy", "systemd.cpu_affinity", "snapd_recovery_mode"),
        *("rcutree.kthread_prio", "rcupdate.rcu_normal_after_boot", "intel_iommu", "iommu", "audit", "pci"),
    }
)

_TASK_FILE: Final = re.compile(r"proc/[0-9]+/(?:task/[0-9]+/)?([^/]+)")
#: The lines of a task's `status` that say what it is called, where it may run, and how often it was interrupted.
_STATUS_LINES: Final = frozenset(
    {
        *("Name", "State", "Tgid", "Pid", "PPid", "Threads", "Kthread", "Cpus_allowed", "Cpus_allowed_list"),
        *("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"),
    }
)
#: The fields of a task's `stat` with addresses in memory, counted from 1.
_ADDRESSES: Final = frozenset({26, 27, 28, 29, 30, 35, *range(45, 52)})
_OTHER_TASK_FILES: Final = ("cgroup", "comm", "schedstat", "sched")
_KERNEL_WORD: Final = re.compile(r"""[^\s"']+""")
#: The lines of settings that concern CPUs, and those of the boot loader that have a kernel line.
_SETTING: Final = re.compile(r"\s*(?:IRQBALANCE_\w+|OPTIONS|CPUAffinity|AllowedCPUs)\s*=.*")
_LINE_VARIABLE: Final = re.compile(r"\s*(?:export\s+)?(?:GRUB_CMDLINE_LINUX\w*|GRUB_DEFAULT)\s*\+?=")
_LINUX: Final = re.compile(r"\s*(?:linux\w*|options|submenu|menuentry)\s")
_CONFIG_LINE: Final = re.compile(
    r"(?:# )?CONFIG_(?:NO_HZ|CPU_ISOLATION|RCU_NOCB|CPUSETS|SCHEDSTATS|SCHED_|TASKSTATS|HZ|PREEMPT|HIGH_RES|CPU_IDLE"
    r"|VIRT_CPU|CONTEXT_TRACKING|IRQ_|GENERIC_IRQ|NR_CPUS|MAXSMP|NUMA|KSM|TRANSPARENT|LOCKUP|SOFTLOCKUP|HARDLOCKUP)"
)


def recordable(path: str, text: str) -> str | None:
    """What a recording may have of a file's text; None if it must not have the file."""
    if path == "proc/cmdline":
        return " ".join(known_parameters(text))
    if task_file := _TASK_FILE.fullmatch(path):
        return _of_task(task_file[1], text)
    if path.startswith("boot/config"):
        return _lines(text, _CONFIG_LINE)
    if path.startswith(("etc/", "boot/")):
        return _of_settings(text)
    return text


def known_parameters(line: str) -> list[str]:
    """The words of a kernel line whose parameters are in `KERNEL_PARAMETERS`, in their order."""
    return [word for word in _KERNEL_WORD.findall(line) if _is_known(word)]


def _is_known(word: str) -> bool:
    return word.partition("=")[0].replace("-", "_") in KERNEL_PARAMETERS


def _of_task(name: str, text: str) -> str | None:
    if name == "status":
        return "".join(line for line in text.splitlines(True) if line.partition(":")[0] in _STATUS_LINES)
    if name == "stat":
        return _without_addresses(text)
    return text if name in _OTHER_TASK_FILES else None


def _without_addresses(stat: str) -> str:
    """A task's `stat` without addresses in memory. Its second field may hold anything but ends at the last ")"."""
    start, closing, rest = stat.rpartition(")")
    fields = ["0" if number in _ADDRESSES else field for number, field in enumerate(rest.split(), 3)]
    return f"{start}{closing} {' '.join(fields)}\n"


def _lines(text: str, kept: re.Pattern[str]) -> str:
    return "".join(line for line in text.splitlines(True) if kept.match(line))


def _of_settings(text: str) -> str:
    """The lines of a file of settings, or of the boot loader, that concern CPUs."""
    kept: list[str] = []
    for line in text.splitlines(True):
        if _SETTING.match(line):
            kept.append(line)
        elif (found := _LINE_VARIABLE.match(line)) or (found := _LINUX.match(line)):
            kept.append(found[0] + _known_words(line[found.end() :]))
    return "".join(kept)


def _known_words(text: str) -> str:
    """The text with nothing in it but known parameters, variables, and the quotes and blanks around them."""
    return _KERNEL_WORD.sub(lambda word: word[0] if _is_known(word[0]) or word[0].startswith("$") else "", text)
