# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tick checks: whether timer, RCU callbacks, lockup watchdog and clock source leave the isolated CPUs alone."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.boot_lists import read_boot_list
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.elapsed import TWO_READINGS, added_to, measured
from epa_orchestrator.isolation.facts import Facts
from epa_orchestrator.isolation.findings import AN_ISOLATED_CPU, Finding, bad, not_checked, passed, warned
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.housekeeping import first_of
from epa_orchestrator.isolation.interrupt_counters import Counters
from epa_orchestrator.isolation.noise import QUIET_TICKS
from epa_orchestrator.isolation.remedies import housekeeping_list, isolated_list, line_remedy, nohz_full_remedy
from epa_orchestrator.units import cpus_are, named_cpus

#: A CPU that works for at least half of the time counts as busy: an idle one has no tick anyway.
_BUSY: Final = 0.5

#: A reading of these is an access to a device, or counts ticks.
_SLOW_CLOCKS: Final = frozenset({"hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"})
#: Those of guests, which are as fast as the TSC where a hypervisor offers them.
_GUEST_CLOCKS: Final = ("kvm-clock", "hyperv_clocksource", "xen")


def tick_checks(case: Case) -> Iterator[Finding]:
    """The findings C1 to C6."""
    for check, judgement in _CHECKS.items():
        yield judgement(case) if case.isolated else not_checked(check, AN_ISOLATED_CPU)


def _nohz_full(case: Case) -> Finding:
    if case.terms.nohz_full == "none":
        return passed("C1", "Not wanted: the option nohz-full is none")
    cpus = case.now.line.nohz_full
    if isinstance(cpus, Unread):
        if cpus.reason == "denied" or (not case.now.line.lacks_nohz_full and case.line.values("nohz_full")):
            return not_checked("C1", cpus.needs)
        return bad(
            "C1",
            f"nohz_full is not in force on {named_cpus(str(case.isolated))}: this kernel does not have it",
            f"boot a kernel with CONFIG_NO_HZ_FULL=y, and nohz_full={isolated_list(case)} on the kernel line",
        )
    missing = case.isolated - cpus
    if not missing:
        return passed("C1", f"nohz_full covers {named_cpus(str(case.isolated))}")
    seen = f"nohz_full does not cover {named_cpus(str(missing))}"
    boot_cpu = first_of(known(case.now.line.present))
    if missing <= boot_cpu:
        return bad("C1", seen, f"take CPU {missing} out of isolcpus=, then reboot: the kernel needs a CPU with a tick")
    return bad("C1", seen, nohz_full_remedy(case.now.line, case.in_force | case.all_isolated))


def _ticks(case: Case) -> Finding:
    readings = measured(case)
    if readings is None:
        return not_checked("C2", TWO_READINGS)
    earlier, seconds = readings
    counters = (earlier.interrupts.counters, case.now.interrupts.counters)
    times = (earlier.tick.cpu_times, case.now.tick.cpu_times)
    unread = next((fact for fact in (*counters, *times) if isinstance(fact, Unread)), None)
    if unread is not None:
        return not_checked("C2", unread.needs)
    before, after = _tick_counts(counters[0]), _tick_counts(counters[1])
    busy = _busy_cpus(case, earlier)
    rates = {cpu: added_to(before.get(cpu, 0), after.get(cpu, 0)) / seconds for cpu in busy}
    loud = CpuSet(cpu for cpu, rate in rates.items() if rate > QUIET_TICKS)
    if loud:
        crowded = _crowded_cpus(earlier, case.now)
        if isinstance(crowded, Unread):
            return not_checked("C2", crowded.needs)
        loud -= crowded
    if not loud:
        quiet = f"No busy isolated CPU has more than {QUIET_TICKS} timer ticks a second (one is normal)"
        return passed("C2", quiet if busy else f"{cpus_are(str(case.isolated))} idle, so nothing ticks there")
    rate = max(rates[cpu] for cpu in loud)
    return warned("C2", f"{rate:,.0f} timer ticks a second on {named_cpus(str(loud))}", _tick_remedy(case, loud))


def _tick_remedy(case: Case, loud: CpuSet) -> str:
    nohz_full = known(case.now.line.nohz_full)
    if loud <= nohz_full:
        return "stop the tasks on these CPUs from using CPU timers (setitimer, RLIMIT_CPU) and perf events"
    return nohz_full_remedy(case.now.line, case.in_force | case.all_isolated)


