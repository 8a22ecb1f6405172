# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task names: they cannot act on a terminal, and a stranger is moved with its whole service."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.task_facts import Task
from epa_orchestrator.isolation.task_names import listed, moved_away, named


def task(name: str = "x", tid: int = 12, cgroup: str | None = None) -> Task:
    return Task(12, tid, 1, name, "R", False, True, CpuSet.parse("3"), 3, 1, 1, 0, cgroup)


@pytest.mark.parametrize(
    ("name", "tid", "text"),
    [
        ("python3", 12, "python3 (PID 12)"),
        ("pmd-c02", 14, "pmd-c02 (PID 12, TID 14)"),
        ("a\x1b[2Jb\n", 12, "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER} (PID 12)"),
        ("x" * 500, 12, "x" * 64 + " (PID 12)"),
    ],
)
def test_the_name_of_a_task(name: str, tid: int, text: str) -> None:
    assert named(task(name, tid)) == text


def test_a_list_names_the_first_three() -> None:
    assert listed(["a", "b", "c"], "task") == "a, b, c"
    assert listed(["a", "b", "c", "d"], "task") == "a, b, c and 1 more task"
    assert listed(["a", "b", "c", "d", "e"], "claim", "; ") == "a; b; c and 2 more claims"


@pytest.mark.parametrize(
    ("cgroup", "command"),
    [
        ("/system.slice/cron.service", "sudo systemctl set-property cron.service AllowedCPUs=0-1"),
        ("/system.slice/a\\x2db.service", "sudo systemctl set-property 'a\\x2db.service' AllowedCPUs=0-1"),
        # A session or a user's manager is not a service that an operator limits for one task.
        ("/user.slice/user-1.slice/session-4.scope", "sudo taskset -apc 0-1 12"),
        ("/user.slice/user-1.slice/user@1.service/app.slice/x.service", "sudo taskset -apc 0-1 12"),
        ("/lxc.payload.c1/system.slice/cron.service", "sudo taskset -apc 0-1 12"),
        ("/system.slice/x;reboot.service", "sudo taskset -apc 0-1 12"),
        (None, "sudo taskset -apc 0-1 12"),
    ],
)
def test_the_command_that_moves_a_stranger_away(cgroup: str | None, command: str) -> None:
    assert moved_away(task(cgroup=cgroup), "0-1", by_unit=True) == command


def test_a_service_that_systemd_cannot_limit_is_moved_by_its_process() -> None:
    assert moved_away(task(cgroup="/system.slice/cron.service"), "0-1", by_unit=False) == "sudo taskset -apc 0-1 12"
