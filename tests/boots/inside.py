# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs in the guest as root: makes a fault or some work, judges the host, undoes what it did, and prints the findings.

    python3 inside.py SCENARIO      # a name in SCENARIOS; prints one JSON object

Times are generous, because an emulated CPU is slow and all of them share one CPU of the real machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, Owner, Terms
from epa_orchestrator.isolation.facts import Facts, read_facts
from epa_orchestrator.isolation.host_files import HostTree
from epa_orchestrator.isolation.judge import judge

CGROUPS: Final = Path("/sys/fs/cgroup")
WORKQUEUES: Final = Path("/sys/devices/virtual/workqueue/cpumask")
WATCHDOG: Final = Path("/proc/sys/kernel/watchdog_cpumask")

#: The unit of the owner in the tests, as systemd would name its cgroup.
UNIT: Final = "ovs-vswitchd.service"
OWNER_CGROUP: Final = f"system.slice/{UNIT}"

#: Seconds between two readings.
WINDOW: Final = 4.0

#: The terms of a host whose isolated CPUs come from isolcpus=, and from a cpuset partition.
ISOLCPUS: Final = Terms()
CPUSET: Final = Terms(isolated_cpus_from="cpuset")


def reading() -> Facts:
    """The facts as they are now."""
    return read_facts(HostTree("/"), time.time())


def findings(case: Case) -> dict[str, Any]:
    """What the tests look at: by id, the result, what was seen, and the remedy."""
    found = {each.id: {"result": each.result, "seen": each.seen, "remedy": each.remedy} for each in judge(case)}
    return {"findings": found}


def once(owners: tuple[Owner, ...] | None = None, terms: Terms = ISOLCPUS) -> dict[str, Any]:
    """One reading, judged."""
    return findings(Case(reading(), owners=owners, terms=terms))


def twice(owners: tuple[Owner, ...] | None = None, terms: Terms = ISOLCPUS) -> dict[str, Any]:
    """Two readings, judged."""
    earlier = reading()
    time.sleep(WINDOW)
    return findings(Case(reading(), earlier=earlier, owners=owners, terms=terms))


# --- what can be done to a host -------------------------------------------------------------------------------------


@contextlib.contextmanager
def written(path: Path, text: str) -> Generator[None]:
    """A file of the kernel with another text."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


@contextlib.contextmanager
def spinning(cpus: str, cgroup: str = "", count: int = 1) -> Generator[list[int]]:
    """Busy processes that may run on these CPUs, in a cgroup of their own; yields their ids."""
    children = [_spin(CpuSet.parse(cpus), cgroup) for _ in range(count)]
    try:
        time.sleep(1.0)
        yield children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _spin(cpus: CpuSet, cgroup: str) -> int:
    child = os.fork()
    if child:
        return child
    try:
        if cgroup:
            directory = CGROUPS / cgroup
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "cgroup.procs").write_text(str(os.getpid()))
        os.sched_setaffinity(0, cpus)
        while True:
            pass
    finally:
        os._exit(1)


@contextlib.contextmanager
def partition(cpus: str, kind: str = "isolated") -> Generator[None]:
    """A cpuset partition below the cgroup root; the kernel says itself whether it is valid."""
    (CGROUPS / "cgroup.subtree_control").write_text("+cpuset")
    directory = CGROUPS / "quiet"
    directory.mkdir()
    try:
        (directory / "cpuset.cpus").write_text(cpus)
        (directory / "cpuset.cpus.partition").write_text(kind)
        yield
    finally:
        directory.rmdir()


def owner(cpus: str, pids: list[int]) -> tuple[Owner, ...]:
    """One claim, whose owner is the unit of these processes."""
    return (Owner("ovs", CpuSet.parse(cpus), unit=UNIT, pid=pids[0], asked_at=time.time()),)


def device_interrupt(name: str) -> Path:
    """The directory of a device's interrupt in /proc/irq."""
    return next(path.parent for path in Path("/proc/irq").glob(f"*/{name}"))


# --- scenarios ------------------------------------------------------------------------------------------------------


def idle() -> dict[str, Any]:
    """Nothing runs on the isolated CPUs."""
    return twice(owners=())


def unknown_claims() -> dict[str, Any]:
    """One reading, without a daemon that knows the claims."""
    return once()


def busy_owner() -> dict[str, Any]:
    """The owner of CPU 2 is busy there."""
    with spinning("2", OWNER_CGROUP) as pids:
        return twice(owner("2", pids))


def busy_stranger() -> dict[str, Any]:
    """The owner of CPUs 2-3 is busy on one of them, and somebody else on the other."""
    with spinning("2", OWNER_CGROUP) as pids, spinning("3", "user.slice/stress.scope"):
        return twice(owner("2-3", pids))


def stacked_owner() -> dict[str, Any]:
    """Two busy processes of the owner may run on CPUs 2-3; nothing balances these CPUs, so they share one."""
    with spinning("2-3", OWNER_CGROUP, count=2) as pids:
        return twice(owner("2-3", pids))


def straying_owner() -> dict[str, Any]:
    """The owner of CPUs 2-3 also runs on CPU 1."""
    with spinning("2", OWNER_CGROUP) as pids, spinning("1", OWNER_CGROUP):
        return twice(owner("2-3", pids))


def interrupt() -> dict[str, Any]:
    """A device's interrupt is placed on CPU 3."""
    with written(device_interrupt("ttyS0") / "smp_affinity_list", "3"):
        return once(owners=())


def interrupt_at_work() -> dict[str, Any]:
    """A device's interrupt is placed on CPU 3, and arrives there."""
    with written(device_interrupt("virtio*-virtqueues") / "smp_affinity_list", "3"), talking():
        return twice(owners=())


@contextlib.contextmanager
def talking() -> Generator[None]:
    """A device at work: the port to the test, written to all the time by another process."""
    child = os.fork()
    if not child:
        try:
            with Path("/dev/vport0p2").open("wb", buffering=0) as port:
                while True:
                    port.write(b".\n")
                    time.sleep(0.01)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def workqueues() -> dict[str, Any]:
    """Unbound workqueues may run on all CPUs."""
    with written(WORKQUEUES, "f"):
        return once(owners=())


def watchdog() -> dict[str, Any]:
    """The lockup watchdog runs on all CPUs."""
    with written(WATCHDOG, "0-3"):
        return once(owners=())


def valid_partition() -> dict[str, Any]:
    """A partition isolates CPUs 2-3."""
    with partition("2-3"):
        return once(owners=(), terms=CPUSET)


def valid_partition_by_default() -> dict[str, Any]:
    """A partition isolates CPUs 2-3, and the option isolated-cpus-from has its default."""
    with partition("2-3"):
        return once(owners=())


def invalid_partition() -> dict[str, Any]:
    """A partition would take all CPUs of its parent, where tasks run, so the kernel makes it invalid."""
    with partition("0-3"):
        return once(owners=(), terms=CPUSET)


def raw_texts() -> dict[str, Any]:
    """What the kernel says itself, so that a test can tell a fault of the audit from one of the test."""
    names = ("proc/cmdline", "sys/devices/system/cpu/isolated", "sys/devices/system/cpu/nohz_full")
    return {name: HostTree("/").read(name) for name in names}


SCENARIOS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    scenario.__name__: scenario
    for scenario in (
        idle,
        unknown_claims,
        busy_owner,
        busy_stranger,
        stacked_owner,
        straying_owner,
        interrupt,
        interrupt_at_work,
        workqueues,
        watchdog,
        valid_partition,
        valid_partition_by_default,
        invalid_partition,
        raw_texts,
    )
}

if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[1]]()))
