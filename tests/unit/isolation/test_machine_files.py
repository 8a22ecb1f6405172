# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Machine files: cores and NUMA nodes of a host come from the same files that every reading keeps."""

from __future__ import annotations

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import SysfsTree
from epa_orchestrator.isolation.host_files import HostTree, RecordedHost, Unread
from epa_orchestrator.isolation.machine_files import read_host_machine
from tests.isolated_hosts import IsolatedHost

CPU_DIR = "sys/devices/system/cpu"


def test_this_host_is_what_discovery_says() -> None:
    assert read_host_machine(HostTree()) == read_machine(SysfsTree("/sys"))


def test_a_recorded_host_has_its_cores_and_nodes() -> None:
    machine = read_host_machine(RecordedHost(IsolatedHost().files()))
    assert not isinstance(machine, Unread)
    assert [str(core.cpus) for core in machine.cores] == ["0-1", "2-3", "4-5", "6-7"]
    assert [str(node.cpus) for node in machine.nodes] == ["0-3", "4-7"]
    assert machine.isolated == CpuSet.parse("2-3,6-7")


def test_a_host_whose_cpus_cannot_be_read_has_no_machine() -> None:
    assert read_host_machine(RecordedHost({})) == Unread(CPU_DIR)
    assert read_host_machine(RecordedHost({}, [CPU_DIR, f"{CPU_DIR}/online", f"{CPU_DIR}/present"])) == Unread(CPU_DIR)
    assert read_host_machine(RecordedHost({f"{CPU_DIR}/online": "rubbish\n"})) == Unread(CPU_DIR)


def test_a_host_whose_cores_were_not_copied_has_no_machine() -> None:
    lists = {f"{CPU_DIR}/online": "0-3\n", f"{CPU_DIR}/present": "0-3\n", f"{CPU_DIR}/isolated": "2-3\n"}
    assert read_host_machine(RecordedHost(lists)) == Unread(f"{CPU_DIR}/cpu0/topology")
    one_is_enough = {**lists, f"{CPU_DIR}/cpu0/topology/core_cpus": "1\n"}
    assert not isinstance(read_host_machine(RecordedHost(one_is_enough)), Unread)


def test_a_kernel_with_one_cpu_has_a_machine_without_topology() -> None:
    lists = {f"{CPU_DIR}/online": "0\n", f"{CPU_DIR}/present": "0\n"}
    assert not isinstance(read_host_machine(RecordedHost({**lists, f"{CPU_DIR}/isolated": "\n"})), Unread)
