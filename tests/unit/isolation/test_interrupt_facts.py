# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Affinities, masks and irqbalance's settings as they are read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.interrupt_facts import (
    InterruptFacts,
    Irq,
    PacketMask,
    is_named_as_managed,
    read_interrupt_facts,
)
from tests.unit.isolation.quiet_host import Files, host

DEBUG = "sys/kernel/debug/irq/irqs"


def read(changes: Files | None = None, denied: Sequence[str] = ()) -> InterruptFacts:
    return read_interrupt_facts(host(changes, denied))


def irq(number: int, changes: Files | None = None, denied: Sequence[str] = ()) -> Irq:
    irqs = read(changes, denied).irqs
    assert not isinstance(irqs, Unread)
    return next(irq for irq in irqs if irq.number == number)


def test_facts_of_the_quiet_host() -> None:
    facts = read()
    assert facts.default_affinity == CpuSet([0, 1])
    assert facts.irqs == (
        Irq(4, "ttyS0", CpuSet([0, 1]), CpuSet([1])),
        Irq(45, "virtio0-input.0", CpuSet([0, 1]), CpuSet([0])),
    )
    assert facts.irqbalance == Unread("etc/default/irqbalance")
    assert facts.packet_masks == (
        PacketMask("sys/class/net/eth0/queues/rx-0/rps_cpus", EMPTY),
        PacketMask("sys/class/net/eth0/queues/tx-0/xps_cpus", CpuSet([0, 1])),
    )


def test_interrupts_without_a_handler_are_left_out() -> None:
    facts = read({"proc/interrupts": "   CPU0 CPU1\n 7:  1 0  IO-APIC 7-edge\n"})
    assert facts.irqs == ()


def test_handlers_come_from_sysfs_without_counters() -> None:
    actions = {
        "proc/interrupts": None,
        "sys/kernel/irq/0/actions": "timer\n",
        "sys/kernel/irq/4/actions": "ttyS0\n",
        "sys/kernel/irq/5/actions": "\n",
    }
    facts = read(actions, ["proc/interrupts"])
    assert facts.counters == Unread("proc/interrupts", "denied")
    assert facts.irqs == (Irq(4, "ttyS0", CpuSet([0, 1]), CpuSet([1])),)


def test_without_counters_and_sysfs_no_interrupt_is_known() -> None:
    assert read({"proc/interrupts": None}).irqs == Unread("sys/kernel/irq")


def test_set_cpus_count_where_the_kernel_does_not_choose_one() -> None:
    assert irq(4, {"proc/irq/4/effective_affinity_list": None}).effective == CpuSet([0, 1])


def test_effective_cpus_that_may_not_be_read_stay_unknown() -> None:
    path = "proc/irq/4/effective_affinity_list"
    assert irq(4, {path: None}, [path]).effective == Unread(path, "denied")


@pytest.mark.parametrize(
    ("text", "managed"),
    [(None, None), ("dstate: 0x1\n    IRQD_AFFINITY_MANAGED\n", True), ("dstate:   0x1\n", False)],
)
def test_kernel_tells_managed_interrupts_to_root(text: str | None, managed: bool | None) -> None:
    found = irq(4, {f"{DEBUG}/4": text})
    assert found.managed is managed
    assert found.is_placed_by_kernel is bool(managed)


@pytest.mark.parametrize(
    ("name", "managed"),
    [
        ("nvme0q1", True),
        ("nvme12q64", True),
        ("nvme0q0", False),  # the admin queue
        ("virtio1-req.0", True),
        ("virtio0-input.0", False),
        ("megasas0-msix12", True),
        ("mpt3sas0-msix3", True),
        ("eth0-rx-1", False),
        ("mlx5_comp3@pci:0000:01:00.0", False),
    ],
)
def test_some_drivers_are_known_for_managed_interrupts(name: str, managed: bool) -> None:
    assert is_named_as_managed(name) is managed


def test_word_of_the_kernel_counts_more_than_a_name() -> None:
    assert not Irq(5, "nvme0q1", EMPTY, EMPTY, managed=False).is_placed_by_kernel


def test_virtual_devices_are_read_where_the_links_may_not_be() -> None:
    changes: Files = {
        "sys/class/net/eth0/queues/rx-0/rps_cpus": None,
        "sys/class/net/eth0/queues/tx-0/xps_cpus": None,
        "sys/devices/virtual/net/lo/queues/rx-0/rps_cpus": "c\n",
    }
    masks = read(changes).packet_masks
    assert masks == (PacketMask("sys/devices/virtual/net/lo/queues/rx-0/rps_cpus", CpuSet([2, 3])),)


def test_without_network_devices_the_links_are_missing() -> None:
    changes: Files = {
        "sys/class/net/eth0/queues/rx-0/rps_cpus": None,
        "sys/class/net/eth0/queues/tx-0/xps_cpus": None,
    }
    assert read(changes, ["sys/class/net"]).packet_masks == Unread("sys/class/net", "denied")


@pytest.mark.parametrize("text", ["", "x", "2-", "99999999", "\x00"])
def test_nonsense_in_a_list_is_no_traceback(text: str) -> None:
    found = irq(4, {"proc/irq/4/effective_affinity_list": text, "proc/irq/4/smp_affinity_list": text})
    assert found.effective == EMPTY or isinstance(found.effective, Unread)


def test_handlers_come_from_sysfs_where_the_counters_have_no_device() -> None:
    table = "   CPU0 CPU1\nLOC:  1 2  Local timer interrupts\n"
    found = irq(4, {"proc/interrupts": table, "sys/kernel/irq/4/actions": "tty\x1bS0\n"})
    assert found.name == "tty\N{REPLACEMENT CHARACTER}S0"


def test_handlers_come_from_their_directories_without_counters_and_sysfs() -> None:
    changes: Files = {
        "proc/interrupts": None,
        "proc/irq/0/timer/": "",
        "proc/irq/9/acpi/": "",
        "proc/irq/9/smp_affinity_list": "0-3\n",
    }
    facts = read(changes)
    assert not isinstance(facts.irqs, Unread)
    assert [irq.title for irq in facts.irqs] == ["acpi (IRQ 9)"]


@pytest.mark.parametrize(
    ("name", "managed"), [("mpi3mr0-msix3", True), ("mpi3mr0-msix0", False), ("lpfc:4", True), ("mlx5_comp3", False)]
)
def test_drivers_of_more_controllers_are_known(name: str, managed: bool) -> None:
    assert is_named_as_managed(name) is managed
