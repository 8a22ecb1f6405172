# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Devices: the NUMA node that a PCI device or a network interface is attached to, read from sysfs."""

from __future__ import annotations

import heapq
import re
from typing import Final

from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import CONNECT_TOPOLOGY_PLUG, Sysfs
from epa_orchestrator.natural import natural
from epa_orchestrator.nearest import did_you_mean

#: Domain (0000 if left out), bus, device and function, as lspci prints them.
_PCI_ADDRESS: Final = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE | re.ASCII)

_PCI_DEVICES: Final = "bus/pci/devices"
_INTERFACES: Final = "class/net"
#: Bridges, taps and the like, which have no NUMA node.
_VIRTUAL_INTERFACES: Final = "devices/virtual/net"

#: The most devices of each kind that a recording has, so that its size is bounded.
_MOST_RECORDED: Final = 4096

#: A host may have thousands of devices, and a refusal must not hold up other requests: so many of those that begin most
#: like the missing one are looked at, and so many of these are named.
_MOST_LOOKED_AT: Final = 32
_MOST_NAMED: Final = 8
#: The names that a request can have (protocol/fields.py).
_NAMEABLE: Final = re.compile(r"[!-.0-~]{1,64}", re.ASCII)

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


def interfaces(sysfs: Sysfs) -> list[str]:
    """The network interfaces that are devices, by their names; none where they cannot be listed."""
    names = sorted(sysfs.names(_INTERFACES) or ())[:_MOST_RECORDED]
    return [name for name in names if sysfs.exists(f"{_INTERFACES}/{name}/device")]


def devices_like(sysfs: Sysfs, name: str) -> str:
    """How the sentence about a missing device goes on: devices of this kind that this host has, those most like it.

    Empty if the device is not missing.
    """
    address = _address(name)
    wanted = address or name
    names = sysfs.names(_INTERFACES if address is None else _PCI_DEVICES)
    if names is None:
        return f"; {CONNECT_TOPOLOGY_PLUG}"
    if wanted in names:
        return ""
    if address is None:
        names = [*{*names}.difference(sysfs.names(_VIRTUAL_INTERFACES) or ())]
    likely = _likely(names, wanted)
    if address is None:  # a recording does not say which ones are virtual
        likely = [each for each in likely if sysfs.exists(f"{_INTERFACES}/{each}/device")]
    if not likely:
        return f"; this host shows no {'network interface of a device' if address is None else 'PCI devices'}"
    shown = sorted(likely[:_MOST_NAMED], key=natural)
    among_others = "" if len(shown) == len(likely) and len(names) <= _MOST_LOOKED_AT else ", among others,"
    return f"; this host has{among_others} {', '.join(shown)}{did_you_mean(wanted, likely) or ''}"


def _likely(names: list[str], name: str) -> list[str]:
    """The names that begin like this one, then those that do for fewer characters, until there are enough."""
    found: dict[str, None] = {}
    for length in range(len(name) - 1, -3, -3):
        beginning = name[: max(length, 0)]
        same = (each for each in names if each.startswith(beginning) and _NAMEABLE.fullmatch(each))
        found.update(dict.fromkeys(heapq.nsmallest(_MOST_LOOKED_AT, same)))
        if len(found) >= _MOST_NAMED:
            break
    return [*found][:_MOST_LOOKED_AT]


def _address(name: str) -> str | None:
    """The whole PCI address as the kernel writes it, None for any other name."""
    match = _PCI_ADDRESS.fullmatch(name)
    return None if match is None else f"{match[1] or '0000'}:{match[2]}".lower()


def read_devices(sysfs: Sysfs) -> list[str]:
    """Read what `node_of_device` needs of every device, for a recording; returns what cannot be listed, in sentences.

    Of an interface without a device, such as a bridge, only its existence is read.
    """
    pci, interfaces = sysfs.names(_PCI_DEVICES), sysfs.names(_INTERFACES)
    for address in sorted(pci or ())[:_MOST_RECORDED]:
        sysfs.read(f"{_PCI_DEVICES}/{address}/numa_node")
    for name in sorted(interfaces or ())[:_MOST_RECORDED]:
        if sysfs.exists(f"{_INTERFACES}/{name}/device"):
            _node_of_interface(sysfs, name)
        else:
            sysfs.exists(f"{_INTERFACES}/{name}/ifindex")
    unlisted = [kind for kind, names in (("PCI devices", pci), ("network interfaces", interfaces)) if names is None]
    return [f"The {kind} of this host cannot be listed, so the recording has none" for kind in unlisted]


def _numa_node(sysfs: Sysfs, name: str) -> str | None:
    """The kernel's text for a device's NUMA node, None for a network interface without a device, such as a bridge.

    An interface of a virtual machine may be on a bus (virtio) of a PCI device, which then has the file.

    Raises DeviceError when the device does not exist.
    """
    if (address := _address(name)) is not None:
        text = sysfs.read(f"{_PCI_DEVICES}/{address}/numa_node")
        if text is None:
            raise DeviceError(f"near={name}: this machine shows no PCI device {address}")
        return text
    if not sysfs.names(f"{_INTERFACES}/{name}"):
        raise DeviceError(f"near={name}: the network interface does not exist")
    return _node_of_interface(sysfs, name)


def _node_of_interface(sysfs: Sysfs, name: str) -> str | None:
    paths = (f"{_INTERFACES}/{name}/device{'/..' * up}/numa_node" for up in range(_MOST_BUSES))
    return next((text for path in paths if (text := sysfs.read(path)) is not None), None)
