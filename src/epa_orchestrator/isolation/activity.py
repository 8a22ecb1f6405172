# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Activity: which tasks are at work, and how much they wait, by one reading or by the comparison of two."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.elapsed import measured
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.owners import USER_HZ
from epa_orchestrator.isolation.task_facts import Task

#: From this share of the time on, work and waiting count.
NOTABLE: Final = 0.01

_RUNNABLE: Final = "R"
_NS: Final = 1e9


class Activity:
    """What the tasks of a case do. `seconds` is the time between its two readings, None with one."""

    def __init__(self, case: Case) -> None:
        self.tasks: tuple[Task, ...] = () if isinstance(case.now.tasks, Unread) else case.now.tasks
        self.seconds: float | None = None
        self._before: dict[int, Task] = {}
        compared = measured(case)
        if compared is not None and not isinstance(tasks := compared[0].tasks, Unread):
            self.seconds = compared[1]
            self._before = {task.tid: task for task in tasks}

    def before(self, task: Task) -> Task | None:
        """The task in the earlier reading, None where it was not there yet."""
        before = self._before.get(task.tid)
        return before if before is not None and before.started == task.started else None

    def is_at_work(self, task: Task) -> bool:
        """Whether the task works on its CPU: it is runnable there, or had CPU time between the readings.

        The CPU of a task that sleeps is only where it ran last, maybe days ago.
        """
        if task.state == _RUNNABLE:
            return True
        if self.seconds is None:
            return False
        before = self.before(task)
        return task.ticks > (0 if before is None else before.ticks)

    def wants_its_cpu(self, task: Task) -> bool:
        """Whether the task runs on its CPU or waits for it, for a notable share of the time."""
        before = self.before(task)
        if self.seconds is None or before is None:
            return task.state == _RUNNABLE
        ran = (task.ticks - before.ticks) / USER_HZ / self.seconds
        return before.cpu == task.cpu and (ran >= NOTABLE or self.waits(task))

    def waits(self, task: Task) -> bool:
        """Whether the task has to wait for its CPU. One reading shows only that it is runnable."""
        waited = self.waited_share(task)
        return task.state == _RUNNABLE if waited is None else waited >= NOTABLE

    def waited_share(self, task: Task) -> float | None:
        """The share of the time between the readings that the task waited for a CPU; None where it is not known."""
        before = self.before(task)
        if self.seconds is None or before is None or before.waited_ns is None or task.waited_ns is None:
            return None
        return (task.waited_ns - before.waited_ns) / _NS / self.seconds

    def involuntary_rate(self, task: Task) -> float:
        """How often a second another task took the CPU from this one."""
        before = self.before(task)
        if self.seconds is None or before is None:
            return 0.0
        return (task.involuntary - before.involuntary) / self.seconds
