# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Interrupt counters: the table of /proc/interrupts, which has a column for each online CPU.

Sources: show_interrupts() in kernel/irq/proc.c, and arch_show_interrupts() of x86, arm64, powerpc, riscv and s390.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.kernel_lists import kernel_number

Kind = Literal["tick", "device", "ipi", "other"]

#: Timer interrupts: the local timer (x86, powerpc), Hyper-V's (x86), the clock comparator and CPU timer (s390).
_TICKS: Final = frozenset({"LOC", "HVS", "CLK", "TMR"})
#: Interrupts from other CPUs: x86, doorbells of powerpc, external calls and emergency signals of s390. Those of arm64
#: and riscv are IPI0, IPI1, ….
_IPIS: Final = frozenset({"RES", "CAL", "TLB", "DBL", "EXC", "EMS"})
_IPI: Final = re.compile(r"IPI[0-9]+", re.ASCII)
#: Sums of s390, of what other lines count too.
_SUMS: Final = frozenset({"EXT", "I/O", "AIO"})

#: Timers and IPIs that have a number like devices, on arm64, riscv and powerpc.
_NUMBERED: Final[Mapping[str, Kind]] = {"arch_timer": "tick", "riscv-timer": "tick", "IPI": "ipi"}
#: Each CPU has one of its own, which nobody can move.
_OF_EACH_CPU: Final = re.compile(
    r"arm-pmu|armv[0-9]\S*|arm_spe\S*|riscv-pmu\S*|kvm guest [pv]timer|GICv[0-9] maintenance|vgic|trbe\S*", re.ASCII
)
#: Xen's event channels: `xen-percpu -virq timer0`, `xen-percpu -ipi resched0`.
_XEN_OF_EACH_CPU: Final = "xen-percpu"

#: The number of an interrupt: kernels have at most some 500,000.
IRQ_NUMBER: Final = re.compile(r"[0-9]{1,7}", re.ASCII)
#: After the chip: the number of the interrupt in it, and how it is triggered, as `4-edge` or `27 Level`.
_BEFORE_NAME: Final = re.compile(r"(?:^|\s)[0-9]+(?:-[\w-]+|\s+(?:Edge|Level)(?:\s+-\S+)?)(?:\s+|$)", re.ASCII)


@dataclass(frozen=True)
class Counter:
    """A line: `counts` by CPU, without those that are 0. `name` are the handlers, empty if there are none."""

    label: str
    kind: Kind
    name: str
    counts: Mapping[int, int]

    @property
    def irq(self) -> int | None:
        """The number of a device's interrupt."""
        return int(self.label) if self.kind == "device" else None

    @property
    def title(self) -> str:
        """What people read: `eth0-rx-3 (IRQ 45)`."""
        return f"{self.name} (IRQ {self.label})" if self.name else f"IRQ {self.label}"


@dataclass(frozen=True)
class Counters:
    """All lines, and the CPUs that have a column: those that are online."""

    cpus: CpuSet
    lines: tuple[Counter, ...]

    @cached_property
    def devices(self) -> Mapping[int, Counter]:
        """The interrupts of devices by number."""
        return {int(line.label): line for line in self.lines if line.kind == "device"}


def parse_counters(text: str | Unread) -> Counters | Unread:
    """Read the text of `/proc/interrupts`; lines that are cut are left out."""
    if isinstance(text, Unread):
        return text
    header, _, body = text.partition("\n")
    columns = [name.removeprefix("CPU") for name in header.split()]
    if not columns or not all(column.isdecimal() and column.isascii() and len(column) < 6 for column in columns):
        return Unread("proc/interrupts")
    numbers = [int(column) for column in columns]
    return Counters(CpuSet(numbers), tuple(_lines(body, numbers)))


def _lines(body: str, cpus: list[int]) -> Iterator[Counter]:
    count = len(cpus)
    for line in body.split("\n"):
        label, colon, rest = line.partition(":")
        label = label.strip()
        fields = rest.split(None, count)
        if not colon or label in _SUMS or len(fields) < count:
            continue
        description = fields.pop() if len(fields) > count else ""
        if not description and not IRQ_NUMBER.fullmatch(label):
            continue  # a count of errors, which belongs to no CPU
        try:
            counts = {cpu: kernel_number(field) for cpu, field in zip(cpus, fields, strict=True) if field != "0"}
        except ValueError:
            continue
        name = _name(description) if IRQ_NUMBER.fullmatch(label) else printable(description.strip())
        yield Counter(label, _kind(label, name, description), name, counts)


def _name(description: str) -> str:
    """The handlers: what follows the chip and its number for the interrupt, or the chip alone where it has none."""
    found = _BEFORE_NAME.search(description)
    if found is not None:
        return printable(description[found.end() :].strip())
    words = description.split(None, 2)
    if len(words) > 1 and words[1].startswith("-"):
        del words[1]
    return printable(" ".join(words[1:]).strip())


def _kind(label: str, name: str, description: str) -> Kind:
    if not IRQ_NUMBER.fullmatch(label):
        if label in _TICKS:
            return "tick"
        return "ipi" if label in _IPIS or _IPI.fullmatch(label) else "other"
    if description.startswith(_XEN_OF_EACH_CPU):
        return "tick" if name.startswith("timer") else "ipi"
    if name in _NUMBERED:
        return _NUMBERED[name]
    # Number 0 is the timer of the boot, and 2 the cascade of the old controllers.
    return "other" if label in ("0", "2") or _OF_EACH_CPU.fullmatch(name) else "device"
