# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scheduler checks: what each of them finds on a host on which one thing is wrong, and what is no fault."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Terms
from epa_orchestrator.isolation.scheduler_checks import scheduler_checks
from tests.isolated_hosts import IsolatedHost, kernel_thread
from tests.unit.isolation.task_hosts import found, once, twice
from tools.synthetic import Shape

CHECKS = ["B1", "B2", "B4", "B5", "B6", "B7"]
WORKQUEUES = "sys/devices/virtual/workqueue/cpumask"
PARTITION = "sys/fs/cgroup/user.slice/cpuset.cpus.partition"


def test_a_good_host_passes() -> None:
    for case in (once(IsolatedHost()), twice(IsolatedHost())):
        assert {each.id: each.result for each in scheduler_checks(case)} == dict.fromkeys(CHECKS, "pass")


def test_without_an_isolated_cpu_nothing_is_checked() -> None:
    case = once(IsolatedHost(), terms=Terms(only=CpuSet.parse("0")))
    assert [each.id for each in scheduler_checks(case)] == CHECKS
    assert {each.result for each in scheduler_checks(case)} == {"not-checked"}


@pytest.mark.parametrize(
    ("check", "path"),
    [
        ("B1", "proc/schedstat"),
        ("B2", "proc/1/status"),
        ("B5", WORKQUEUES),
    ],
)
def test_a_file_that_is_not_there_is_named(check: str, path: str) -> None:
    host = IsolatedHost()
    host.changed[path] = None
    finding = found(once(host), check)
    assert (finding.result, finding.seen) == ("not-checked", f"needs /{path}, which is not there")


def test_what_a_process_in_a_container_does_not_see() -> None:
    host = IsolatedHost()
    host.changed |= {path: None for path in host.files() if re.match("proc/([2-9]|[0-9]{2,})/|sys/fs/cgroup/", path)}
    host.changed["run/systemd/container"] = "lxc\n"
    host.task(1).allowed = "0-7"
    case = once(host)
    assert {each.id: each.result for each in scheduler_checks(case)} == {
        **dict.fromkeys(("B2", "B4", "B6"), "not-checked"),
        **dict.fromkeys(("B1", "B5", "B7"), "pass"),
    }
    assert found(case, "B2").seen == "needs PID 1 of the host: this is a container"
    assert found(case, "B4").seen == "needs all tasks of the host: /proc/2/stat, which is not there"


def test_a_cpu_that_the_scheduler_balances() -> None:
    host = IsolatedHost()
    rows = host.files()["proc/schedstat"].splitlines()
    place = next(place for place, row in enumerate(rows) if row.startswith("cpu3 "))
    host.changed["proc/schedstat"] = "\n".join([*rows[: place + 1], "domain0 f" + " 0" * 36, *rows[place + 1 :]])
    finding = found(once(host), "B1")
    assert (finding.result, finding.seen) == ("fail", "The scheduler balances CPU 3")
    assert finding.remedy.startswith("set isolcpus=domain,managed_irq,2-3,6-7 on the kernel line, then reboot;")


def test_pid_1_on_isolated_cpus() -> None:
    host = IsolatedHost()
    host.task(1).allowed = "0-7"
    finding = found(once(host), "B2")
    assert finding.result == "fail"
    assert finding.seen == "PID 1 and the services that it starts may run on CPUs 2-3,6-7"
    assert finding.remedy == "set CPUAffinity=0-1,4-5 in /etc/systemd/system.conf, then reboot"


# --- kernel threads ---


@pytest.mark.parametrize(
    ("name", "allowed", "bound", "result"),
    [
        ("kdevtmpfs", "0-7", False, "warn"),
        ("kdevtmpfs", "0-2", False, "warn"),
        ("kdevtmpfs", "0-1,4-5", False, "pass"),
        ("kworker/u16:0", "0-7", True, "pass"),
        ("migration/3", "3", True, "pass"),
        # Bound to the CPUs of their node, to an interrupt, to a virtual machine, or judged as RCU's.
        ("kswapd0", "0-3", False, "pass"),
        ("kcompactd1", "4-7", False, "pass"),
        ("irq/33-eth0-TxRx-3", "2-3", False, "pass"),
        ("vhost-4242", "2-3", False, "pass"),
        ("kvm-nx-lpage-recovery-4242", "0-7", False, "pass"),
        ("rcuop/3", "0-7", False, "pass"),
        ("rcuog/2", "0-7", False, "pass"),
        ("some/3", "3", False, "pass"),
        ("kswapd", "0-7", False, "warn"),
    ],
)
def test_kernel_threads(name: str, allowed: str, bound: bool, result: str) -> None:
    host = IsolatedHost()
    host.tasks.append(kernel_thread(90, name, allowed, bound))
    assert found(once(host), "B4").result == result


def test_a_user_task_is_no_kernel_thread() -> None:
    host = IsolatedHost()
    host.task(601).name = "kdevtmpfs"
    assert found(once(host), "B4").result == "pass"


def test_movable_kernel_threads_are_named_with_two_remedies() -> None:
    host = IsolatedHost()
    host.tasks += [kernel_thread(tid, "ksmd", "0-7", bound=False) for tid in range(90, 95)]
    host.changed["sys/devices/system/cpu/nohz_full"] = "(null)\n"
    finding = found(once(host), "B4")
    names = "ksmd (PID 90), ksmd (PID 91), ksmd (PID 92) and 2 more threads"
    assert finding.seen == f"5 kernel threads may run on CPUs 2-3,6-7: {names}"
    assert finding.remedy.endswith("; until then: sudo taskset -pc 0-1,4-5 90, and the same for the others")


