# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Remedies: the CPU lists and masks that commands and kernel parameters in remedies need."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.cpuset import CpuSet, union
from epa_orchestrator.isolation.boot_lists import read_boot_list
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.kernel_line import KernelLine
from epa_orchestrator.isolation.line_facts import LineFacts

#: Stands for the housekeeping CPUs where they are not known.
UNKNOWN_HOUSEKEEPING: Final = "HOUSEKEEPING-CPUS"
_WORD_BITS: Final = 32


def isolated_list(case: Case) -> str:
    """All CPUs that count as isolated or were meant to, also those that nobody asked to look at."""
    return str(case.in_force | case.all_isolated)


def housekeeping_list(case: Case) -> str:
    """The CPUs that nobody meant to isolate, as a list."""
    return str(case.housekeeping) or UNKNOWN_HOUSEKEEPING


def housekeeping_mask(case: Case) -> str:
    """The CPUs that nobody meant to isolate, as the kernel reads masks."""
    return kernel_mask(case.housekeeping) if case.housekeeping else UNKNOWN_HOUSEKEEPING


def kernel_mask(cpus: CpuSet) -> str:
    """Hexadecimal words of 32 bits, highest first: `ff,00000003`. The kernel takes no longer word (lib/bitmap.c)."""
    words = [f"{cpus.mask & 0xFFFFFFFF:x}"]
    rest = cpus.mask >> _WORD_BITS
    while rest:
        words[-1] = words[-1].zfill(8)
        words.append(f"{rest & 0xFFFFFFFF:x}")
        rest >>= _WORD_BITS
    return ",".join(reversed(words))


def braced(cpus: CpuSet) -> str:
    """The CPUs (or other numbers) as bash expands them in a path: `2`, `{2..3}`, `{{2..3},8}`."""
    runs = [run.replace("-", "..") for run in str(cpus).split(",")]
    parts = [f"{{{run}}}" if ".." in run else run for run in runs]
    return parts[0] if len(parts) == 1 else f"{{{','.join(parts)}}}"


def moved_interrupts(numbers: str, cpus: str) -> str:
    """The command that moves interrupts to these CPUs; `numbers` may be `braced`, as tee takes several files."""
    return f"echo {cpus} | sudo tee /proc/irq/{numbers}/smp_affinity_list"


def nohz_full_remedy(line: LineFacts, cpus: CpuSet) -> str:
    """How to make nohz_full cover these CPUs, and those that it covers now.

    If the kernel line names them already, the kernel has dropped the parameter.
    """
    wanted = known(line.nohz_full) | cpus
    texts = () if isinstance(line.cmdline, Unread) else KernelLine(line.cmdline).values("nohz_full")
    asked = CpuSet.from_mask(union(read_boot_list(text, None).cpus.mask for text in texts))
    if wanted <= asked:
        return "correct nohz_full= on the kernel line, as check A1 of the audit says, then reboot"
    return line_remedy("nohz_full", str(wanted), is_set=bool(texts))


def line_remedy(parameter: str, cpus: str, is_set: bool = False) -> str:
    """How to change a parameter of the kernel line: to add it, or if it is set, to change it."""
    if is_set:
        return f"change {parameter}= on the kernel line to {parameter}={cpus}, then reboot"
    return f"add {parameter}={cpus} to the kernel line, then reboot"
