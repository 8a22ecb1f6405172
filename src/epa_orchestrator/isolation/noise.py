# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Noise: what disturbed some CPUs between two readings of the kernel's counters, and who caused most of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.facts import Facts
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.task_facts import Task


@dataclass(frozen=True)
class Noise:
    """Counts of some CPUs: since the boot in one reading, or between two readings that are `seconds` apart.

    `ticks` are timer interrupts, `interrupts` those of devices by the device's name and number, `ipis` interrupts that
    other CPUs sent, `other` all remaining ones. `waited_ns` is how long tasks waited for these CPUs, `involuntary` how
    often the owner's tasks were interrupted by other tasks; both are None where they could not be read.
    """

    seconds: float
    ticks: int
    interrupts: Mapping[str, int]
    ipis: int
    other: int
    waited_ns: int | None
    involuntary: int | None


def noise_so_far(facts: Facts, cpus: CpuSet, tasks: Iterable[Task]) -> Noise | Unread:
    """The counts of these CPUs and of their owner's tasks since the boot."""
    raise NotImplementedError


def noise_between(before: Noise, after: Noise) -> Noise:
    """What was added between two readings of the same boot."""
    raise NotImplementedError


def culprit(noise: Noise, cpus: CpuSet, facts: Facts) -> tuple[str, str] | None:
    """Who caused most of the noise, and the remedy, as two sentences; None where there is none worth a remedy."""
    raise NotImplementedError
