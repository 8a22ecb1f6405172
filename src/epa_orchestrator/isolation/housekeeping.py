# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Housekeeping: which parameters of the kernel line a kernel takes, and why it drops the others.

Source: housekeeping_setup in kernel/sched/isolation.c of Linux 6.12. Kernels before 5.18 also drop a nohz_full= whose
CPUs differ from those of isolcpus=, and newer ones a parameter that together with the one before it leaves no CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from epa_orchestrator.cpuset import EMPTY, CpuSet, lowest_bits, union
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.boot_lists import read_boot_list
from epa_orchestrator.isolation.kernel_line import Flag, KernelLine, Request

#: What the kernel's log says about a parameter that it drops.
WRONG_RANGE = "Housekeeping: nohz_full= or isolcpus= incorrect CPU range"
NO_MATCH = "Housekeeping: nohz_full= must match isolcpus="
UNSUPPORTED = "Housekeeping: nohz unsupported. Build with CONFIG_NO_HZ_FULL"
NO_CPU_LEFT = "Housekeeping: must include one present CPU"


@dataclass(frozen=True)
class Outcome:
    """What a kernel makes of one parameter.

    `named` are the CPUs that its list names, as far as it can be understood. If the kernel drops the parameter,
    `mistake` says why, and `log` is what `dmesg` shows then.
    """

    request: Request
    named: CpuSet
    mistake: str = ""
    log: str = ""


def outcomes(line: KernelLine, possible: CpuSet, present: CpuSet) -> list[Outcome]:
    """The outcome of each isolcpus= and nohz_full=, on a host with these CPU ids.

    Without `possible` (empty), no CPU id is too high.
    """
    kernel = _Kernel(possible, present)
    return [kernel.set_up(request) for request in line.requests]


def first_of(cpus: CpuSet) -> CpuSet:
    """The first of these CPUs: among those present, the one that the kernel nearly always boots on."""
    return CpuSet.from_mask(lowest_bits(cpus.mask, 1))


def all_cpus(sets: Iterable[CpuSet]) -> CpuSet:
    """All CPUs of these sets."""
    return CpuSet.from_mask(union(cpus.mask for cpus in sets))


class _Kernel:
    """A kernel that reads its line: what it has taken so far, by flag, with the CPUs that it isolates for it."""

    def __init__(self, possible: CpuSet, present: CpuSet) -> None:
        self._cpu_count = possible.mask.bit_length() or None
        self._present = present
        self._taken: dict[Flag, tuple[Request, CpuSet]] = {}

    def set_up(self, request: Request) -> Outcome:
        """Take the parameter, or drop it."""
        read = read_boot_list(request.listed, self._cpu_count)
        if request.invalid:
            flag = printable(request.invalid[:40])
            log = f"isolcpus: Invalid flag {flag}"
            return Outcome(request, read.cpus, f"'{flag}' is no flag of isolcpus=", log)
        if read.mistake:
            return Outcome(request, read.cpus, printable(read.mistake), WRONG_RANGE)
        if request.skipped and not read.cpus:
            word = printable(request.skipped[-1][:40])
            log = f"isolcpus: Skipped unknown flag {word}"
            return Outcome(request, EMPTY, f"the kernel reads '{word}' as a flag and finds no list of CPUs", log)
        mistake, log = self._take(request, read.cpus)
        return Outcome(request, read.cpus, mistake, log)

    def _take(self, request: Request, cpus: CpuSet) -> tuple[str, str]:
        """Take the list of a parameter; why not and what the log says, if the kernel drops it."""
        if not cpus:
            return "", ""
        if self._present and self._present <= cpus:
            cpus -= first_of(self._present)  # the kernel keeps the CPU that it boots on
        if not cpus:
            return "it leaves no CPU for everything else", NO_CPU_LEFT
        for flag, (earlier, earlier_cpus) in self._taken.items():
            if flag in request.flags and earlier_cpus != cpus:
                return f"{printable(earlier.text[:80])} comes first and differs", NO_MATCH
        for flag in request.flags - self._taken.keys():
            self._taken[flag] = request, cpus
        return "", ""