def test_a_kernel_thread_that_nohz_full_did_not_keep_away_has_to_be_moved() -> None:
    host = IsolatedHost()
    host.tasks.append(kernel_thread(90, "rcu_preempt", "0-7", bound=False))
    assert found(once(host), "B4").remedy == "sudo taskset -pc 0-1,4-5 90"


def test_without_nohz_full_on_purpose_only_threads_at_work_there_count() -> None:
    host = IsolatedHost()
    terms = Terms(nohz_full="none")
    thread = kernel_thread(90, "ksmd", "0-7", bound=False)
    host.tasks.append(thread)
    assert found(twice(host, terms=terms), "B4").result == "pass"
    thread.cpu, thread.state = 3, "R"
    finding = found(twice(host, terms=terms), "B4")
    assert (finding.result, finding.seen) == ("warn", "1 kernel thread works on CPUs 2-3,6-7: ksmd (PID 90)")


# --- workqueues ---


@pytest.mark.parametrize(
    ("mask", "result", "seen"),
    [
        ("33", "pass", "Unbound workqueues run on CPUs 0-1,4-5"),
        ("ff", "warn", "Unbound workqueues may run on CPUs 2-3,6-7"),
        ("3b", "warn", "Unbound workqueues may run on CPU 3"),
    ],
)
def test_workqueues(mask: str, result: str, seen: str) -> None:
    host = IsolatedHost()
    host.changed[WORKQUEUES] = f"{mask}\n"
    finding = found(once(host), "B5")
    assert (finding.result, finding.seen) == (result, seen)
    if result == "warn":
        assert finding.remedy == f"echo 33 | sudo tee /{WORKQUEUES}"


def test_a_workqueue_with_a_wide_mask_of_its_own_is_no_fault() -> None:
    """Linux 6.12 shows all CPUs there on a good host, and takes only those that are in the mask for all workqueues."""
    host = IsolatedHost()
    host.changed["sys/devices/virtual/workqueue/writeback/cpumask"] = "ff\n"
    assert found(once(host), "B5").result == "pass"


# --- partitions ---


@pytest.mark.parametrize(
    ("state", "result", "seen"),
    [
        ("member", "pass", "There is no cpuset partition, so none is invalid"),
        ("isolated", "pass", "1 cpuset partition, none invalid"),
        (
            "isolated invalid (Parent is not a partition root)",
            "fail",
            "user.slice is invalid: Parent is not a partition root",
        ),
    ],
)
def test_partitions(state: str, result: str, seen: str) -> None:
    host = IsolatedHost()
    host.changed[PARTITION] = f"{state}\n"
    finding = found(once(host), "B6")
    assert (finding.result, finding.seen) == (result, seen)


def test_an_invalid_partition_is_found_without_an_isolated_cpu() -> None:
    """It is why no CPU is isolated."""
    host = IsolatedHost()
    host.changed[PARTITION] = "isolated invalid (No cpu available due to hotplug)\n"
    assert found(once(host, terms=Terms(only=CpuSet.parse("0"))), "B6").result == "fail"


# --- cores and nodes ---


def isolating(cpus: str, shape: Shape | None = None) -> IsolatedHost:
    host = IsolatedHost() if shape is None else IsolatedHost(shape)
    host.changed["sys/devices/system/cpu/isolated"] = f"{cpus}\n"
    return host


NO_SMT = Shape(nodes_per_package=2, cores_per_l3=4, threads_per_core=1)


@pytest.mark.parametrize(
    ("host", "seen", "remedy"),
    [
        (lambda: isolating("2-3,6-7"), "", ""),
        (lambda: isolating("3"), "Only a part of 1 core is isolated: CPUs 2-3", "isolate whole cores: 2-3"),
        (
            lambda: isolating("1,3"),
            "Only a part of 2 cores is isolated: CPUs 0-1, CPUs 2-3",
            "isolate whole cores: 2-3",
        ),
        # The kernel needs a core, so the split one stays with it.
        (
            lambda: isolating("1-7"),
            "Only a part of 1 core is isolated: CPUs 0-1; All CPUs of NUMA node 1 are isolated",
            "isolate whole cores: 2-7; leave a core of NUMA node 1 to the kernel",
        ),
        (lambda: isolating("2-7"), "All CPUs of NUMA node 1 are isolated", "leave a core of NUMA node 1 to the kernel"),
        # Without SMT, each CPU is a core.
        (lambda: isolating("1,3,5", NO_SMT), "", ""),
    ],
)
def test_cores_and_nodes(host: Callable[[], IsolatedHost], seen: str, remedy: str) -> None:
    finding = found(once(host()), "B7")
    assert (finding.result, finding.remedy.startswith(remedy)) == ("warn" if seen else "pass", True)
    assert finding.seen == (seen or "Only whole cores are isolated, and each NUMA node has another CPU")


def test_a_host_whose_cores_are_not_known() -> None:
    host = IsolatedHost()
    host.changed["sys/devices/system/cpu/present"] = "rubbish\n"
    assert found(once(host), "B7").result == "not-checked"