def _tick_counts(counters: Counters | Unread) -> Mapping[int, int]:
    total: Tally[int] = Tally()
    for line in () if isinstance(counters, Unread) else counters.lines:
        if line.kind == "tick":
            total.update(line.counts)
    return total


def _busy_cpus(case: Case, earlier: Facts) -> CpuSet:
    """The isolated CPUs that worked for most of the time between two readings."""
    before, after = earlier.tick.cpu_times, case.now.tick.cpu_times
    if isinstance(before, Unread) or isinstance(after, Unread):
        return EMPTY
    added = {cpu: after[cpu].since(before[cpu]) for cpu in case.isolated if cpu in before and cpu in after}
    return CpuSet(cpu for cpu, times in added.items() if times.busy > _BUSY * (times.busy + times.idle + times.steal))


def _crowded_cpus(*readings: Facts) -> CpuSet | Unread:
    """The CPUs with several runnable tasks in one of the readings: these need the tick to take turns."""
    crowded = EMPTY
    for facts in readings:
        if isinstance(facts.tasks, Unread):
            return facts.tasks
        runnable = Tally(task.cpu for task in facts.tasks if task.state == "R")
        crowded |= CpuSet(cpu for cpu, count in runnable.items() if count > 1)
    return crowded


def _rcu_callbacks(case: Case) -> Finding:
    nohz_full = known(case.now.line.nohz_full)
    uncovered = case.isolated - nohz_full
    if uncovered and isinstance(case.now.line.cmdline, Unread):
        return not_checked("C3", case.now.line.cmdline.needs)
    asked = _offloaded(case)
    missing = uncovered - asked
    if not missing:
        return passed("C3", f"RCU callbacks of {named_cpus(str(case.isolated))} run on other CPUs")
    wanted = str(asked | case.in_force | case.all_isolated)
    return warned(
        "C3",
        f"Neither rcu_nocbs= nor nohz_full= names {named_cpus(str(missing))}",
        line_remedy("rcu_nocbs", wanted, is_set=bool(asked)),
    )


def _offloaded(case: Case) -> CpuSet:
    """The CPUs of rcu_nocbs=.

    The last one counts; without a list it names no CPU, and a list with a mistake means all (kernel/rcu/tree_nocb.h).
    """
    ids = case.now.line.cpu_ids | case.isolated
    cpu_count = ids.mask.bit_length() or None
    lists = [read_boot_list(text, cpu_count) for text in case.line.values("rcu_nocbs")]
    if not lists:
        return EMPTY
    return case.in_force | case.all_isolated if lists[-1].mistake else lists[-1].cpus


def _watchdog(case: Case) -> Finding:
    tick = case.now.tick
    if tick.watchdog == "0" or (tick.soft_watchdog == "0" and tick.nmi_watchdog == "0"):
        return passed("C4", "The lockup watchdog is off")
    if isinstance(tick.watchdog_cpus, Unread):
        return not_checked("C4", tick.watchdog_cpus.needs)
    watched = tick.watchdog_cpus & case.isolated
    if not watched:
        return passed("C4", f"The lockup watchdog does not run on {named_cpus(str(case.isolated))}")
    return warned(
        "C4",
        f"The lockup watchdog runs on {named_cpus(str(watched))}",
        f"sudo sysctl -w kernel.watchdog_cpumask={housekeeping_list(case)}",
    )


def _clock_source(case: Case) -> Finding:
    clock = case.now.tick.clock_source
    if isinstance(clock, Unread):
        return not_checked("C6", clock.needs)
    clock = printable(clock[:40])
    if not clock:
        return not_checked("C6", "the name of the clock source")
    available = case.now.tick.clock_sources
    is_x86_with_tsc = not isinstance(available, Unread) and "tsc" in available
    is_fast = clock.startswith(("tsc", *_GUEST_CLOCKS))
    if clock not in _SLOW_CLOCKS and (is_fast or not is_x86_with_tsc):
        return passed("C6", f"The clock source is {clock}")
    return warned(
        "C6",
        f"The clock source is {clock}, not tsc",
        "update the firmware; if the TSC is good, add tsc=nowatchdog to the kernel line, then reboot; to see why the "
        "kernel did not choose it: sudo dmesg | grep -i -e tsc -e clocksource",
    )


_CHECKS: Final = {"C1": _nohz_full, "C2": _ticks, "C3": _rcu_callbacks, "C4": _watchdog, "C6": _clock_source}
