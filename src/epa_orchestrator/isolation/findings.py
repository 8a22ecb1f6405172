# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Findings: what a check has found, and the table of all checks with the reason why each one matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from epa_orchestrator.units import utc

Result = Literal["fail", "warn", "not-checked", "pass"]

#: The results, worst first.
RESULTS: Final[tuple[Result, ...]] = ("fail", "warn", "not-checked", "pass")
#: What checks need; the command `audit` recognises these, and adds how to get it.
AN_ISOLATED_CPU: Final = "an isolated CPU"
CLAIMS: Final = "the daemon's claims"
DEVICE_OWNERS: Final = "the claims, to tell whose device "


class Check(NamedTuple):
    """A check: its title, why it matters, and whether it may fail. The others warn at most."""

    title: str
    why: str
    may_fail: bool = False


#: All checks by their ids, in the order in which they are listed.
CHECKS: Final[dict[str, Check]] = {
    "A1": Check(
        "The kernel line is in force",
        "The kernel silently drops a parameter with a mistake, so CPUs that it names may not be isolated.",
        may_fail=True,
    ),
    "A2": Check(
        "One isolcpus= on the kernel line",
        "The kernel takes the first isolcpus= and drops a later one that differs.",
        may_fail=True,
    ),
    "A3": Check(
        "isolcpus= isolates from the scheduler",
        "Without the flag domain, the scheduler still moves other tasks to these CPUs.",
        may_fail=True,
    ),
    "A4": Check(
        "No unknown parameter on the kernel line",
        "The kernel ignores parameters that it does not know, so what they ask for does not happen.",
    ),
    "A5": Check(
        "The kernel can isolate",
        "A kernel that was built without these features ignores their parameters.",
    ),
    "A6": Check(
        "No change of the kernel line is pending",
        "A change in the boot loader's files takes effect only after update-grub and a reboot.",
    ),
    "B1": Check(
        "Isolated CPUs are out of the scheduler's domains",
        "The scheduler moves tasks to each CPU of its domains.",
        may_fail=True,
    ),
    "B2": Check(
        "PID 1 stays off the isolated CPUs",
        "Every service inherits its CPUs from PID 1.",
        may_fail=True,
    ),
    "B3": Check(
        "No strangers at work on isolated CPUs",
        "A task that does not belong to the owner takes CPU time and cache from it.",
        may_fail=True,
    ),
    "B4": Check(
        "No movable kernel threads on isolated CPUs",
        "A kernel thread that may run anywhere interrupts the owner when it runs there.",
    ),
    "B5": Check(
        "Unbound workqueues stay off the isolated CPUs",
        "The kernel runs deferred work of other CPUs on each CPU of this mask.",
    ),
    "B6": Check(
        "Cpuset partitions are valid",
        "An invalid partition isolates nothing, although its settings say so.",
        may_fail=True,
    ),
    "B7": Check(
        "Whole cores are isolated, and each NUMA node has another CPU",
        "Threads of one core share its execution units and caches, so a busy sibling slows the isolated one down.",
    ),
    "C1": Check(
        "nohz_full covers the isolated CPUs",
        "Without nohz_full the timer interrupts a busy CPU 100 to 1,000 times a second.",
        may_fail=True,
    ),
    "C2": Check(
        "Busy isolated CPUs have no timer ticks (measured)",
        "Each timer tick takes a few microseconds from the owner.",
    ),
    "C3": Check(
        "RCU callbacks run elsewhere",
        "Callbacks of the kernel's RCU run on the CPU that queued them unless they are offloaded.",
    ),
    "C4": Check(
        "The lockup watchdog stays off the isolated CPUs",
        "The watchdog interrupts each CPU of its mask every few seconds.",
    ),
    "C6": Check(
        "The clock source is fast",
        "A slow clock source makes each reading of the time a slow access to a device.",
    ),
    "D1": Check(
        "New interrupts stay off the isolated CPUs",
        "A device that starts later gets its interrupts on the CPUs of the default mask.",
    ),
    "D2": Check(
        "Device interrupts stay off the isolated CPUs",
        "Each interrupt stops the owner for several microseconds.",
        may_fail=True,
    ),
    "D3": Check(
        "No device interrupts arrive on isolated CPUs (measured)",
        "Each interrupt stops the owner for several microseconds.",
        may_fail=True,
    ),
    "D4": Check(
        "Managed interrupts stay off the isolated CPUs",
        "The kernel places these interrupts itself, and nobody can move them later.",
    ),
    "D5": Check(
        "irqbalance leaves the isolated CPUs alone",
        "Any list of banned CPUs turns off irqbalance's own ban of the isolated CPUs.",
    ),
    "D6": Check(
        "Network packets are processed elsewhere",
        "RPS and XPS let the kernel process packets on each CPU of their masks.",
    ),
    "E1": Check(
        "Owners keep to their CPUs",
        "A thread of the owner that may run elsewhere does not use the CPUs that it was granted.",
    ),
    "E2": Check(
        "Owners' threads are not stacked",
        "Nothing balances isolated CPUs: threads that share one of them wait for each other while others idle.",
        may_fail=True,
    ),
    "E3": Check(
        "Owners run undisturbed (measured)",
        "A thread that is interrupted by others, or waits for its CPU, loses time.",
    ),
    "F1": Check(
        "The frequency governor is performance",
        "Other governors lower the frequency, and raising it again takes time.",
    ),
    "F2": Check(
        "No deep idle states",
        "Waking up from a deep idle state takes more than 100 microseconds.",
    ),
    "F3": Check(
        "No stolen time",
        "A hypervisor that runs others on this CPU stops the owner without a trace in the guest.",
    ),
    "F5": Check(
        "No memory scanners",
        "KSM, huge page assembly and NUMA balancing make pages fault while the owner runs.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    `seen` and `remedy` are sentences without a final full stop; `remedy` is empty where nothing has to be done. For the
    result `not-checked`, `seen` starts with "needs ". `since` is the time, in seconds since 1970, of the reading since
    which this is so.
    """

    id: str
    result: Result
    seen: str
    remedy: str = ""
    since: float = 0.0

    @property
    def why(self) -> str:
        """Why the check matters."""
        return CHECKS[self.id].why

    def document(self) -> dict[str, str]:
        """The finding as JSON, with the time as text, in UTC by ISO 8601."""
        return {
            "id": self.id,
            "result": self.result,
            "seen": self.seen,
            "why": self.why,
            "remedy": self.remedy,
            "since": utc(self.since),
        }


def passed(check: str, seen: str) -> Finding:
    """The check found nothing wrong."""
    return Finding(check, "pass", seen)


def bad(check: str, seen: str, remedy: str) -> Finding:
    """The check found a fault: it fails if it may, and warns otherwise."""
    return Finding(check, "fail" if CHECKS[check].may_fail else "warn", seen, remedy)


def warned(check: str, seen: str, remedy: str) -> Finding:
    """The check found something that an operator should know and that breaks nothing."""
    return Finding(check, "warn", seen, remedy)


def not_checked(check: str, needs: str, remedy: str = "") -> Finding:
    """The check could not be made; `needs` says what is missing, such as "two readings"."""
    return Finding(check, "not-checked", f"needs {needs}", remedy)
