"""Devices: the NUMA node that a PCI device or a network interface is attached to, read from sysfs."""

from __future__ import annotations

import re
from typing import Final

from epa_orchestrator.errors import EpaError
from epa_orchestrator.machine import Machine
from epa_orchestrator.sysfs import Sysfs

#: Domain (0000 if left out), bus, device and function, as lspci prints them.
_PCI_ADDRESS: Final = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE | re.ASCII)


class DeviceError(EpaError):
    """A device that does not tell a NUMA node; the message says why and what to do."""


def node_of_device(sysfs: Sysfs, machine: Machine, name: str) -> int:
    """The id of the NUMA node of a PCI device or a network interface.

    Source: `numa_node` in Documentation/ABI/testing/sysfs-bus-pci of the Linux kernel; -1 there means that the firmware
    does not say, which leaves no doubt on a machine with one node only.

    Raises DeviceError.
    """
    text = _numa_node(sysfs, name)
    if text.isdecimal() and machine.node(int(text)) is not None:
        return int(text)
    with_cpus = [node.id for node in machine.nodes if node.cpus]
    if len(with_cpus) == 1:
        return with_cpus[0]
    raise DeviceError(f"near={name}: the kernel does not know its NUMA node (it says {text}): name the node instead")


def _numa_node(sysfs: Sysfs, name: str) -> str:
    if (match := _PCI_ADDRESS.fullmatch(name)) is not None:
        address = f"{match[1] or '0000'}:{match[2]}".lower()
        text = sysfs.read(f"bus/pci/devices/{address}/numa_node")
        if text is None:
            raise DeviceError(f"near={name}: this machine shows no PCI device {address}")
        return text
    text = sysfs.read(f"class/net/{name}/device/numa_node")
    if text is None:
        reason = "is not a device itself: name the physical one below it" if _exists(sysfs, name) else "does not exist"
        raise DeviceError(f"near={name}: the network interface {reason}")
    return text


def _exists(sysfs: Sysfs, name: str) -> bool:
    return bool(sysfs.names(f"class/net/{name}"))
