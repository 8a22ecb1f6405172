# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Devices: the NUMA node of a PCI device or a network interface, and an error that says why it is unknown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from epa_orchestrator.hardware.devices import DeviceError, devices_like, node_of_device
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsTree
from tools.synthetic import Shape, build

TWO_NODES = Shape(packages=2, cores_per_l3=2)
ONE_NODE = Shape(cores_per_l3=2)
WITH_MEMORY_NODES = Shape(cores_per_l3=2, memory_only_nodes=2)

DEVICES = {
    "bus/pci/devices/0000:3b:00.0/numa_node": "1",
    "bus/pci/devices/0000:3b:00.7/numa_node": "0",
    "bus/pci/devices/0000:00:1f.6/numa_node": "-1",
    "bus/pci/devices/10000:e1:00.0/numa_node": "0",
    "bus/pci/devices/0000:af:00.0/numa_node": "7",
    "bus/pci/devices/0000:d8:00.0/numa_node": "none",
    "class/net/eth0/device/numa_node": "1",
    "class/net/eth0/operstate": "up",
    "class/net/eno1/device/numa_node": "-1",
    "class/net/virtual0/device/../numa_node": "1",  # on a virtio bus of the PCI device above it
    "class/net/lo/operstate": "unknown",
    "class/net/bond0.7/operstate": "up",
}


def node(name: str, shape: Shape = TWO_NODES) -> int:
    sysfs = RecordedSysfs(build(shape) | DEVICES)
    return node_of_device(sysfs, read_machine(sysfs), name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0000:3b:00.0", 1),
        ("3b:00.0", 1),  # the domain may be left out
        ("3b:00.7", 0),
        ("0000:3B:00.0", 1),  # as some tools print it
        ("3B:00.0", 1),
        ("10000:e1:00.0", 0),  # behind a volume management device
        ("10000:E1:00.0", 0),
        ("eth0", 1),
        ("virtual0", 1),
    ],
)
def test_node_of_a_device(name: str, expected: int) -> None:
    assert node(name) == expected


@pytest.mark.parametrize("shape", [ONE_NODE, WITH_MEMORY_NODES], ids=["one node", "one node with CPUs"])
@pytest.mark.parametrize("name", ["0000:00:1f.6", "00:1f.6", "eno1", "3b:00.0", "d8:00.0", "lo"])
def test_where_one_node_has_cpus_there_is_no_doubt(name: str, shape: Shape) -> None:
    """Firmware of machines with one node says -1; 3b:00.0 names a node that has no CPUs here, or is not there."""
    memory_only = name == "3b:00.0" and shape is WITH_MEMORY_NODES
    assert node(name, shape) == (1 if memory_only else 0)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("00:1f.6", r"near=00:1f\.6: the kernel does not know its NUMA node \(it reports -1\): name the node instead"),
        ("eno1", r"near=eno1: the kernel does not know its NUMA node \(it reports -1\): name the node instead"),
        ("af:00.0", r"near=af:00\.0: the kernel does not know its NUMA node \(it reports 7\)"),
        ("d8:00.0", r"near=d8:00\.0: the kernel does not know its NUMA node \(it reports none\)"),
        ("3c:00.0", r"near=3c:00\.0: this machine shows no PCI device 0000:3c:00\.0"),
        ("0001:3b:00.0", r"near=0001:3b:00\.0: this machine shows no PCI device 0001:3b:00\.0"),
        ("0000:3C:00.0", r"near=0000:3C:00\.0: this machine shows no PCI device 0000:3c:00\.0"),
        ("lo", "near=lo: the network interface is not a device itself: name the physical one below it"),
        ("bond0.7", r"near=bond0\.7: the network interface is not a device itself: name the physical one below it"),
        ("eth1", "near=eth1: the network interface does not exist"),
        ("3b:00.8", r"near=3b:00\.8: the network interface does not exist"),  # no function 8: not a PCI address
        ("000:3b:00.0", r"near=000:3b:00\.0: the network interface does not exist"),
    ],
)
def test_refuses_a_device_without_a_node(name: str, sentence: str) -> None:
    with pytest.raises(DeviceError, match=f"^{sentence}"):
        node(name)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("eth1", "; this host has eno1, eth0, virtual0; did you mean 'eth0'?"),
        ("ETH0", "; this host has eno1, eth0, virtual0; did you mean 'eth0'?"),
        ("xyz", "; this host has eno1, eth0, virtual0"),  # none is similar
        ("0000:3b:00.1", "0000:3b:00.0, 0000:3b:00.7, 0000:af:00.0, 0000:d8:00.0, 10000:e1:00.0; did you mean"),
        ("3b:00.1", "; did you mean '0000:3b:00.0'?"),  # the domain may be left out
        ("eth0", ""),
        ("bond0.7", ""),  # there, but without a device
        ("3B:00.0", ""),
    ],
)
def test_devices_like_a_missing_one(name: str, remedy: str) -> None:
    found = devices_like(RecordedSysfs(build(TWO_NODES) | DEVICES), name)
    assert remedy in found
    assert bool(found) == bool(remedy)


def test_of_many_devices_those_that_begin_like_it_are_named() -> None:
    addresses = [f"0000:{bus:02x}:00.{function}" for bus in range(64) for function in range(8)]
    many = {f"bus/pci/devices/{address}/numa_node": "0" for address in addresses}
    assert devices_like(RecordedSysfs(many), "0000:1f:01.0") == (
        "; this host has, among others, 0000:1f:00.0, 0000:1f:00.1, 0000:1f:00.2, 0000:1f:00.3, 0000:1f:00.4,"
        " 0000:1f:00.5, 0000:1f:00.6, 0000:1f:00.7; did you mean '0000:1f:00.0'?"
    )


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("3b:00.0", "; this host shows no PCI devices"), ("eth0", "; this host shows no network interface of a device")],
)
def test_host_without_devices_says_so(name: str, remedy: str) -> None:
    assert devices_like(RecordedSysfs({}), name) == remedy


def test_snap_that_may_not_see_devices_names_its_plug() -> None:
    hidden = RecordedSysfs({}, hidden=["class/net"])
    assert devices_like(hidden, "eth1") == "; in a snap, run: sudo snap connect epa-orchestrator:topology"


def test_names_that_no_request_can_have_are_left_out() -> None:
    strange = {f"class/net/{name}/device/numa_node": "0" for name in ("eth\x1b[2J", "eth\udc80", "eth0")}
    assert devices_like(RecordedSysfs(strange), "eth1") == "; this host has eth0; did you mean 'eth0'?"


def test_thousands_of_taps_hide_no_device_and_take_no_time(tmp_path: Path) -> None:
    for number in range(2000):
        for directory in ("class/net", "devices/virtual/net"):
            (tmp_path / directory / f"tap{number:08x}").mkdir(parents=True)
    (tmp_path / "class/net/ens3/device").mkdir(parents=True)
    sysfs = SysfsTree(tmp_path)
    devices_like(sysfs, "tap9")  # imports what compares names
    begin = time.thread_time()
    assert devices_like(sysfs, "tap9") == "; this host has ens3"
    assert time.thread_time() - begin < 0.05, "2 ms on an idle machine"
