# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Remedies: the CPU lists and masks that commands and kernel parameters in remedies need."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.kernel_line import KernelLine
from epa_orchestrator.isolation.line_facts import LineFacts

#: Stands for the housekeeping CPUs where they are not known.
_UNKNOWN: Final = "HOUSEKEEPING-CPUS"
_WORD_BITS: Final = 32


def isolated_list(case: Case) -> str:
    """All CPUs that count as isolated or were meant to, also those that nobody asked to look at."""
    return str(case.in_force | case.isolated)


def housekeeping_list(case: Case) -> str:
    """The CPUs that nobody meant to isolate, as a list."""
    return str(case.housekeeping) or _UNKNOWN


def housekeeping_mask(case: Case) -> str:
    """The CPUs that nobody meant to isolate, as the kernel reads masks."""
    return kernel_mask(case.housekeeping) if case.housekeeping else _UNKNOWN


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


def nohz_full_remedy(line: LineFacts, cpus: CpuSet) -> str:
    """How to make nohz_full cover these CPUs, and those that it covers now."""
    wanted = str(known(line.nohz_full) | cpus)
    asked = () if isinstance(line.cmdline, Unread) else KernelLine(line.cmdline).values("nohz_full")
    if wanted in asked:
        return f"nohz_full={wanted} is on the kernel line and not in force: do what A1 says"
    return line_remedy("nohz_full", wanted, is_set=bool(asked))


def line_remedy(parameter: str, cpus: str, is_set: bool = False) -> str:
    """How to change a parameter of the kernel line: to add it, or if it is set, to change it."""
    if is_set:
        return f"change {parameter}= on the kernel line to {parameter}={cpus}, then reboot"
    return f"add {parameter}={cpus} to the kernel line, then reboot"
