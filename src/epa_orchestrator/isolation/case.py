# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Case: everything that a judgement is about: readings, claims with their owners, and what the operator wants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.facts import Facts
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.kernel_line import KernelLine
from epa_orchestrator.names import IsolatedCpusFrom, PoolName


@dataclass(frozen=True)
class Owner:
    """A claim, and what is known of the process that asked for it, at the time `asked_at` (seconds since 1970).

    `cgroups` are the control groups that the operator names for the service (option owner-cgroups), as paths without a
    leading slash; they replace everything else.
    """

    service: str
    cpus: CpuSet
    pool: PoolName = "isolated"
    snap: str | None = None
    unit: str | None = None
    pid: int | None = None
    asked_at: float | None = None
    cgroups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Terms:
    """What the operator wants: the options isolated-cpus-from and nohz-full, and the CPUs to look at (None: all)."""

    isolated_cpus_from: IsolatedCpusFrom = "isolcpus"
    nohz_full: Literal["same", "none"] = "same"
    only: CpuSet | None = None


@dataclass(frozen=True)
class Case:
    """What is judged. `earlier` is a reading before `now`; `owners` is None where the claims are not known."""

    now: Facts
    earlier: Facts | None = None
    owners: tuple[Owner, ...] | None = None
    terms: Terms = Terms()

    @cached_property
    def line(self) -> KernelLine:
        """The parsed kernel line, empty where it could not be read."""
        cmdline = self.now.line.cmdline
        return KernelLine("" if isinstance(cmdline, Unread) else cmdline)

    @cached_property
    def in_force(self) -> CpuSet:
        """The CPUs that count as isolated, by the option isolated-cpus-from."""
        return known(self.now.line.source(self.terms.isolated_cpus_from))

    @property
    def can_limit_units(self) -> bool:
        """Whether systemd can limit the CPUs of a unit (AllowedCPUs=), which needs control groups of version 2."""
        partitions = self.now.scheduler.partitions
        return not isinstance(partitions, Unread) or partitions.reason == "denied"

    @cached_property
    def isolated(self) -> CpuSet:
        """The CPUs to judge: those that count as isolated, or if there are none, those that somebody meant to isolate.

        That is whatever a cpuset partition, nohz_full or the kernel line names. Only online CPUs, and those of `only`.
        """
        line = self.now.line
        meant = self.in_force or known(line.cpuset_isolated) | known(line.nohz_full) | self.line.named_cpus
        if not isinstance(line.online, Unread):
            meant &= line.online
        return meant if self.terms.only is None else meant & self.terms.only

    @cached_property
    def housekeeping(self) -> CpuSet:
        """The online CPUs that nobody meant to isolate."""
        line = self.now.line
        return known(line.online) - self.in_force - (EMPTY if self.in_force else self.isolated)


def known(cpus: CpuSet | Unread) -> CpuSet:
    """The CPUs, none where they could not be read."""
    return EMPTY if isinstance(cpus, Unread) else cpus
