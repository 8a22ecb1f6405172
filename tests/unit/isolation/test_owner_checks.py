# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Owner checks: the findings, their words and remedies, and when a check cannot be made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, Owner, Terms
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.owner_checks import owner_checks
from tests.isolated_hosts import OWNERS, HostTask, IsolatedHost
from tests.unit.isolation.task_hosts import found, once, twice

CHECKS = ["B3", "E1", "E2", "E3"]
OVS_GROUP = "/system.slice/ovs-vswitchd.service"


def results(case: Case) -> dict[str, str]:
    return {finding.id: finding.result for finding in owner_checks(case)}


def test_a_good_host_passes() -> None:
    assert results(twice(IsolatedHost())) == dict.fromkeys(CHECKS, "pass")


def test_one_reading_is_enough_for_all_but_the_measured_one() -> None:
    assert results(once(IsolatedHost())) == {"B3": "pass", "E1": "pass", "E2": "pass", "E3": "not-checked"}
    assert found(once(IsolatedHost()), "E3").seen == "needs two readings: run it with --measure 5"


def test_without_claims_only_strangers_can_be_found() -> None:
    host = IsolatedHost()
    host.tasks = [task for task in host.tasks if task.tid not in (700, 701, 702, 710)]
    assert results(twice(host, ())) == {"B3": "pass"} | dict.fromkeys(CHECKS[1:], "not-checked")
    assert found(twice(host, ()), "E1").seen == "needs a claim of isolated CPUs"


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_says_what_it_needs(check: str) -> None:
    host = IsolatedHost()
    case = twice(host)
    unread = replace(case, now=replace(case.now, tasks=Unread("proc/2/stat", "denied")))
    assert found(unread, check).seen == "needs all tasks of the host: /proc/2/stat, which this process may not read"
    assert found(twice(host, None), check).seen.startswith("needs the daemon's claims: ")
    assert found(twice(host, terms=Terms(only=CpuSet.parse("0"))), check).seen == "needs an isolated CPU"


def test_a_stranger_is_named_with_the_command_that_moves_it() -> None:
    host = IsolatedHost()
    host.tasks.append(HostTask(900, "stress", "3", "R", "/user.slice/user-0.slice/session-4.scope"))
    finding = found(twice(host), "B3")
    assert finding.result == "fail"
    assert finding.seen == "stress (PID 900) works on CPU 3, which 'ovs' has claimed"
    assert finding.remedy == "sudo taskset -apc 0-1,4-5 900"


def test_a_stranger_that_is_a_service_is_limited_as_a_service() -> None:
    host = IsolatedHost()
    host.tasks.append(HostTask(900, "backup", "0-7", "R", "/system.slice/backup.service", cpu=7))
    finding = found(once(host), "B3")
    assert finding.seen == "backup (PID 900) works on CPU 7, which nobody has claimed"
    assert finding.remedy == "sudo systemctl set-property backup.service AllowedCPUs=0-1,4-5"


def test_many_strangers_are_counted_and_a_process_is_moved_once() -> None:
    host = IsolatedHost()
    host.tasks += [HostTask(900 + n, "x", "3", "R", pid=900) for n in range(5)]
    finding = found(once(host), "B3")
    assert finding.seen.endswith("; x (PID 900, TID 902) works on CPU 3, which 'ovs' has claimed and 2 more tasks")
    assert finding.remedy == "sudo taskset -apc 0-1,4-5 900"


def test_strangers_that_the_scheduler_moved_there_are_not_moved_one_by_one() -> None:
    host = IsolatedHost()
    host.changed["proc/schedstat"] = "".join(f"cpu{cpu} 0 0 0 0 0 0 1 2 3\ndomain0 ff 0 0\n" for cpu in range(8))
    host.tasks.append(HostTask(900, "stress", "0-7", "R", "/user.slice/x.scope", cpu=3))
    assert found(once(host), "B3").remedy == "take these CPUs from the scheduler first, as B1 says"


def test_the_owner_of_another_claim_is_a_stranger() -> None:
    host = IsolatedHost()
    host.tasks.append(HostTask(711, "lcore", "3", "R", "/system.slice/snap.dpdk-app.daemon.service", pid=710))
    assert found(once(host), "B3").result == "fail"


def test_an_unknown_owner_makes_no_check_fail() -> None:
    owners = (Owner("ovs", CpuSet.parse("2-3"), unit="jujud-machine-0.service"), OWNERS[1])
    host = IsolatedHost()
    assert results(twice(host, owners)) == {"B3": "warn"} | dict.fromkeys(CHECKS[1:], "not-checked")
    b3, e1 = found(twice(host, owners), "B3"), found(twice(host, owners), "E1")
    assert b3.seen == (
        "Tasks work on CPUs of 'ovs', and its owner is not known: pmd-c02 (PID 700, TID 701) on CPU 2, "
        "pmd-c03 (PID 700, TID 702) on CPU 3"
    )
    option = "set the option owner-cgroups to the control groups of 'ovs', such as ovs=machine.slice"
    assert b3.remedy == f"{option}, or move the tasks away"
    assert (e1.seen, e1.remedy) == ("needs the owner of 'ovs', which is not known", option)


