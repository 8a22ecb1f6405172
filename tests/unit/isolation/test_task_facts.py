# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task facts: tasks as the kernel prints them, with names that imitate its format, and tasks that end meanwhile."""

from __future__ import annotations

import os
import threading

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation import task_facts
from epa_orchestrator.isolation.facts import go_on
from epa_orchestrator.isolation.host_files import HostTree, RecordedHost, Unread
from epa_orchestrator.isolation.task_facts import KTHREADD, Task, is_kernel_thread, read_cpu_line, read_tasks
from tests.isolated_hosts import HostTask, IsolatedHost, kernel_thread, task_files

#: A kernel thread, which stands for those of a host.
KTHREAD = HostTask(2, "kthreadd", "0-1", parent=0, flags=0x00208040)
INIT = HostTask(1, "systemd", "0-1", parent=0, cgroup="/init.scope")


def files_of(*tasks: HostTask) -> dict[str, str]:
    return {path: text for task in (INIT, KTHREAD, *tasks) for path, text in task_files(task).items()}


def tasks_in(files: dict[str, str], denied: tuple[str, ...] = ()) -> dict[int, Task]:
    tasks = read_tasks(RecordedHost(files, denied), go_on)
    assert not isinstance(tasks, Unread)
    return {task.tid: task for task in tasks}


def test_a_thread_has_everything_that_the_kernel_tells() -> None:
    thread = HostTask(701, "pmd-c02", "2-3", "R", "/system.slice/ovs.service", 700, 5, cpu=3, ticks=77, started=900)
    thread.involuntary, thread.waited_ns = 4, 5_000_000
    process = HostTask(700, "ovs", "2-3", cgroup="/system.slice/ovs.service", parent=5)
    assert tasks_in(files_of(process, thread))[701] == Task(
        pid=700,
        tid=701,
        parent=5,
        name="pmd-c02",
        state="R",
        is_kernel=False,
        may_be_moved=True,
        allowed=CpuSet.parse("2-3"),
        cpu=3,
        ticks=77,
        started=900,
        involuntary=4,
        cgroup="/system.slice/ovs.service",
        waited_ns=5_000_000,
    )


@pytest.mark.parametrize("name", ["a b", "x) R 1 1 (", "two\nlines", ")", "(", "", "Cpus_allowed_l:"])
def test_a_name_may_imitate_the_format(name: str) -> None:
    task = tasks_in(files_of(HostTask(50, name, "3", cpu=3)))[50]
    assert (task.name, task.state, task.cpu, task.allowed) == (name, "S", 3, CpuSet.parse("3"))


def test_a_movable_kernel_thread_has_its_cpus_and_a_bound_one_none() -> None:
    tasks = tasks_in(files_of(kernel_thread(10, "rcu_gp", "0-1", bound=False), kernel_thread(11, "ksoftirqd/3", "3")))
    movable, bound = tasks[10], tasks[11]
    assert (movable.is_kernel, movable.may_be_moved, movable.allowed) == (True, True, CpuSet.parse("0-1"))
    assert (bound.is_kernel, bound.may_be_moved, bound.allowed, bound.cpu) == (True, False, EMPTY, 3)


def test_waiting_is_read_of_tasks_that_were_placed() -> None:
    tasks = tasks_in(files_of(HostTask(20, "cron", "0-1"), HostTask(21, "pmd", "2")))
    assert (tasks[20].waited_ns, tasks[21].waited_ns) == (None, 0)


@pytest.mark.parametrize("missing", ["stat", "status"])
def test_a_task_that_ends_meanwhile_is_left_out(missing: str) -> None:
    files = files_of(HostTask(50, "short", "3"))
    del files[f"proc/50/task/50/{missing}"]
    assert 50 not in tasks_in(files)


def test_a_process_whose_threads_may_not_be_listed_is_read_itself() -> None:
    files = {
        path: text for path, text in files_of(HostTask(50, "x", "3")).items() if not path.startswith("proc/50/task")
    }
    assert tasks_in(files, denied=("proc/50/task",))[50].allowed == CpuSet.parse("3")


