# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Noise: what disturbed some CPUs between two readings of the kernel's counters, and who caused most of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.case import known
from epa_orchestrator.isolation.elapsed import added_to, rate
from epa_orchestrator.isolation.facts import Facts
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.interrupt_facts import is_named_as_managed
from epa_orchestrator.isolation.remedies import UNKNOWN_HOUSEKEEPING, moved_interrupts, nohz_full_remedy
from epa_orchestrator.isolation.task_facts import Task
from epa_orchestrator.units import named_cpus

#: Counts by CPU, without those that are 0.
Counts = Mapping[int, int]

#: What each costs the owner, in ns: order of magnitude on current servers, to weigh them against each other.
_TICK_COST: Final = 5_000
_INTERRUPT_COST: Final = 5_000
_IPI_COST: Final = 2_000
_SWITCH_COST: Final = 10_000

#: More than all counters of a host together.
_MOST: Final = 1 << 80

#: Rates per second and CPU below these are quiet. Ticks: one a second is normal with nohz_full, for the scheduler's
#: deadline server; 100 are the least without it. Interrupts: a device that sends one every 10 s takes less than a
#: millionth of the time.
QUIET_TICKS: Final = 10
_QUIET_INTERRUPTS: Final = 0.1
#: Each memory change of a process with several threads sends some, so only a flood is worth a remedy.
_QUIET_IPIS: Final = 1_000
#: 0.1 % of the time: the kernel's own threads of a CPU make a task wait that long.
_QUIET_WAIT_NS: Final = 1_000_000
#: The same threads run up to a few times a second.
QUIET_SWITCHES: Final = 10

#: The remedy where counters tell that threads took turns on a CPU, and not which ones.
PIN_EACH: Final = "pin each thread to a CPU of its own"


