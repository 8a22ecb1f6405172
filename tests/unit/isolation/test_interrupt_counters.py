# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""/proc/interrupts of several architectures, cut, huge and as nonsense."""

from __future__ import annotations

import time

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.interrupt_counters import Counter, Counters, parse_counters
from tests.unit.isolation.quiet_host import INTERRUPTS

HEADER = "           CPU0       CPU1\n"


def parsed(text: str) -> Counters:
    counters = parse_counters(text)
    assert isinstance(counters, Counters)
    return counters


def only(line: str) -> Counter:
    (counter,) = parsed(HEADER + line + "\n").lines
    return counter


def test_columns_are_the_online_cpus() -> None:
    counters = parsed("    CPU0   CPU5 CPU12\n 4:  1  0  7  IO-APIC 4-edge ttyS0\n")
    assert counters.cpus == CpuSet([0, 5, 12])
    assert counters.devices[4].counts == {0: 1, 12: 7}


def test_each_line_has_its_kind() -> None:
    assert [(line.label, line.kind) for line in parsed(INTERRUPTS).lines] == [
        ("0", "other"),
        ("4", "device"),
        ("45", "device"),
        ("LOC", "tick"),
        ("RES", "ipi"),
        ("CAL", "ipi"),
        ("TLB", "ipi"),
        ("NMI", "other"),
    ]


@pytest.mark.parametrize(
    ("line", "kind", "title"),
    [
        ("  4:  0  3   IO-APIC   4-edge      ttyS0", "device", "ttyS0 (IRQ 4)"),
        ("  9:  0  3   IO-APIC   9-fasteoi   acpi", "device", "acpi (IRQ 9)"),
        (" 16:  0  3   IR-IO-APIC   16-fasteoi   usb1, i801_smbus", "device", "usb1, i801_smbus (IRQ 16)"),
        (" 45:  1  0  PCI-MSIX-0000:00:03.0   1-edge      virtio0-input.0", "device", "virtio0-input.0 (IRQ 45)"),
        (" 45:  1  0  IR-PCI-MSI 524288-edge      nvme0q0", "device", "nvme0q0 (IRQ 45)"),
        (" 46:  1  0  Hyper-V PCIe MSI 25769803776-edge      mlx5_async0", "device", "mlx5_async0 (IRQ 46)"),
        (" 13:  1  0  GICv3  27 Level     arch_timer", "tick", "arch_timer (IRQ 13)"),
        (" 14:  1  0  GICv3  33 Level     uart-pl011", "device", "uart-pl011 (IRQ 14)"),
        (" 15:  1  0  ITS-PCI-MSIX-0000:01:00.0   2 Edge      eth0-rx-1", "device", "eth0-rx-1 (IRQ 15)"),
        (" 16:  1  0  GICv3  23 Level     arm-pmu", "other", "arm-pmu (IRQ 16)"),
        (" 16:  1  0  GICv3  26 Level     kvm guest vtimer", "other", "kvm guest vtimer (IRQ 16)"),
        ("  5:  1  0  RISC-V INTC   5 Edge      riscv-timer", "tick", "riscv-timer (IRQ 5)"),
        (" 16:  1  0  XICS   2 Edge      IPI", "ipi", "IPI (IRQ 16)"),
        (" 17:  1  0  XIVE-IRQ 1310720 Level     eth0", "device", "eth0 (IRQ 17)"),
        (" 48:  1  0  xen-percpu    -virq      timer0", "tick", "timer0 (IRQ 48)"),
        (" 49:  1  0  xen-percpu    -ipi       resched0", "ipi", "resched0 (IRQ 49)"),
        (" 50:  1  0  xen-dyn    -event     eth0-q0-rx", "device", "eth0-q0-rx (IRQ 50)"),
        ("  2:  0  0    XT-PIC      cascade", "other", "cascade (IRQ 2)"),
        (" 10:  1  0   IO-APIC  10-fasteoi", "device", "IRQ 10"),
        (" 11:  1  0", "device", "IRQ 11"),
        ("LOC:  1  0   Local timer interrupts for timer event device", "tick", ""),
        ("HVS:  1  0   Hyper-V stimer0 interrupts", "tick", ""),
        ("CLK:  1  0   [EXT] Clock Comparator", "tick", ""),
        ("EXC:  1  0   [EXT] External Call", "ipi", ""),
        ("DBL:  1  0   Doorbell interrupts", "ipi", ""),
        ("IPI0:  1  0       Rescheduling interrupts", "ipi", ""),
        ("MCP:  1  0   Machine check polls", "other", ""),
        ("IWI:  1  0   IRQ work interrupts", "other", ""),
    ],
)  # fmt: skip
def test_lines_of_every_architecture(line: str, kind: str, title: str) -> None:
    counter = only(line)
    assert counter.kind == kind
    if title:
        assert counter.title == title


@pytest.mark.parametrize(
    "line",
    ["ERR:   0", "Err:  0", "ERR:  0  0", "EXT:  5  6", "I/O:  7  8", "45:  1", "45:  1  x  IO-APIC", "no colon"],
)
def test_sums_and_cut_lines_are_left_out(line: str) -> None:
    assert parsed(f"{HEADER}{line}\n").lines == ()


def test_sum_of_errors_is_no_counter_on_a_host_with_one_cpu() -> None:
    assert parsed("     CPU0\nERR:          7\n").lines == ()


def test_number_beyond_all_interrupts_is_no_device() -> None:
    assert only("99999999999:  1  0  IO-APIC 4-edge x").kind == "other"


def test_label_may_come_twice() -> None:
    # powerpc counts its timer events and other local timer interrupts with the same label.
    counters = parsed(f"{HEADER}LOC: 1 2 for timer event device\nLOC: 3 4 for others\n")
    assert [line.counts for line in counters.lines] == [{0: 1, 1: 2}, {0: 3, 1: 4}]


@pytest.mark.parametrize("text", ["", "\n", "nonsense\n", "CPU0 CPUx\n", "CPU0 1234567890\n", "\x00\x01"])
def test_text_without_a_header_counts_as_missing(text: str) -> None:
    assert parse_counters(text) == Unread("proc/interrupts")


def test_unread_stays_unread() -> None:
    assert parse_counters(Unread("proc/interrupts", "denied")) == Unread("proc/interrupts", "denied")


def test_device_name_cannot_act_on_a_terminal() -> None:
    assert only(" 45:  1  0  IO-APIC 4-edge   a\x1b[2Jb").title.isprintable()


def test_large_host_takes_a_fraction_of_a_second() -> None:
    cpus = 512
    row = "".join(f" {count:>10}" for count in ["12"] + ["0"] * (cpus - 1))
    busy = " 1234567890" * cpus
    text = "    " + " ".join(f"CPU{cpu}" for cpu in range(cpus)) + "\n"
    text += "".join(
        f"{number:>4}:{row} PCI-MSIX-0000:01:00.0 {number}-edge nvme{number}\n" for number in range(16, 816)
    )
    text += "".join(f" {label}:{busy}   text\n" for label in ("LOC", "RES", "CAL", "TLB", "NMI", "PMI"))
    begin = time.process_time()
    counters = parsed(text)
    assert time.process_time() - begin < 0.3
    assert len(counters.devices) == 800
    assert counters.devices[20].counts == {0: 12}
