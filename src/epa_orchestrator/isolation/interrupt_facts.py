# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Interrupt facts: how often each interrupt arrived, where devices may send theirs, and who moves them.

Sources: Documentation/core-api/irq/irq-affinity.rst and Documentation/networking/scaling.rst of the Linux kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.interrupt_counters import IRQ_NUMBER, Counters, parse_counters
from epa_orchestrator.isolation.kernel_lists import read_cpu_list, read_cpu_mask

_IRQ: Final = "proc/irq"
_IRQ_FILES: Final = frozenset(
    {
        *("affinity_hint", "effective_affinity", "effective_affinity_list", "node"),
        *("smp_affinity", "smp_affinity_list", "spurious"),
    }
)
_ACTIONS: Final = "sys/kernel/irq"
_DEBUG: Final = "sys/kernel/debug/irq/irqs"
#: The settings of irqbalance on Debian and Ubuntu, and on Red Hat's and SUSE's systems.
_IRQBALANCE: Final = ("etc/default/irqbalance", "etc/sysconfig/irqbalance")
#: The two places of network devices: links to all of them, which a confined process may not follow, and virtual ones.
_NETWORKS: Final = ("sys/class/net", "sys/devices/virtual/net")

#: Queues of drivers that let the kernel place their interrupts (PCI_IRQ_AFFINITY): NVMe but for its queue 0, virtio
#: block and SCSI, and the usual RAID controllers.
_PLACED_BY_KERNEL: Final = re.compile(
    r"nvme[0-9]+q[1-9][0-9]*|virtio[0-9]+-(?:req\.[0-9]+|request)|megasas[0-9]+-msix[0-9]+|mpt[0-9]sas[0-9]+-msix[0-9]+"
    r"|mpi3mr[0-9]+-msix[1-9][0-9]*|lpfc:[0-9]+|smartpqi|hisi_sas\S* (?:cq|cq[0-9]+)",
    re.ASCII,
)


@dataclass(frozen=True)
class Irq:
    """An interrupt of a device that has handlers.

    `affinity` is what was set, `effective` where it goes. `managed` tells whether the kernel itself places it, so that
    nobody can move it; None where only its name hints at that.
    """

    number: int
    name: str
    affinity: CpuSet | Unread
    effective: CpuSet | Unread
    managed: bool | None = None

    @property
    def title(self) -> str:
        """What people read: `eth0-rx-3 (IRQ 45)`."""
        return f"{self.name} (IRQ {self.number})"

    @property
    def is_passed_through(self) -> bool:
        """Whether the device belongs to a virtual machine or to a program in user space (drivers/vfio)."""
        return self.name.startswith("vfio")

    @property
    def is_placement_known(self) -> bool:
        """Whether it is known for certain who places it; vfio lets nobody but its user do so."""
        return self.managed is not None or self.is_passed_through

    @property
    def is_placed_by_kernel(self) -> bool:
        """Whether the kernel says so, or where it does not tell, whether the driver is known for it."""
        return is_named_as_managed(self.name) if self.managed is None else self.managed


def is_named_as_managed(name: str) -> bool:
    """Whether a driver that lets the kernel place its interrupts gives them such names."""
    return _PLACED_BY_KERNEL.fullmatch(name) is not None


@dataclass(frozen=True)
class PacketMask:
    """The CPUs that may process the packets of a queue (`rps_cpus`), or that send through it (`xps_cpus`)."""

    path: str
    cpus: CpuSet

    @property
    def queue(self) -> str:
        """What people read: `rps_cpus of eth0, queue rx-0`."""
        *_, device, _, queue, name = self.path.split("/")
        return f"{name} of {printable(device)}, queue {printable(queue)}"


@dataclass(frozen=True)
class InterruptFacts:
    """Everything about interrupts; `irqbalance` are its settings, the text of the file at `irqbalance_path`."""

    counters: Counters | Unread
    default_affinity: CpuSet | Unread
    irqs: tuple[Irq, ...] | Unread
    irqbalance: str | Unread
    irqbalance_path: str
    packet_masks: tuple[PacketMask, ...] | Unread


