# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Recordable: what a host's files may tell in a recording, which people send to others.

Of texts that people write, such as the kernel line, only the words that the audit reads are kept: the others may be
passwords, addresses and names. Sources: proc_pid_stat(5), proc_pid_status(5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
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
        *("BOOT_IMAGE", "recovery", "single", "--"),
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
_BLANKS: Final = re.compile(r" {2,}")
_OTHER_TASK_FILES: Final = ("cgroup", "comm", "schedstat", "sched")
#: A word, with the quotes and blanks around it left out.
_WORD: Final = re.compile(r"""[^\s"']+""")
#: Stands for a word of a kernel line that nobody may know, so that the others keep their places.
_HIDDEN: Final = "_"

#: Lines of settings that concern CPUs.
_SETTING: Final = re.compile(r"\s*(?:IRQBALANCE_\w+|OPTIONS)\s*=.*")
#: What a shell reads in GRUB's settings: an assignment, and the words that make it conditional.
_ASSIGNED: Final = re.compile(r"([A-Za-z_]\w*\+?=)(.*)", re.ASCII)
_SHELL_WORDS: Final = frozenset(
    {
        *("if", "then", "else", "elif", "fi", "for", "do", "done", "case", "esac", "export", ".", "source"),
        "\\",
        "[",
        "]",
    }
)
_VARIABLE: Final = re.compile(r"\$(?:\w+|\{\w+\})", re.ASCII)
#: What only a shell can evaluate.
_EVALUATED: Final = re.compile(r"\$\(|`")
#: Lines of grub.cfg: a kernel line, a variable, and where a part of the file begins and ends.
_LINUX: Final = re.compile(r"\s*linux(?:16|efi)?\s+\S+")
_SET: Final = re.compile(r"\s*set\s+\w+=")
_SECTION: Final = re.compile(r"### (?:BEGIN|END) \S+ ###")
_CONFIG_LINE: Final = re.compile(
    r"(?:# )?CONFIG_(?:SMP|NO_HZ|CPU_ISOLATION|RCU_NOCB|CPUSETS|SCHEDSTATS|HZ|PREEMPT|CONTEXT_TRACKING|NR_CPUS)"
)


def recordable(path: str, text: str) -> str | None:
    """What a recording may have of a file's text; None if it must not have the file."""
    if task_file := _TASK_FILE.fullmatch(path):
        return _of_task(task_file[1], text)
    for beginning, reduced in _REDUCED:
        if path.startswith(beginning):
            return reduced(text)
    return text


def _of_kernel_line(text: str) -> str:
    return " ".join(word if _is_known(word) else _HIDDEN for word in text.split())


def _of_interrupts(text: str) -> str:
    """The table without the many blanks between its columns."""
    return _BLANKS.sub(" ", text)


def known_parameters(line: str) -> list[str]:
    """The words of a kernel line whose parameters are in `KERNEL_PARAMETERS`, in their order."""
    return [word for word in line.split() if _is_known(word)]


def _is_known(word: str) -> bool:
    name = word.partition("=")[0]
    return name in KERNEL_PARAMETERS or name.replace("-", "_") in KERNEL_PARAMETERS


def _of_task(name: str, text: str) -> str | None:
    if name == "status":
        # A task's name may hold any other character that ends a line for Python.
        return "".join(f"{line}\n" for line in text.split("\n") if line.partition(":")[0] in _STATUS_LINES)
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


def _of_grub_settings(text: str) -> str:
    """The same settings for a shell, with nothing in them but parameters of the kernel that are known."""
    lines = (line for line in text.splitlines(True) if not line.lstrip().startswith("#"))
    return "".join(_WORD.sub(lambda word: _shell_word(word[0]), line) for line in lines)


def _shell_word(word: str) -> str:
    if word in _SHELL_WORDS or _VARIABLE.fullmatch(word) or _is_known(word):
        return word
    if evaluated := _EVALUATED.search(word):
        return evaluated[0]
    assigned = _ASSIGNED.fullmatch(word)
    return assigned[1] + _shell_word(assigned[2]) if assigned and assigned[2] else word if assigned else ""


def _of_grub_cfg(text: str) -> str:
    """The kernel lines of the entries, with their variables, and without words that nobody may know."""
    kept: list[str] = []
    for line in text.splitlines(True):
        if _SECTION.match(line):
            kept.append(line)
        elif found := _LINUX.match(line) or _SET.match(line):
            kept.append(found[0] + _WORD.sub(lambda word: _grub_word(word[0]), line[found.end() :]))
    return "".join(kept)


def _grub_word(word: str) -> str:
    return word if _is_known(word) or _VARIABLE.fullmatch(word) else _HIDDEN


#: How the text of each file is reduced whose path begins like this; the first that fits counts.
_REDUCED: Final[Sequence[tuple[str, Callable[[str], str]]]] = (
    ("proc/cmdline", _of_kernel_line),
    ("proc/interrupts", _of_interrupts),
    ("boot/firmware/", _of_kernel_line),
    ("boot/config", partial(_lines, kept=_CONFIG_LINE)),
    ("boot/grub/", _of_grub_cfg),
    ("etc/default/grub", _of_grub_settings),
    ("boot/", partial(_lines, kept=_SETTING)),
    ("etc/", partial(_lines, kept=_SETTING)),
)
