# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Facts: everything that one reading of a host finds out about its isolation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.interrupt_facts import InterruptFacts, read_interrupt_facts
from epa_orchestrator.isolation.kernel_lists import read_seconds, read_word
from epa_orchestrator.isolation.line_facts import LineFacts, read_line_facts
from epa_orchestrator.isolation.power_facts import PowerFacts, read_power_facts
from epa_orchestrator.isolation.scheduler_facts import SchedulerFacts, read_scheduler_facts
from epa_orchestrator.isolation.task_facts import Task, read_tasks
from epa_orchestrator.isolation.tick_facts import TickFacts, read_tick_facts


@dataclass(frozen=True)
class Facts:
    """One reading, begun at the time `at` (seconds since 1970).

    `uptime` are the seconds from the host's boot to then; counters begin at the boot that `boot_id` names.
    """

    at: float
    uptime: float | Unread
    boot_id: str | Unread
    line: LineFacts
    scheduler: SchedulerFacts
    tick: TickFacts
    interrupts: InterruptFacts
    power: PowerFacts
    tasks: tuple[Task, ...] | Unread


def go_on() -> None:
    """Take no rest."""


def read_facts(files: HostFiles, at: float, rest: Callable[[], None] = go_on) -> Facts:
    """Read the facts of a host; `rest` is called often, and may sleep to leave the CPU to others."""
    return Facts(
        at=at,
        uptime=read_seconds(files, "proc/uptime"),
        boot_id=read_word(files, "proc/sys/kernel/random/boot_id"),
        line=read_line_facts(files),
        scheduler=read_scheduler_facts(files),
        tick=read_tick_facts(files),
        interrupts=read_interrupt_facts(files),
        power=read_power_facts(files),
        tasks=read_tasks(files, rest),
    )
