# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A host with the CPUs 0-3 whose CPUs 2-3 are quiet, as a table of files that tests change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, Owner, Terms
from epa_orchestrator.isolation.facts import Facts, read_facts
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.task_facts import Task

Files = Mapping[str, str | None]

CPU = "sys/devices/system/cpu"
CLOCK = "sys/devices/system/clocksource/clocksource0"

INTERRUPTS = """\
           CPU0       CPU1       CPU2       CPU3
  0:        124          0          0          0   IO-APIC   2-edge      timer
  4:          0         49          0          0   IO-APIC   4-edge      ttyS0
 45:        700          0          0          0  PCI-MSIX-0000:00:03.0   1-edge      virtio0-input.0
LOC:       9000       8000        100        100   Local timer interrupts
RES:         34         88          6          6   Rescheduling interrupts
CAL:        294        380         75         76   Function call interrupts
TLB:          0          0          0          0   TLB shootdowns
NMI:          0          0          1          2   Non-maskable interrupts
ERR:          0
"""

#: User, nice, system, idle, iowait, irq, softirq, steal, guest and guest_nice, in 1/100 s: CPU 2 is busy, CPU 3 idle.
STAT = """\
cpu  9200 0 516 2275 0 0 22 0 0 0
cpu0 23 0 334 266 0 0 6 0 0 0
cpu1 177 0 182 340 0 0 15 0 0 0
cpu2 9000 0 0 10 0 0 0 0 0 0
cpu3 0 0 0 9000 0 0 0 0 0 0
intr 4371 124 9
"""

GOOD: Mapping[str, str] = {
    "proc/cmdline": "isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1\n",
    "proc/uptime": "100.00 200.00\n",
    "proc/sys/kernel/random/boot_id": "a\n",
    f"{CPU}/possible": "0-3\n",
    f"{CPU}/present": "0-3\n",
    f"{CPU}/online": "0-3\n",
    f"{CPU}/isolated": "2-3\n",
    f"{CPU}/nohz_full": "2-3\n",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0\n",
    "proc/interrupts": INTERRUPTS,
    "proc/stat": STAT,
    "proc/irq/default_smp_affinity": "3\n",
    "proc/irq/4/smp_affinity_list": "0-1\n",
    "proc/irq/4/effective_affinity_list": "1\n",
    "proc/irq/45/smp_affinity_list": "0-1\n",
    "proc/irq/45/effective_affinity_list": "0\n",
    "proc/sys/kernel/watchdog": "1\n",
    "proc/sys/kernel/soft_watchdog": "1\n",
    "proc/sys/kernel/nmi_watchdog": "0\n",
    "proc/sys/kernel/watchdog_cpumask": "0-1\n",
    "proc/sys/kernel/numa_balancing": "0\n",
    f"{CLOCK}/current_clocksource": "tsc\n",
    f"{CLOCK}/available_clocksource": "tsc hpet acpi_pm \n",
    "sys/class/net/eth0/queues/rx-0/rps_cpus": "0\n",
    "sys/class/net/eth0/queues/tx-0/xps_cpus": "3\n",
    "sys/kernel/mm/ksm/run": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
}

#: What changes in 10 seconds on the quiet host: CPU 2 works all the time, and ticks once a second.
LATER: Mapping[str, str] = {
    "proc/uptime": "110.00 210.00\n",
    "proc/stat": STAT.replace("cpu2 9000", "cpu2 10000").replace("cpu3 0 0 0 9000", "cpu3 0 0 0 10000"),
    "proc/interrupts": INTERRUPTS.replace("8000        100", "8000        110"),
}


def host(changes: Files | None = None, denied: Iterable[str] = ()) -> RecordedHost:
    """The quiet host with other files; None takes one away."""
    files = {**GOOD, **(changes or {})}
    return RecordedHost({path: text for path, text in files.items() if text is not None}, denied)


def facts(
    changes: Files | None = None, *, denied: Iterable[str] = (), tasks: tuple[Task, ...] | Unread = (), at: float = 0.0
) -> Facts:
    """The facts of this host."""
    return replace(read_facts(host(changes, denied), at), tasks=tasks)


def case(
    changes: Files | None = None,
    *,
    denied: Iterable[str] = (),
    earlier: Facts | None = None,
    owners: tuple[Owner, ...] | None = None,
    terms: Terms | None = None,
    tasks: tuple[Task, ...] | Unread = (),
) -> Case:
    """The case of this host."""
    return Case(facts(changes, denied=denied, tasks=tasks), earlier, owners, terms or Terms())


def measured(changes: Files | None = None, *, tasks: tuple[Task, ...] | Unread = (), **others: object) -> Case:
    """The case of two readings 10 seconds apart, the second one with changes."""
    now = facts({**LATER, **(changes or {})}, tasks=tasks)
    return Case(now, facts(), **others)  # type: ignore[arg-type]


def task(cpu: int, state: str = "R", tid: int = 10, involuntary: int = 0) -> Task:
    """A task of a user."""
    return Task(
        pid=tid,
        tid=tid,
        parent=1,
        name="worker",
        state=state,
        is_kernel=False,
        may_be_moved=True,
        allowed=CpuSet([cpu]),
        cpu=cpu,
        ticks=0,
        started=0,
        involuntary=involuntary,
    )


def one(checks: Callable[[Case], Iterator[Finding]], check: str, case: Case) -> Finding:
    """The only finding of a check."""
    found = [finding for finding in checks(case) if finding.id == check]
    assert len(found) == 1
    return found[0]
