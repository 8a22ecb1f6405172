# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Interrupt checks: whether the interrupts of devices stay off the isolated CPUs, and whether new ones will."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.boot_lists import read_boot_list
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.elapsed import TWO_READINGS, added_to, measured, rate
from epa_orchestrator.isolation.findings import (
    AN_ISOLATED_CPU,
    DEVICE_OWNERS,
    Finding,
    bad,
    not_checked,
    passed,
    warned,
)
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.interrupt_counters import Counter
from epa_orchestrator.isolation.interrupt_facts import Irq
from epa_orchestrator.isolation.packet_checks import irqbalance, packet_masks
from epa_orchestrator.isolation.remedies import (
    braced,
    housekeeping_list,
    housekeeping_mask,
    isolated_list,
    line_remedy,
    moved_interrupts,
)
from epa_orchestrator.isolation.task_names import listed
from epa_orchestrator.units import named_cpus


def interrupt_checks(case: Case) -> Iterator[Finding]:
    """The findings D1 to D6."""
    for check, judgement in _CHECKS.items():
        yield judgement(case) if case.isolated else not_checked(check, AN_ISOLATED_CPU)


def _default_affinity(case: Case) -> Finding:
    default = case.now.interrupts.default_affinity
    if isinstance(default, Unread):
        return not_checked("D1", default.needs)
    found = default & case.isolated
    if not found:
        return passed("D1", f"The default mask of interrupts leaves {named_cpus(str(case.isolated))} out")
    seen = f"The default mask of interrupts holds {named_cpus(str(found))}"
    now = f"echo {housekeeping_mask(case)} | sudo tee /proc/irq/default_smp_affinity"
    texts = case.line.values("irqaffinity")
    if texts and not read_boot_list(texts[-1], None).cpus & case.all_isolated:
        # The kernel line is right, so somebody wrote the mask later.
        return warned("D1", seen, now)
    later = line_remedy("irqaffinity", housekeeping_list(case), is_set=bool(texts))
    return warned("D1", seen, f"{later}; until then: {now}")


def _device_interrupts(case: Case) -> Finding:
    irqs = case.now.interrupts.irqs
    if isinstance(irqs, Unread):
        return not_checked("D2", irqs.needs)
    movable = [irq for irq in irqs if not irq.is_placed_by_kernel]
    there = [irq for irq in movable if _on_isolated(case, irq) and not _is_owners(case, irq)]
    undecided = [irq for irq in there if _could_be_owners(case, irq)]
    found = [irq for irq in there if irq not in undecided]
    if found:
        parts = [f"{irq.title} on {named_cpus(str(_on_isolated(case, irq)))}" for irq in found]
        subject = "Interrupts go to isolated CPUs" if len(found) > 1 else "An interrupt goes to an isolated CPU"
        return bad("D2", f"{subject}: {listed(parts, 'interrupt')}", move_remedy(case, [irq.number for irq in found]))
    hidden = _hidden(case, movable)
    if hidden is not None:
        return not_checked("D2", hidden.needs)
    if undecided:
        return not_checked("D2", f"{DEVICE_OWNERS}{undecided[0].title} is")
    return passed("D2", f"No interrupt of a device goes to {named_cpus(str(case.isolated))}")


def move_remedy(case: Case, numbers: Sequence[int]) -> str:
    """The command that moves interrupts to the housekeeping CPUs; tee takes several files."""
    return moved_interrupts(braced(CpuSet(numbers)), housekeeping_list(case))


def _on_isolated(case: Case, irq: Irq) -> CpuSet:
    """The isolated CPUs where it arrives. One that was moved away arrives once more there: the kernel moves it then."""
    there = known(irq.effective) & case.isolated
    return there if isinstance(irq.affinity, Unread) or not irq.affinity else there & irq.affinity


def _is_owners(case: Case, irq: Irq) -> bool:
    """Whether the interrupt is that of a passed-through device, and goes to CPUs of one claim only: its owner's."""
    cpus = known(irq.affinity) or known(irq.effective)
    return irq.is_passed_through and any(cpus <= owner.cpus for owner in case.owners or ())


def _could_be_owners(case: Case, irq: Irq) -> bool:
    return irq.is_passed_through and case.owners is None


def _hidden(case: Case, irqs: Sequence[Irq]) -> Unread | None:
    """The file that is needed to tell where an interrupt goes, None if all go elsewhere for certain."""
    for irq in irqs:
        is_elsewhere = not isinstance(irq.affinity, Unread) and not irq.affinity & case.isolated
        if isinstance(irq.effective, Unread) and not is_elsewhere:
            return irq.effective
    return None


