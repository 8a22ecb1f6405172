# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Owners: whose tasks count as a claim's, and names that users and containers make to be taken for an owner."""

from __future__ import annotations

import time

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Owner
from epa_orchestrator.isolation.facts import go_on
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.owners import OwnerIndex, booted_at
from epa_orchestrator.isolation.task_facts import Task, read_tasks
from tests.isolated_hosts import HostTask, IsolatedHost, task_files
from tests.unit.isolation.task_hosts import NOW, reading

CPUS = CpuSet.parse("2-3")

OVS = "/system.slice/ovs.service"
VM = "/machine.slice/machine-qemu-1.scope/libvirt/emulator"

#: The host was booted at 1000; a task's `started` is in hundredths of a second after that.
BOOT = 1000.0
HOST = (
    HostTask(1, "systemd", "0-1", parent=0, cgroup="/init.scope"),
    HostTask(2, "kthreadd", "0-1", parent=0, flags=0x00208040),
    HostTask(10, "ovs", "2-3", cgroup=OVS, started=1000),
    HostTask(11, "pmd", "2", cgroup=OVS, pid=10, started=1000),
    HostTask(12, "helper", "0-1", cgroup=f"{OVS}/sub", parent=10, started=1000),
    HostTask(20, "nova", "0-1", cgroup="/system.slice/snap.nova.compute.service", started=1000),
    HostTask(21, "detached", "0-1", cgroup="/other", parent=20, started=1100),
    HostTask(22, "grandchild", "0-1", cgroup="/other", parent=21, started=1200),
    HostTask(30, "qemu", "0-1", cgroup=VM, started=1000),
    HostTask(31, "vcpu", "3", cgroup=VM.replace("emulator", "vcpu0"), pid=30, started=1000),
    HostTask(40, "fake", "3", cgroup="/user.slice/user-1.slice/user@1.service/machine.slice/x.scope"),
    HostTask(41, "fake", "3", cgroup="/user.slice/user-1.slice/user@1.service/app.slice/ovs.service"),
    HostTask(42, "fake", "3", cgroup="/lxc.payload.c1/system.slice/ovs.service"),
    HostTask(43, "fake", "3", cgroup="/machine.slice2/x.scope"),
    HostTask(44, "fake", "3", cgroup="/machine.slice-x"),
    HostTask(45, "fake", "3", cgroup="/user.slice/user-1.slice/user@1.service/snap.nova.x.service"),
    HostTask(50, "juju", "0-1", cgroup="/system.slice/jujud-machine-0.service"),
    HostTask(60, "bash", "0-1", cgroup="/user.slice/user-0.slice/session-4.scope"),
    HostTask(61, "testpmd", "2-3", cgroup="/user.slice/user-0.slice/session-4.scope", parent=60),
    HostTask(70, "cron", "0-1", cgroup="/user.slice/user-0.slice/session-5.scope"),
)


def host_tasks(*more: HostTask) -> tuple[Task, ...]:
    files = {path: text for task in (*HOST, *more) for path, text in task_files(task).items()}
    tasks = read_tasks(RecordedHost(files), go_on)
    assert not isinstance(tasks, Unread)
    return tasks


def tasks_of(owner: Owner, tasks: tuple[Task, ...], boot: float | None) -> tuple[Task, ...] | None:
    """The owner's tasks; None where it is not known whose they are."""
    processes = OwnerIndex(tasks, boot).processes_of(owner)
    return None if processes is None else tuple(task for task in tasks if task.pid in processes)


