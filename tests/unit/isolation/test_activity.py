# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Activity: what counts as work, by one reading and by two."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.isolation.activity import Activity
from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.task_facts import Task
from tests.isolated_hosts import HostTask, IsolatedHost
from tests.unit.isolation.task_hosts import once, twice


def task_in(case: Case, tid: int) -> Task:
    return next(task for task in Activity(case).tasks if task.tid == tid)


@pytest.mark.parametrize(("state", "works"), [("R", True), ("S", False), ("D", False), ("I", False)])
def test_with_one_reading_only_a_runnable_task_is_at_work(state: str, works: bool) -> None:
    host = IsolatedHost()
    host.tasks.append(HostTask(900, "x", "7", state, ticks=100_000))
    case = once(host)
    assert Activity(case).is_at_work(task_in(case, 900)) is works


@pytest.mark.parametrize(("ticks", "works"), [(0, False), (1, True), (500, True)])
def test_with_two_readings_a_task_is_at_work_that_had_cpu_time(ticks: int, works: bool) -> None:
    host = IsolatedHost()
    task = HostTask(900, "x", "7")
    host.tasks.append(task)

    def run() -> None:
        task.ticks += ticks

    case = twice(host, between=run)
    assert Activity(case).is_at_work(task_in(case, 900)) is works


def test_a_task_that_was_started_in_between_is_at_work_once_it_ran() -> None:
    host = IsolatedHost()
    case = twice(host, between=lambda: host.tasks.append(HostTask(900, "x", "7", ticks=1, started=500_500)))
    assert Activity(case).is_at_work(task_in(case, 900))


def test_another_task_with_the_same_id_is_no_earlier_one() -> None:
    host = IsolatedHost()
    task = HostTask(900, "x", "7", ticks=900)
    host.tasks.append(task)

    def begin_again() -> None:
        task.started, task.ticks = 500_500, 3

    case = twice(host, between=begin_again)
    assert Activity(case).before(task_in(case, 900)) is None
    assert Activity(case).is_at_work(task_in(case, 900))


def test_waiting_and_switches_are_rates_of_ten_seconds() -> None:
    host = IsolatedHost()
    task = HostTask(900, "x", "7", "R", share=0.75)
    host.tasks.append(task)

    def interrupt() -> None:
        task.involuntary += 500

    case = twice(host, between=interrupt)
    activity = Activity(case)
    assert activity.seconds == 10.0
    assert activity.waited_share(task_in(case, 900)) == 0.25
    assert activity.involuntary_rate(task_in(case, 900)) == 50.0


def test_with_one_reading_there_are_no_rates() -> None:
    case = once(IsolatedHost())
    activity, task = Activity(case), task_in(case, 701)
    assert (activity.seconds, activity.waited_share(task), activity.involuntary_rate(task)) == (None, None, 0.0)


def test_readings_of_two_boots_are_not_compared() -> None:
    case = twice(IsolatedHost())
    assert case.earlier is not None
    other = Case(case.now, earlier=replace(case.earlier, boot_id="another"), owners=case.owners)
    assert Activity(other).seconds is None
    backwards = Case(case.now, earlier=replace(case.earlier, at=case.now.at), owners=case.owners)
    assert Activity(backwards).seconds is None


def test_tasks_that_were_not_read_are_none() -> None:
    case = once(IsolatedHost())
    assert Activity(Case(replace(case.now, tasks=Unread("proc")))).tasks == ()


@pytest.mark.parametrize(
    ("share", "ran", "wants", "waits"),
    [
        (1.0, 1000, True, False),
        (0.5, 500, True, True),
        (0.0, 0, True, True),  # it never gets its CPU
        (1.0, 9, False, False),  # less than 1 % of 10 s
    ],
)
def test_who_wants_its_cpu_and_who_waits(share: float, ran: int, wants: bool, waits: bool) -> None:
    host = IsolatedHost()
    task = HostTask(900, "x", "7", "R", share=share)
    host.tasks.append(task)
    before = task.ticks

    def run() -> None:
        task.ticks = before + ran

    case = twice(host, between=run)
    activity = Activity(case)
    assert activity.wants_its_cpu(task_in(case, 900)) is wants
    assert activity.waits(task_in(case, 900)) is waits