@pytest.mark.parametrize(
    "stat",
    [
        "",
        "50",
        "50 (x",
        "50 (x) S",
        "50 (x) S 1 2 3",
        "\0" * 100,
        "50 (x) S " + "9" * 5000,
        "50 (x) S 1" + " -1" * 49,
        "50 (x) S 1" + " 99999999999999999999" * 49,
        "50 (x) S 1" + " a" * 49,
    ],
)
def test_nonsense_is_left_out(stat: str) -> None:
    files = files_of(HostTask(50, "x", "3"))
    files["proc/50/task/50/stat"] = stat
    assert 50 not in tasks_in(files)
    files["proc/50/stat"] = stat
    assert 50 not in tasks_in(files)


@pytest.mark.parametrize(
    "status", ["Cpus_allowed_list:\t3-1\n", "\nCpus_allowed_list:\tx\n", "\nCpus_allowed_list:\t9999999"]
)
def test_a_status_without_a_list_of_cpus_is_no_traceback(status: str) -> None:
    files = files_of(HostTask(50, "x", "3"))
    files["proc/50/task/50/status"] = status
    task = tasks_in(files).get(50)
    assert task is None or task.allowed == EMPTY


@pytest.mark.parametrize("schedstat", ["", "1", "1 x 3", "0 0 0\n"])
def test_a_schedstat_without_numbers_is_no_traceback(schedstat: str) -> None:
    files = files_of(HostTask(50, "x", "3"))
    files["proc/50/task/50/schedstat"] = schedstat
    task = tasks_in(files).get(50)
    assert task is None or task.waited_ns == 0


def test_without_kernel_threads_the_tasks_are_unread() -> None:
    """As in a container, or with the mount option hidepid."""
    own = files_of(HostTask(50, "x", "3"))
    without = {path: text for path, text in own.items() if not path.startswith("proc/2/")}
    assert read_tasks(RecordedHost(without), go_on) == Unread(KTHREADD)
    assert read_tasks(RecordedHost(without, [KTHREADD]), go_on) == Unread(KTHREADD, "denied")
    in_container = without | task_files(HostTask(2, "sh", "0-1"))
    assert read_tasks(RecordedHost(in_container), go_on) == Unread(KTHREADD)


def test_without_proc_the_tasks_are_unread() -> None:
    assert read_tasks(RecordedHost({}), go_on) == Unread("proc")


def test_it_rests_after_every_few_tasks() -> None:
    rests: list[int] = []
    tasks = read_tasks(RecordedHost(IsolatedHost().files()), lambda: rests.append(1))
    assert not isinstance(tasks, Unread)
    assert len(rests) == len(tasks) // 16


def test_the_kernel_says_what_this_process_says() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        tasks = read_tasks(HostTree(), go_on)
    finally:
        end.set()
        thread.join()
    if isinstance(tasks, Unread):
        pytest.skip("this test runs in a container")
    mine = {task.tid: task for task in tasks if task.pid == os.getpid()}
    assert {thread.native_id, os.getpid()} <= mine.keys()
    assert mine[os.getpid()].allowed == CpuSet(os.sched_getaffinity(0))
    assert mine[os.getpid()].parent == os.getppid()


def test_the_flag_of_kernel_threads() -> None:
    files = files_of(HostTask(50, "x", "3"))
    assert is_kernel_thread(files["proc/2/stat"])
    assert not is_kernel_thread(files["proc/50/stat"])
    assert not is_kernel_thread("2 (kthreadd)")


def test_the_cpus_of_a_task() -> None:
    files = RecordedHost(files_of() | {"proc/9/status": "Name:\tx\nCpus_allowed_list:\t3-1\n"})
    assert read_cpu_line(files, "proc/1/status") == CpuSet.parse("0-1")
    assert read_cpu_line(files, "proc/8/status") == Unread("proc/8/status")
    assert read_cpu_line(files, "proc/9/status") == Unread("proc/9/status")


def test_kernel_threads_tell_that_all_tasks_are_seen_also_without_the_first() -> None:
    assert set(tasks_in(task_files(kernel_thread(45, "khugepaged", "0-3", bound=False)))) == {45}


def test_more_tasks_than_fit_into_memory_are_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(*(HostTask(tid, "bomb", "0-3") for tid in range(100, 110)))
    assert len(tasks_in(files)) > 10
    monkeypatch.setattr(task_facts, "_MOST_TASKS", 10)
    found = read_tasks(RecordedHost(files), go_on)
    assert isinstance(found, Unread)
    assert found.needs == "/proc, which shows more than 100,000 tasks"