@pytest.mark.parametrize(
    ("owner", "tids"),
    [
        (Owner("x", CPUS, unit="ovs.service"), {10, 11, 12}),
        (Owner("x", CPUS, snap="nova"), {20}),
        (Owner("x", CPUS, snap="nova", unit="snap.nova.compute.service"), {20}),
        # The process, and what it started, also in other control groups.
        (Owner("x", CPUS, pid=20, asked_at=1020.0), {20, 21, 22}),
        (Owner("x", CPUS, unit="snap.nova.compute.service", pid=20, asked_at=1020.0), {20, 21, 22}),
        # A control group replaces everything else.
        (Owner("x", CPUS, unit="ovs.service", cgroups=("machine.slice",)), {30, 31}),
        (Owner("x", CPUS, cgroups=("/machine.slice/",)), {30, 31}),
        (Owner("x", CPUS, cgroups=("machine.slice/machine-qemu-1.scope/libvirt/emulator",)), {30, 31}),
        (Owner("x", CPUS, cgroups=("system.slice/ovs.service", "other")), {10, 11, 12, 21, 22}),
        (Owner("x", CPUS, cgroups=("no.slice",)), set[int]()),
        (Owner("x", CPUS, cgroups=("",)), set[int]()),
    ],
)
def test_the_tasks_of_an_owner(owner: Owner, tids: set[int]) -> None:
    tasks = tasks_of(owner, host_tasks(), BOOT)
    assert tasks is not None
    assert {task.tid for task in tasks} == tids


@pytest.mark.parametrize(
    "owner",
    [
        Owner("x", CPUS),
        Owner("x", CPUS, unit="gone.service"),
        Owner("x", CPUS, snap="gone"),
        Owner("x", CPUS, snap=""),
        Owner("x", CPUS, pid=999, asked_at=5000.0),
        # Another process has the id: it was started 10 s after the boot, and the request came 7 s after it.
        Owner("x", CPUS, pid=20, asked_at=1007.0),
        Owner("x", CPUS, pid=20),
        # Agents and people ask for others.
        Owner("x", CPUS, unit="jujud-machine-0.service", pid=50, asked_at=5000.0),
        Owner("x", CPUS, unit="session-5.scope"),
        Owner("x", CpuSet.parse("5"), unit="session-4.scope"),
    ],
)
def test_an_owner_that_is_not_known(owner: Owner) -> None:
    assert tasks_of(owner, host_tasks(), BOOT) is None


def test_a_clock_that_was_set_by_two_seconds_is_tolerated() -> None:
    assert tasks_of(Owner("x", CPUS, pid=20, asked_at=1008.0), host_tasks(), BOOT) is not None


def test_without_the_time_of_the_boot_no_process_is_known_by_its_id() -> None:
    assert tasks_of(Owner("x", CPUS, pid=20, asked_at=1020.0), host_tasks(), None) is None


def test_a_session_that_placed_a_task_on_the_claim_is_its_owner() -> None:
    tasks = tasks_of(Owner("x", CPUS, unit="session-4.scope"), host_tasks(), BOOT)
    assert tasks is not None
    assert {task.tid for task in tasks} == {60, 61}


def test_processes_that_are_each_others_parents_are_found_once() -> None:
    loop = (HostTask(80, "a", "0", parent=81, started=0), HostTask(81, "b", "0", parent=80, started=0))
    tasks = tasks_of(Owner("x", CPUS, pid=80, asked_at=5000.0), host_tasks(*loop), BOOT)
    assert tasks is not None
    assert {task.tid for task in tasks} == {80, 81}


def test_owners_with_the_same_processes_share_one_set() -> None:
    index = OwnerIndex(host_tasks(), BOOT)
    first, second = (index.processes_of(Owner(name, CPUS, cgroups=("machine.slice",))) for name in ("a", "b"))
    assert first is second


def test_two_thousand_owners_of_five_thousand_tasks_take_little_time() -> None:
    more = [HostTask(1000 + n, "vm", "2-3", cgroup=f"/machine.slice/vm-{n // 10}.scope") for n in range(5000)]
    tasks = host_tasks(*more)
    begin = time.process_time()
    index = OwnerIndex(tasks, BOOT)
    for number in range(2000):
        group = f"machine.slice/vm-{number % 500}.scope"
        assert len(index.processes_of(Owner(f"vm{number}", CPUS, cgroups=(group,))) or ()) == 10
    assert time.process_time() - begin < 0.5


def test_the_time_of_the_boot() -> None:
    host = IsolatedHost()
    assert booted_at(reading(host)) == NOW - 5000.0
    host.changed["proc/uptime"] = None
    assert booted_at(reading(host)) is None
