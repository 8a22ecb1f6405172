# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claim troubles: strangers, tasks outside, stacked tasks, and everything that looks like one and is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, Owner, Terms
from epa_orchestrator.isolation.claim_troubles import JudgedClaim, Ownership
from epa_orchestrator.isolation.host_files import Unread
from tests.isolated_hosts import OWNERS, HostTask, IsolatedHost
from tests.unit.isolation.task_hosts import once, twice

OVS_GROUP = "/system.slice/ovs-vswitchd.service"

Change = Callable[[IsolatedHost], object]


def added(*tasks: HostTask) -> Change:
    return lambda host: host.tasks.extend(tasks)


def judged(case: Case) -> dict[str, JudgedClaim]:
    return {claim.owner.service: claim for claim in Ownership(case).claims}


def tids(troubles: JudgedClaim) -> dict[str, list[int]]:
    kinds = {"strangers": troubles.strangers, "outside": troubles.outside, "stacked": troubles.stacked}
    return {kind: [task.tid for task in tasks] for kind, tasks in kinds.items() if tasks}


def busy(tid: int, cpus: str, cgroup: str = "/user.slice/x.scope", cpu: int = -1, share: float = 1.0) -> HostTask:
    return HostTask(tid, "busy", cpus, "R", cgroup, cpu=cpu, share=share)


def owners_thread(tid: int, cpus: str, cpu: int = -1, share: float = 1.0) -> HostTask:
    thread = busy(tid, cpus, OVS_GROUP, cpu, share)
    thread.pid = 700
    return thread


def run_a_kernel_thread(host: IsolatedHost) -> None:
    """The one of CPU 2 for interrupts' later work."""
    host.task(10_022).state = "R"


def add_an_unplaced_thread(host: IsolatedHost) -> None:
    """PID 1 may run anywhere, and the owner's new thread inherited that."""
    host.task(1).allowed = "0-7"
    host.tasks.append(owners_thread(703, "0-7", 1))


def let_one_pmd_share(host: IsolatedHost) -> None:
    """The thread of CPU 3 works on CPU 2 too, so CPU 3 idles."""
    host.task(701).share = host.task(702).share = 0.5
    host.task(702).cpu = 2
    host.task(702).allowed = "2-3"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (added(), {}),
        # Strangers.
        (added(busy(900, "3")), {"strangers": [900]}),
        (added(busy(900, "0-7", cpu=3)), {"strangers": [900]}),
        (added(busy(900, "0-7", cpu=0)), {}),
        (added(HostTask(900, "sleeps", "0-7", cpu=3, ticks=50_000)), {}),
        # The task may not run there any more: the CPU is where it ran last.
        (added(busy(900, "0-1", cpu=3)), {}),
        (added(busy(900, "6")), {}),
        # Threads of the kernel on each CPU.
        (run_a_kernel_thread, {}),
        # The owner's own threads outside.
        (added(owners_thread(703, "1-2", cpu=1)), {"outside": [703]}),
        (added(owners_thread(703, "0-1", cpu=1)), {}),
        (added(HostTask(703, "control", "0-3", cgroup=OVS_GROUP, pid=700, cpu=1)), {}),
        # Nobody placed a thread with the CPUs of PID 1.
        (add_an_unplaced_thread, {}),
        # Stacked threads.
        (let_one_pmd_share, {"stacked": [701, 702]}),
        # A control thread that hardly runs is not stacked on the one that works.
        (added(HostTask(703, "revalidator", "2-3", cgroup=OVS_GROUP, pid=700, cpu=2)), {}),
        # Three threads on two CPUs share one of them, and none idles.
        (added(owners_thread(703, "2", share=0.5)), {}),
    ],
)
@pytest.mark.parametrize("readings", [once, twice])
def test_the_troubles_of_a_claim(
    change: Change, expected: dict[str, list[int]], readings: Callable[[IsolatedHost], Case]
) -> None:
    host = IsolatedHost()
    change(host)
    troubles = judged(readings(host))
    assert tids(troubles["ovs"]) == expected
    assert troubles["ovs"].processes is not None


def test_a_single_thread_is_not_stacked() -> None:
    host = IsolatedHost()
    host.tasks.remove(host.task(702))
    host.task(701).share = 0.5
    assert tids(judged(twice(host))["ovs"]) == {}


def test_threads_that_share_a_cpu_and_never_wait_are_not_stacked() -> None:
    host = IsolatedHost()
    let_one_pmd_share(host)
    host.task(701).share = host.task(702).share = 0.3
    case = twice(host)
    earlier, now = case.earlier, case.now
    assert earlier is not None
    assert not isinstance(now.tasks, Unread)
    patient = replace(now, tasks=tuple(replace(task, waited_ns=0) for task in now.tasks))
    assert tids(judged(replace(case, now=patient))["ovs"]) == {}


def test_without_a_known_owner_those_at_work_may_be_the_owners() -> None:
    owner = Owner("ovs", CpuSet.parse("2-3"), unit="gone.service")
    troubles = judged(once(IsolatedHost(), (owner,)))["ovs"]
    assert troubles.processes is None
    assert tids(troubles) == {"strangers": [701, 702]}


def test_virtual_machines_under_one_slice_own_their_claims_together() -> None:
    """Each virtual machine keeps to its own claim, which is outside the others'."""
    host = IsolatedHost()
    host.tasks = [task for task in host.tasks if task.tid not in (700, 701, 702, 710)]
    for tid, cpu in ((800, "2"), (810, "3")):
        group = f"/machine.slice/machine-qemu-{tid}.scope/libvirt/emulator"
        host.tasks += [HostTask(tid, "qemu", "0-1", cgroup=group), HostTask(tid + 1, "CPU 0/KVM", cpu, "R", group, tid)]
    owners = tuple(
        Owner(f"vm{cpu}", CpuSet.parse(cpu), snap="openstack-hypervisor", cgroups=("machine.slice",)) for cpu in "23"
    )
    troubles = judged(twice(host, owners))
    assert {service: tids(each) for service, each in troubles.items()} == {"vm2": {}, "vm3": {}}


def test_only_claims_of_isolated_cpus_are_judged() -> None:
    host = IsolatedHost()
    general = Owner("web", CpuSet.parse("0-1"), "general", unit="web.service")
    assert judged(once(host, (*OWNERS, general))).keys() == {"ovs", "dpdk"}
    assert judged(once(host, terms=Terms(only=CpuSet.parse("6")))).keys() == {"dpdk"}
    assert judged(once(host, None)) == {}
    assert judged(once(host, ())) == {}