def read_interrupt_facts(files: HostFiles) -> InterruptFacts:
    """Read counters, affinities, irqbalance's settings and the masks of network queues."""
    counters = parse_counters(files.read("proc/interrupts"))
    path, settings = _read_irqbalance(files)
    return InterruptFacts(
        counters=counters,
        default_affinity=read_cpu_mask(files, f"{_IRQ}/default_smp_affinity"),
        irqs=_read_irqs(files, counters),
        irqbalance=settings,
        irqbalance_path=path,
        packet_masks=_read_packet_masks(files),
    )


def _read_irqbalance(files: HostFiles) -> tuple[str, str | Unread]:
    """The settings of irqbalance and their path, that of Debian where neither file can be read."""
    settings = files.read(_IRQBALANCE[0])
    if isinstance(settings, Unread) and settings.reason == "missing":
        others = files.read(_IRQBALANCE[1])
        if not isinstance(others, Unread):
            return _IRQBALANCE[1], others
    return _IRQBALANCE[0], settings


def _read_irqs(files: HostFiles, counters: Counters | Unread) -> tuple[Irq, ...] | Unread:
    """The interrupts with handlers, as the counters name them, or where these name none, the kernel's directories."""
    if isinstance(counters, Unread) or not counters.devices:
        names = _handlers(files)
        if isinstance(names, Unread):
            return names if isinstance(counters, Unread) else ()
    else:
        names = {number: line.name for number, line in counters.devices.items()}
    return tuple(_read_irq(files, number, name) for number, name in sorted(names.items()) if name)


def _handlers(files: HostFiles) -> dict[int, str] | Unread:
    numbers = files.names(_ACTIONS)
    if isinstance(numbers, Unread):
        return _handler_directories(files) or numbers
    names: dict[int, str] = {}
    for number in filter(_is_of_device, numbers):
        actions = files.read(f"{_ACTIONS}/{number}/actions")
        names[int(number)] = "" if isinstance(actions, Unread) else printable(actions.strip())
    return names


def _handler_directories(files: HostFiles) -> dict[int, str]:
    """The handlers by the directories that each has in that of its interrupt (register_handler_proc in proc.c)."""
    numbers = files.names(_IRQ)
    names: dict[int, str] = {}
    for number in () if isinstance(numbers, Unread) else filter(_is_of_device, numbers):
        inside = files.names(f"{_IRQ}/{number}")
        handlers = () if isinstance(inside, Unread) else sorted(set(inside) - _IRQ_FILES)
        if handlers:
            names[int(number)] = printable(", ".join(handlers))
    return names


def _is_of_device(number: str) -> bool:
    """Number 0 is the timer of the boot, and 2 the cascade of the old controllers."""
    return IRQ_NUMBER.fullmatch(number) is not None and number not in ("0", "2")


def _read_irq(files: HostFiles, number: int, name: str) -> Irq:
    affinity = read_cpu_list(files, f"{_IRQ}/{number}/smp_affinity_list")
    effective = read_cpu_list(files, f"{_IRQ}/{number}/effective_affinity_list")
    if isinstance(effective, Unread) and effective.reason == "missing":
        effective = affinity  # where the kernel does not choose one CPU, every CPU of the mask gets it
    return Irq(number, name, affinity, effective, _managed(files, number))


def _managed(files: HostFiles, number: int) -> bool | None:
    text = files.read(f"{_DEBUG}/{number}")
    return None if isinstance(text, Unread) else "IRQD_AFFINITY_MANAGED" in text


def _read_packet_masks(files: HostFiles) -> tuple[PacketMask, ...] | Unread:
    unread = Unread(_NETWORKS[0])
    for directory in _NETWORKS:
        devices = files.names(directory)
        if not isinstance(devices, Unread):
            return tuple(_masks_of_devices(files, directory, sorted(devices)))
        if directory == _NETWORKS[0]:
            unread = devices
    return unread


def _masks_of_devices(files: HostFiles, directory: str, devices: list[str]) -> Iterator[PacketMask]:
    for device in devices:
        queues = files.names(f"{directory}/{device}/queues")
        for queue in [] if isinstance(queues, Unread) else sorted(queues):
            path = f"{directory}/{device}/queues/{queue}/{'rps' if queue.startswith('rx') else 'xps'}_cpus"
            cpus = read_cpu_mask(files, path)  # a device with one queue has the file of XPS and does not let it be read
            if not isinstance(cpus, Unread):
                yield PacketMask(path, cpus)
