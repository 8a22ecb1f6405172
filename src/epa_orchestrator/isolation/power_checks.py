# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Power checks: whether isolated CPUs keep their speed, and hypervisor and memory management leave them alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.elapsed import measured
from epa_orchestrator.isolation.findings import AN_ISOLATED_CPU, Finding, not_checked, passed, warned
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.owners import USER_HZ
from epa_orchestrator.isolation.power_facts import CpuPower
from epa_orchestrator.isolation.remedies import braced
from epa_orchestrator.isolation.tick_facts import CpuTimes
from epa_orchestrator.units import joined, named_cpus

#: In µs. C1 and C1E of current processors take up to 10, C6 takes 133 to 290 (drivers/idle/intel_idle.c).
_LONGEST_WAKEUP: Final = 100
#: A CPU that idles for less than this share of the time polls for work, and enters no idle state.
_NEVER_IDLE: Final = 0.01
_CPU_FILES: Final = "the files of the isolated CPUs"
_CPU: Final = "/sys/devices/system/cpu/cpu"


def power_checks(case: Case) -> Iterator[Finding]:
    """The findings F1 to F5."""
    for check, judgement in _CHECKS.items():
        yield judgement(case) if case.isolated else not_checked(check, AN_ISOLATED_CPU)


def _powers(case: Case) -> Mapping[int, CpuPower]:
    return {cpu: power for cpu, power in case.now.power.cpus.items() if cpu in case.isolated}


def _governor(case: Case) -> Finding:
    powers = _powers(case)
    slow: dict[str, list[int]] = {}
    hidden: Unread | None = None
    scales = False
    for cpu, power in powers.items():
        if isinstance(power.governor, Unread):
            hidden = power.governor if power.governor.reason == "denied" else hidden
            continue
        scales = True
        if power.governor != "performance":
            slow.setdefault(printable(power.governor[:40]), []).append(cpu)
    if slow:
        parts = [f"{name} on {named_cpus(str(CpuSet(cpus)))}" for name, cpus in sorted(slow.items())]
        cpus = CpuSet(cpu for some in slow.values() for cpu in some)
        return warned(
            "F1",
            f"The frequency governor is {', '.join(parts)}",
            f"echo performance | sudo tee {_CPU}{braced(cpus)}/cpufreq/scaling_governor",
        )
    if hidden is not None or not powers:
        return not_checked("F1", hidden.needs if hidden is not None else _CPU_FILES)
    if not scales:
        if isinstance(case.now.scheduler.machine, Unread):
            return not_checked("F1", _CPU_FILES)
        return passed("F1", f"No frequency scaling on {named_cpus(str(case.isolated))}")
    return passed("F1", f"The frequency governor is performance on {named_cpus(str(case.isolated))}")


def _idle_states(case: Case) -> Finding:
    powers = _powers(case)
    if not powers:
        return not_checked("F2", _CPU_FILES)
    never_idle = _polling_cpus(case)
    deep = CpuSet(cpu for cpu, power in powers.items() if power.wakeup > _LONGEST_WAKEUP and cpu not in never_idle)
    if deep:
        longest = max(powers[cpu].wakeup for cpu in deep)
        return warned(
            "F2",
            f"Waking up takes up to {longest} µs on {named_cpus(str(deep))}",
            f"echo {_LONGEST_WAKEUP} | sudo tee {_CPU}{braced(deep)}/power/pm_qos_resume_latency_us",
        )
    unread = [power.latencies for power in powers.values() if isinstance(power.latencies, Unread)]
    hidden = next((latencies for latencies in unread if latencies.reason == "denied"), None)
    if hidden is not None:
        return not_checked("F2", hidden.needs)
    if len(unread) == len(powers):
        if isinstance(case.now.scheduler.machine, Unread):
            return not_checked("F2", _CPU_FILES)
        return passed("F2", f"No idle states to choose from on {named_cpus(str(case.isolated))}")
    return passed("F2", f"Waking up takes at most {_LONGEST_WAKEUP} µs, or the CPU is never idle")


def _polling_cpus(case: Case) -> CpuSet:
    """The CPUs that were never idle between two readings."""
    times = _measured_times(case)
    if times is None:
        return CpuSet()
    return CpuSet(cpu for cpu, spent in times.items() if spent.busy and spent.idle < _NEVER_IDLE * spent.busy)


def _measured_times(case: Case) -> Mapping[int, CpuTimes] | None:
    """The times of the isolated CPUs between two readings, None without two."""
    readings = measured(case)
    now = case.now.tick.cpu_times
    if readings is None or isinstance(now, Unread):
        return None
    before = readings[0].tick.cpu_times
    if isinstance(before, Unread):
        return None
    return {cpu: now[cpu].since(before[cpu]) for cpu in case.isolated if cpu in now and cpu in before}


def _steal(case: Case) -> Finding:
    times = case.now.tick.cpu_times
    if isinstance(times, Unread):
        return not_checked("F3", times.needs)
    measured_times = _measured_times(case)
    when = "since the boot" if measured_times is None else "between two readings"
    spent = times if measured_times is None else measured_times
    judged = {cpu: spent[cpu] for cpu in case.isolated if cpu in spent}
    if not judged:
        return not_checked("F3", "the times of the isolated CPUs in /proc/stat")
    stolen = CpuSet(cpu for cpu, time in judged.items() if time.steal)
    if not stolen:
        return passed("F3", f"No time was stolen from {named_cpus(str(CpuSet(judged)))} {when}")
    seconds = sum(judged[cpu].steal for cpu in stolen) / USER_HZ
    return warned(
        "F3",
        f"The hypervisor took {seconds:.2f} s from {named_cpus(str(stolen))} {when}",
        "on the hypervisor, pin each virtual CPU of this machine to a CPU of its own",
    )


def _memory_scanners(case: Case) -> Finding:
    power = case.now.power
    words = {"KSM": power.ksm, "transparent huge pages": power.huge_pages, "NUMA balancing": power.numa_balancing}
    known = {name: word for name, word in words.items() if not isinstance(word, Unread)}
    found = {name: word for name, word in known.items() if _is_on(name, word)}
    if found:
        verb = "is" if len(found) == 1 and "transparent huge pages" not in found else "are"
        remedies = [_OFF[name] for name in found]
        return warned("F5", f"{_beginning(list(found))} {verb} on", "; ".join(remedies))
    unread = [word for word in words.values() if isinstance(word, Unread)]
    hidden = next((word for word in unread if word.reason == "denied"), unread[0] if not known else None)
    if hidden is not None:
        return not_checked("F5", hidden.needs)
    verb = "is" if list(known) in (["KSM"], ["NUMA balancing"]) else "are"
    return passed("F5", f"{_beginning(list(known))} {verb} off")


def _is_on(name: str, word: str) -> bool:
    """KSM scans with 1 (2 undoes what it did), NUMA balancing with any other number than 0."""
    if name == "transparent huge pages":
        return "[always]" in word
    return word == "1" if name == "KSM" else word not in ("", "0")


def _beginning(names: list[str]) -> str:
    """The names as the beginning of a sentence."""
    text = joined(names)
    return text[:1].upper() + text[1:]


#: The values of tuned's profiles network-latency and realtime-virtual-host.
_OFF: Final = {
    "KSM": "echo 2 | sudo tee /sys/kernel/mm/ksm/run",
    "transparent huge pages": "echo never | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
    "NUMA balancing": "sudo sysctl -w kernel.numa_balancing=0",
}

_CHECKS: Final = {"F1": _governor, "F2": _idle_states, "F3": _steal, "F5": _memory_scanners}