def _arrivals(case: Case) -> Finding:
    readings = measured(case)
    if readings is None:
        return not_checked("D3", TWO_READINGS)
    earlier, seconds = readings
    before, after = earlier.interrupts.counters, case.now.interrupts.counters
    if isinstance(before, Unread):
        return not_checked("D3", before.needs)
    if isinstance(after, Unread):
        return not_checked("D3", after.needs)
    cpus = case.isolated & before.cpus & after.cpus
    gained = {
        number: added
        for number, line in after.devices.items()
        if (added := _added(before.devices.get(number), line, cpus))
    }
    facts = case.now.interrupts.irqs
    by_number = {irq.number: irq for irq in (() if isinstance(facts, Unread) else facts)}
    irqs = {number: by_number.get(number) or _from_counter(after.devices[number]) for number in gained}
    found = [irq for irq in irqs.values() if not irq.is_placed_by_kernel and not _is_owners(case, irq)]
    undecided = [irq for irq in found if _could_be_owners(case, irq)]
    found = [irq for irq in found if irq not in undecided]
    if not found:
        if undecided:
            return not_checked("D3", f"{DEVICE_OWNERS}{undecided[0].title} is")
        return passed("D3", f"No interrupt of a device arrived on {named_cpus(str(cpus))}")
    found.sort(key=lambda irq: -sum(gained[irq.number].values()))
    parts = [
        f"{rate(sum(gained[irq.number].values()) / seconds)} a second of {irq.title} on "
        f"{named_cpus(str(CpuSet(gained[irq.number])))}"
        for irq in found
    ]
    return bad(
        "D3", f"Interrupts arrived: {listed(parts, 'interrupt')}", move_remedy(case, [irq.number for irq in found])
    )


def _from_counter(line: Counter) -> Irq:
    """What is known of an interrupt whose files could not be read."""
    unread = Unread(f"proc/irq/{line.label}")
    return Irq(int(line.label), line.name or "an unnamed device", unread, CpuSet(line.counts))


def _added(before: Counter | None, after: Counter, cpus: CpuSet) -> dict[int, int]:
    """How many interrupts arrived on each of the CPUs; a counter that went down has started again."""
    added: dict[int, int] = {}
    for cpu, count in after.counts.items():
        old = 0 if before is None else before.counts.get(cpu, 0)
        if cpu in cpus and count != old:
            added[cpu] = added_to(old, count)
    return added


def _managed_interrupts(case: Case) -> Finding:
    irqs = case.now.interrupts.irqs
    if isinstance(irqs, Unread):
        return not_checked("D4", irqs.needs)
    there = [irq for irq in irqs if _on_isolated(case, irq)]
    found = [irq for irq in there if irq.is_placed_by_kernel]
    cpus = EMPTY
    for irq in found:
        cpus |= _on_isolated(case, irq)
    if found and not _has_managed_irq(case):
        parts = [f"{irq.title} on {named_cpus(str(_on_isolated(case, irq)))}" for irq in found]
        return warned(
            "D4",
            f"The kernel placed managed interrupts on isolated CPUs: {listed(parts, 'interrupt')}",
            f"set isolcpus=domain,managed_irq,{isolated_list(case)} on the kernel line, then reboot; "
            "give the device fewer queues if that is not enough",
        )
    hidden = _hidden(case, irqs)
    if hidden is not None:
        return not_checked("D4", hidden.needs)
    untold = next((irq for irq in there if not (irq.is_placement_known or irq.is_placed_by_kernel)), None)
    if untold is not None:
        return not_checked(
            "D4", f"/sys/kernel/debug/irq/irqs/{untold.number}, to tell whether the kernel itself placed {untold.title}"
        )
    if found:
        return passed("D4", f"Managed interrupts on {named_cpus(str(cpus))} arrive only for I/O from there")
    return passed("D4", f"No managed interrupt goes to {named_cpus(str(case.isolated))}")


def _has_managed_irq(case: Case) -> bool:
    """Whether the first isolcpus=, which counts, asks the kernel to place managed interrupts elsewhere."""
    isolcpus = case.line.isolcpus
    return bool(isolcpus) and "managed_irq" in isolcpus[0].flags


_CHECKS: Final = {
    "D1": _default_affinity,
    "D2": _device_interrupts,
    "D3": _arrivals,
    "D4": _managed_interrupts,
    "D5": irqbalance,
    "D6": packet_masks,
}
