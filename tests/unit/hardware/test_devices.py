# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Devices: the NUMA node of a PCI device or a network interface, and an error that says why it is unknown."""

from __future__ import annotations

import pytest

from epa_orchestrator.hardware.devices import DeviceError, node_of_device
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs
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