@dataclass(frozen=True)
class Noise:
    """Counts of some CPUs: since the boot in one reading, or between two readings that are `seconds` apart.

    `ticks` are timer interrupts, `interrupts` those of devices by the device's name and number, `ipis` interrupts that
    other CPUs sent, `other` all remaining ones. `waited_ns` is how long tasks waited for these CPUs, `involuntary` how
    often the owner's tasks were interrupted by other tasks; both are None where they could not be read.

    `cpus` are the CPUs that were counted: those that were online. `ticks_by_cpu` and `interrupts_by_cpu` say where.
    """

    seconds: float
    ticks: int
    interrupts: Mapping[str, int]
    ipis: int
    other: int
    waited_ns: int | None
    involuntary: int | None
    cpus: CpuSet = EMPTY
    ticks_by_cpu: Counts = field(default_factory=dict[int, int])
    interrupts_by_cpu: Mapping[str, Counts] = field(default_factory=dict[str, Counts])

    def per_second(self, count: int) -> float:
        """A count of this noise as a rate; 0 if no time has passed."""
        return count / self.seconds if self.seconds > 0 else 0.0

    def document(self) -> dict[str, Any]:
        """The noise as JSON types, for `from_document`."""
        return {
            "seconds": self.seconds,
            "cpus": str(self.cpus),
            "ticks": {str(cpu): count for cpu, count in self.ticks_by_cpu.items()},
            "interrupts": {
                name: {str(cpu): count for cpu, count in counts.items()}
                for name, counts in self.interrupts_by_cpu.items()
            },
            "ipis": self.ipis,
            "other": self.other,
            "waited_ns": self.waited_ns,
            "involuntary": self.involuntary,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Noise:
        """What `document` made. Raises ValueError for anything else."""
        try:
            return _noise(
                seconds=_seconds(document["seconds"]),
                cpus=CpuSet.parse(document["cpus"]),
                ticks=_counts(document["ticks"]),
                interrupts={str(name): _counts(counts) for name, counts in document["interrupts"].items()},
                ipis=_count(document["ipis"]),
                other=_count(document["other"]),
                waited_ns=_optional(document["waited_ns"]),
                involuntary=_optional(document["involuntary"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the document is not one of noise") from error


def _counts(document: Mapping[str, Any]) -> dict[int, int]:
    return {int(cpu): _count(count) for cpu, count in document.items()}


def _count(value: object) -> int:
    """A number that counters of the kernel can reach."""
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise TypeError
    return value


def _optional(value: object) -> int | None:
    return None if value is None else _count(value)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < _MOST:
        raise TypeError
    return float(value)


def _noise(
    *,
    seconds: float,
    cpus: CpuSet,
    ticks: Counts,
    interrupts: Mapping[str, Counts],
    ipis: int,
    other: int,
    waited_ns: int | None,
    involuntary: int | None,
) -> Noise:
    """Noise with the sums of what is counted by CPU."""
    return Noise(
        seconds=seconds,
        ticks=sum(ticks.values()),
        interrupts={name: sum(counts.values()) for name, counts in interrupts.items()},
        ipis=ipis,
        other=other,
        waited_ns=waited_ns,
        involuntary=involuntary,
        cpus=cpus,
        ticks_by_cpu=ticks,
        interrupts_by_cpu=interrupts,
    )


def noise_so_far(facts: Facts, cpus: CpuSet, tasks: Iterable[Task]) -> Noise | Unread:
    """The counts of these CPUs and of their owner's tasks since the boot."""
    counters = facts.interrupts.counters
    if isinstance(counters, Unread):
        return counters
    if isinstance(facts.uptime, Unread):
        return facts.uptime
    counted = cpus & counters.cpus
    numbers = tuple(counted)
    ticks: dict[int, int] = {}
    interrupts: dict[str, Counts] = {}
    sums = {"ipi": 0, "other": 0}
    for line in counters.lines:
        counts = {cpu: count for cpu in numbers if (count := line.counts.get(cpu))}
        if not counts:
            continue
        if line.kind == "tick":
            for cpu, count in counts.items():
                ticks[cpu] = ticks.get(cpu, 0) + count
        elif line.kind == "device":
            interrupts[line.title] = counts
        else:
            sums[line.kind] += sum(counts.values())
    return _noise(
        seconds=facts.uptime,
        cpus=counted,
        ticks=ticks,
        interrupts=interrupts,
        ipis=sums["ipi"],
        other=sums["other"],
        waited_ns=_waited(facts, counted),
        involuntary=None if isinstance(facts.tasks, Unread) else sum(task.involuntary for task in tasks),
    )


def _waited(facts: Facts, cpus: CpuSet) -> int | None:
    waited = facts.scheduler.waited_ns
    if isinstance(waited, Unread):
        return None
    return sum(waited.get(cpu, 0) for cpu in cpus)


def noise_between(before: Noise, after: Noise) -> Noise:
    """What was added between two readings of the same boot.

    A CPU counts if it was online in both readings. A counter that went down has started again: its device was
    removed and added. Switches of tasks that ended in between are not known.
    """
    cpus = before.cpus & after.cpus
    return _noise(
        seconds=max(after.seconds - before.seconds, 0.0),
        cpus=cpus,
        ticks=_added_by_cpu(before.ticks_by_cpu, after.ticks_by_cpu, cpus),
        interrupts={
            name: added
            for name, counts in after.interrupts_by_cpu.items()
            if (added := _added_by_cpu(before.interrupts_by_cpu.get(name, {}), counts, cpus))
        },
        ipis=added_to(before.ipis, after.ipis),
        other=added_to(before.other, after.other),
        waited_ns=_added_or_none(before.waited_ns, after.waited_ns),
        involuntary=_switches(before.involuntary, after.involuntary),
    )


def _added_by_cpu(before: Counts, after: Counts, cpus: CpuSet) -> dict[int, int]:
    added = {cpu: added_to(before.get(cpu, 0), count) for cpu, count in after.items() if cpu in cpus}
    return {cpu: count for cpu, count in added.items() if count}


def _added_or_none(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else added_to(before, after)


def _switches(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(after - before, 0)


class _Suspect(NamedTuple):
    """What it took from the owner, in ns a second, with the two sentences."""

    cost: float
    seen: str
    remedy: str


def culprit(noise: Noise, cpus: CpuSet, facts: Facts) -> tuple[str, str] | None:
    """Who caused most of the noise, and the remedy, as two sentences; None where there is none worth a remedy."""
    if noise.seconds <= 0 or not cpus:
        return None
    suspects = [*_ticks(noise, facts), *_interrupts(noise, facts), *_ipis(noise, cpus), *_neighbours(noise, cpus)]
    if not suspects:
        return None
    worst = max(suspects, key=lambda suspect: suspect.cost)
    return worst.seen, worst.remedy


def _ticks(noise: Noise, facts: Facts) -> Iterator[_Suspect]:
    rates = {cpu: noise.per_second(count) for cpu, count in noise.ticks_by_cpu.items()}
    loud = CpuSet(cpu for cpu, ticks in rates.items() if ticks > QUIET_TICKS)
    if not loud:
        return
    seen = f"timer ticks: {rate(max(rates.values()))} a second on {named_cpus(str(loud))}"
    nohz_full = known(facts.line.nohz_full)
    if loud <= nohz_full:
        remedy = "let only one thread run on each CPU: the tick stays on while several take turns"
    else:
        remedy = nohz_full_remedy(facts.line, known(facts.line.isolated) | loud)
    yield _Suspect(sum(rates.values()) * _TICK_COST, seen, remedy)


def _interrupts(noise: Noise, facts: Facts) -> Iterator[_Suspect]:
    isolated = known(facts.line.isolated) | known(facts.line.nohz_full) | known(facts.line.cpuset_isolated)
    for title, counts in noise.interrupts_by_cpu.items():
        name, _, number = title.removesuffix(")").rpartition("IRQ ")
        device = name.removesuffix(" (")
        per_second = noise.per_second(noise.interrupts[title])
        if per_second <= _QUIET_INTERRUPTS * len(noise.cpus) or _is_own(device):
            continue
        where = CpuSet(counts)
        elsewhere = str(known(facts.line.online) - isolated - noise.cpus) or UNKNOWN_HOUSEKEEPING
        yield _Suspect(
            per_second * _INTERRUPT_COST,
            f"{rate(per_second)} interrupts a second of {title} on {named_cpus(str(where))}",
            moved_interrupts(number, elsewhere),
        )


def _is_own(device: str) -> bool:
    """Whether the CPUs' owner causes these: a device that is passed through to it, or I/O that it started."""
    return device.startswith("vfio") or is_named_as_managed(device)


def _ipis(noise: Noise, cpus: CpuSet) -> Iterator[_Suspect]:
    per_second = noise.per_second(noise.ipis)
    if per_second > _QUIET_IPIS * len(cpus):
        yield _Suspect(
            per_second * _IPI_COST,
            f"{rate(per_second)} interrupts a second from other CPUs on {named_cpus(str(cpus))}",
            "keep the owner's other threads from mapping and unmapping memory, and from waking threads on these CPUs",
        )


def _neighbours(noise: Noise, cpus: CpuSet) -> Iterator[_Suspect]:
    remedy = PIN_EACH
    waited = noise.per_second(noise.waited_ns or 0)
    if waited > _QUIET_WAIT_NS * len(cpus):
        seen = f"threads waited {rate(waited / 1e6)} ms in each second for {named_cpus(str(cpus))}"
        yield _Suspect(waited, seen, remedy)
    switches = noise.per_second(noise.involuntary or 0)
    if switches > QUIET_SWITCHES * len(cpus):
        seen = f"{rate(switches)} times a second another thread took over on {named_cpus(str(cpus))}"
        yield _Suspect(switches * _SWITCH_COST, seen, remedy)
