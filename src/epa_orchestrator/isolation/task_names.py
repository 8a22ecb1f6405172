# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task names: how findings name tasks, and the command that moves a task to other CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from epa_orchestrator.control_groups import unit_of_path
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.task_facts import Task
from epa_orchestrator.units import count_of

_MOST_NAMED: Final = 3
_LONGEST_NAME: Final = 64


def named(task: Task) -> str:
    """A task as `python3 (PID 12)`, or with the id of its thread."""
    thread = "" if task.tid == task.pid else f", TID {task.tid}"
    return f"{printable(task.name[:_LONGEST_NAME])} (PID {task.pid}{thread})"


def listed(names: Sequence[str], noun: str, separator: str = ", ") -> str:
    """The first few of these, and how many more there are."""
    shown = separator.join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return shown if more <= 0 else f"{shown} and {count_of(more, f'more {noun}')}"


def moved_away(task: Task, cpus: str, *, by_unit: bool) -> str:
    """The command that limits a stranger to other CPUs: with its whole service, where systemd started it as one.

    Without `by_unit`, systemd cannot limit the service (see Case.can_limit_units).
    """
    unit = unit_of_path(task.cgroup) if task.cgroup is not None and by_unit else None
    if unit is not None and unit.endswith(".service") and not unit.startswith("user@"):
        return f"sudo systemctl set-property {_quoted(unit)} AllowedCPUs={cpus}"
    return f"sudo taskset -apc {cpus} {task.pid}"


def _quoted(unit: str) -> str:
    return f"'{unit}'" if "\\" in unit else unit
