# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scheduler facts: the formats of /proc/schedstat, and what a container shows."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.partitions import Partition
from epa_orchestrator.isolation.scheduler_facts import SchedulerFacts, read_scheduler_facts
from tests.isolated_hosts import HostTask, IsolatedHost, task_files

CPU = "0 0 0 0 0 0 {ran} {waited} 1491"


def facts(files: dict[str, str]) -> SchedulerFacts:
    return read_scheduler_facts(RecordedHost(files))


def schedstat(version: int, domain: str) -> str:
    lines = [f"version {version}", "timestamp 4294896665"]
    for cpu in range(4):
        lines.append(f"cpu{cpu} " + CPU.format(ran=100 + cpu, waited=200 + cpu))
        lines += [domain, domain.replace("domain0", "domain1")] if cpu < 2 else []
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("version", "domain"),
    [(15, "domain0 3" + " 0" * 36), (16, "domain0 3" + " 0" * 36), (17, "domain0 MC 3" + " 0" * 45)],
)
def test_the_formats_of_schedstat(version: int, domain: str) -> None:
    found = facts({"proc/schedstat": schedstat(version, domain)})
    assert found.balanced == CpuSet.parse("0-1")
    assert found.waited_ns == {0: 200, 1: 201, 2: 202, 3: 203}


@pytest.mark.parametrize(
    "text", ["", "rubbish\n", "version 16\n", "domain0 3 0\n", "cpu0 1 2\ncpux\n", "cpu99999 " + CPU]
)
def test_a_schedstat_without_cpus_is_unread(text: str) -> None:
    found = facts({"proc/schedstat": text})
    assert (found.balanced, found.waited_ns) == (Unread("proc/schedstat"), Unread("proc/schedstat"))


def test_a_domain_after_a_line_that_was_cut_belongs_to_no_cpu() -> None:
    text = "cpu0 " + CPU.format(ran=1, waited=2) + "\ncpu1 0 0\ndomain0 3 0\n"
    assert facts({"proc/schedstat": text}).balanced == CpuSet()


def test_a_host_without_any_of_these_files() -> None:
    found = facts({})
    assert found == SchedulerFacts(
        balanced=Unread("proc/schedstat"),
        waited_ns=Unread("proc/schedstat"),
        init_allowed=Unread("proc/1/status"),
        container=False,
        workqueues=Unread("sys/devices/virtual/workqueue/cpumask"),
        partitions=Unread("sys/fs/cgroup/cgroup.subtree_control"),
        machine=Unread("sys/devices/system/cpu"),
    )


def test_a_good_host() -> None:
    host = IsolatedHost()
    host.changed["sys/fs/cgroup/user.slice/cpuset.cpus.partition"] = "isolated\n"
    found = facts(host.files())
    housekeeping = CpuSet.parse("0-1,4-5")
    assert (found.balanced, found.init_allowed, found.workqueues) == (housekeeping, housekeeping, housekeeping)
    assert found.partitions == (Partition("user.slice", "isolated", CpuSet.parse("0-7")),)
    assert not found.container


@pytest.mark.parametrize(
    "files",
    [
        {"run/systemd/container": "lxc\n"},
        {".dockerenv": ""},
        {"run/.containerenv": ""},
        {"proc/1/cgroup": "0::/docker/0a1b2c\n"},
        {"proc/1/cgroup": "0::/lxc.payload.c1/init.scope\n"},
        {"proc/1/cgroup": "0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-1.scope\n"},
        {"proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"},
        {"proc/1/cgroup": "0::/machine.slice/libpod-1.scope\n"},
        task_files(HostTask(2, "sh", "0-1")),
    ],
)
def test_signs_of_a_container(files: dict[str, str]) -> None:
    assert facts(IsolatedHost().files() | files).container


@pytest.mark.parametrize("group", ["0::/init.scope\n", "0::/\n", ""])
def test_a_host_is_no_container(group: str) -> None:
    assert not facts(IsolatedHost().files() | {"proc/1/cgroup": group}).container


def test_the_environment_of_pid_1_is_not_read() -> None:
    """It may hold secrets, and everything that is read is kept in recordings."""
    host = RecordedHost(IsolatedHost().files() | {"proc/1/environ": "container=lxc\0PASSWORD=x\0"})
    assert not read_scheduler_facts(host).container
