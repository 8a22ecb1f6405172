# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Devices: the NUMA node that a PCI device or a network interface is attached to, read from sysfs."""

from __future__ import annotations

import re
from typing import Final

from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import Sysfs

#: Domain (0000 if left out), bus, device and function, as lspci prints them.
_PCI_ADDRESS: Final = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE | re.ASCII)

#: How many directories are searched: that of an interface's device, and those above it.
_MOST_BUSES: Final = 3


class DeviceError(EpaError):
    """The NUMA node of a device cannot be found; the message says why and what to do."""


def node_of_device(sysfs: Sysfs, machine: Machine, name: str) -> int:
    """The id of the NUMA node of a PCI device or a network interface.

    Source: `numa_node` in Documentation/ABI/testing/sysfs-bus-pci of the Linux kernel. -1 there means that the firmware
    does not report the node; on a machine where only one node has CPUs, it is that node.

    Raises DeviceError.
    """
    text = _numa_node(sysfs, name)
    if text is not None and text.isdecimal() and len(text) < 10 and machine.node(int(text)) is not None:
        return int(text)
    with_cpus = [node.id for node in machine.nodes if node.cpus]
    if len(with_cpus) == 1:
        return with_cpus[0]
    if text is None:
        raise DeviceError(f"near={name}: the network interface is not a device itself: name the physical one below it")
    raise DeviceError(f"near={name}: the kernel does not know its NUMA node (it reports {text}): name the node instead")


def _numa_node(sysfs: Sysfs, name: str) -> str | None:
    """The kernel's text for a device's NUMA node, None for a network interface without a device, such as a bridge.

    An interface of a virtual machine may be on a bus (virtio) of a PCI device, which then has the file.

    Raises DeviceError when the device does not exist.
    """
    if (match := _PCI_ADDRESS.fullmatch(name)) is not None:
        address = f"{match[1] or '0000'}:{match[2]}".lower()
        text = sysfs.read(f"bus/pci/devices/{address}/numa_node")
        if text is None:
            raise DeviceError(f"near={name}: this machine shows no PCI device {address}")
        return text
    if not sysfs.names(f"class/net/{name}"):
        raise DeviceError(f"near={name}: the network interface does not exist")
    paths = (f"class/net/{name}/device{'/..' * up}/numa_node" for up in range(_MOST_BUSES))
    return next((text for path in paths if (text := sysfs.read(path)) is not None), None)