def test_more_unknown_owners_are_named_together() -> None:
    owners = tuple(Owner(name, CpuSet.parse(cpus)) for name, cpus in (("a", "2"), ("b", "3")))
    b3, e1 = (found(twice(IsolatedHost(), owners), check) for check in ("B3", "E1"))
    assert b3.seen == (
        "Tasks work on CPUs of 'a', and its owner is not known: pmd-c02 (PID 700, TID 701) on CPU 2; "
        "Tasks work on CPUs of 'b', and its owner is not known: pmd-c03 (PID 700, TID 702) on CPU 3"
    )
    assert e1.seen == "needs the owners of 'a', 'b', which are not known"
    assert e1.remedy == "set the option owner-cgroups to the control groups of 'a', 'b', such as a=machine.slice"


def test_an_owner_without_a_running_task_cannot_be_judged() -> None:
    owners = (Owner("vm", CpuSet.parse("7"), cgroups=("machine.slice",)),)
    host = IsolatedHost()
    host.tasks = [task for task in host.tasks if task.tid not in (700, 701, 702)]
    assert results(twice(host, owners)) == {"B3": "pass"} | dict.fromkeys(CHECKS[1:], "not-checked")
    assert found(twice(host, owners), "E1").seen == "needs a task of an owner"


# --- E1 ---


def test_an_owner_none_of_whose_threads_is_limited_to_the_claim() -> None:
    host = IsolatedHost()
    host.task(710).allowed = "0-7"
    finding = found(once(host), "E1")
    assert (finding.result, finding.seen) == ("warn", "No thread of 'dpdk' is limited to its CPU 6")
    assert finding.remedy == "limit the working threads of 'dpdk' to them, for example: sudo taskset -pc 6 710"


def test_a_thread_that_works_outside_and_may_work_on_the_claim() -> None:
    host = IsolatedHost()
    host.tasks.append(HostTask(703, "pmd-c01", "1-2", "R", OVS_GROUP, 700, cpu=1))
    finding = found(once(host), "E1")
    assert finding.result == "warn"
    assert finding.seen == "pmd-c01 (PID 700, TID 703) works on CPU 1, outside CPUs 2-3 of 'ovs', where it may run too"
    assert finding.remedy == "sudo taskset -pc 2-3 703"


def test_control_threads_belong_outside() -> None:
    host = IsolatedHost()
    host.tasks.append(HostTask(703, "handler", "0-1", "R", OVS_GROUP, 700))
    assert found(twice(host), "E1").result == "pass"


# --- E2 ---


def stacked_host() -> IsolatedHost:
    host = IsolatedHost()
    for tid in (701, 702):
        task = host.task(tid)
        task.allowed, task.cpu, task.share = "2-3", 2, 0.5
    return host


def test_stacked_threads_are_named_with_the_idle_cpu() -> None:
    finding = found(twice(stacked_host()), "E2")
    assert finding.result == "fail"
    threads = "pmd-c02 (PID 700, TID 701), pmd-c03 (PID 700, TID 702)"
    assert finding.seen == f"2 threads of 'ovs' share CPU 2 ({threads}) while CPU 3 of its claim idles"
    assert finding.remedy == "pin each thread to a CPU of its own: sudo taskset -pc 3 702"


def test_an_unknown_owner_is_named_with_another_ones_fault() -> None:
    owners = (OWNERS[0], Owner("x", CpuSet.parse("7")))
    finding = found(twice(stacked_host(), owners), "E2")
    assert finding.result == "fail"
    assert finding.seen.endswith("; the owner of 'x' is not known")


# --- E3 ---


def test_waiting_for_a_stranger() -> None:
    host = IsolatedHost()
    host.task(701).share = 0.5
    host.tasks.append(HostTask(900, "stress", "2", "R", "/user.slice/x.scope", share=0.5))
    finding = found(twice(host, between=lambda: setattr(host.task(701), "involuntary", 1000)), "E3")
    assert finding.result == "warn"
    assert finding.seen == (
        "pmd-c02 (PID 700, TID 701) of 'ovs' on CPU 2 was interrupted by other tasks 100 times a second and waited 50%"
        " of the time"
    )
    assert finding.remedy == "move the strangers away, as B3 says"


def test_waiting_for_an_own_thread() -> None:
    finding = found(twice(stacked_host()), "E3")
    assert "interrupted" not in finding.seen
    assert finding.remedy == "pin each thread to a CPU of its own, as E2 says"


def test_switches_without_a_culprit() -> None:
    host = IsolatedHost()
    finding = found(twice(host, between=lambda: setattr(host.task(701), "involuntary", 200)), "E3")
    assert finding.result == "warn"
    assert finding.remedy == "give each working thread of 'ovs' a CPU of its own, and see what B4, B5 and D2 say"


def test_a_few_switches_are_no_harm() -> None:
    host = IsolatedHost()
    assert found(twice(host, between=lambda: setattr(host.task(701), "involuntary", 100)), "E3").result == "pass"


def test_a_task_that_starts_up_may_wait() -> None:
    host = IsolatedHost()
    host.task(701).started, host.task(701).share = 500_100, 0.5
    assert found(twice(host), "E3").result == "pass"


def test_owners_that_are_all_starting_up_cannot_be_measured() -> None:
    host = IsolatedHost()
    for tid in (700, 701, 702, 710):
        host.task(tid).started = 500_100
    seen = "needs a task of an owner that is older than 10 s and ran on the claimed CPUs"
    assert found(twice(host), "E3").seen == seen


def test_what_a_control_thread_outside_waits_for_does_not_count() -> None:
    host = IsolatedHost()
    host.tasks.append(HostTask(703, "handler", "0", "R", OVS_GROUP, 700, share=0.1))
    assert found(twice(host), "E3").result == "pass"
