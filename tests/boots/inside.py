# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs in the guest as root: makes a fault or some work, judges the host, undoes what it did, and prints the findings.

    python3 -m tests.boots.inside SCENARIO      # a name in SCENARIOS; prints one JSON object

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
from typing import Any, Final, NoReturn

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

#: The cgroup of somebody who owns nothing.
STRANGER_CGROUP: Final = "user.slice/stress.scope"

#: Shares of a CPU. A busy CPU slows all others down, because one thread of the real machine emulates them in turn.
IDLE: Final = 0.0
SOME: Final = 0.2

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
def running(cpus: str, cgroup: str, load: float = 1.0, count: int = 1) -> Generator[list[int]]:
    """Processes in a cgroup that may run on these CPUs, busy for `load` of the time; yields their ids."""
    children = [_start(cpus, cgroup, load) for _ in range(count)]
    try:
        time.sleep(1.0)
        yield children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _start(cpus: str, cgroup: str, load: float) -> int:
    child = os.fork()
    if child:
        return child
    try:
        enter(cgroup)
        work(cpus, load)
    finally:
        os._exit(1)


def enter(cgroup: str) -> None:
    """Move this process to a cgroup."""
    directory = CGROUPS / cgroup
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text(str(os.getpid()))


def work(cpus: str, load: float) -> NoReturn:
    """Run on these CPUs, busy for `load` of the time; begin on the first one, where the kernel would leave a thread."""
    allowed = CpuSet.parse(cpus)
    os.sched_setaffinity(0, list(allowed)[:1])
    os.sched_setaffinity(0, allowed)
    while True:
        end = time.process_time() + 0.2 * load
        while time.process_time() < end:
            pass
        time.sleep(0.2 * (1 - load))


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
    with running("2", OWNER_CGROUP) as pids:
        return twice(owner("2", pids))


def busy_stranger() -> dict[str, Any]:
    """Somebody else works on a CPU of the owner of CPUs 2-3."""
    with running("2", OWNER_CGROUP, IDLE) as pids, running("3", STRANGER_CGROUP, SOME):
        return twice(owner("2-3", pids))


def stacked_owner() -> dict[str, Any]:
    """Two busy processes of the owner may run on CPUs 2-3; nothing balances these CPUs, so they share one."""
    with running("2-3", OWNER_CGROUP, count=2) as pids:
        return twice(owner("2-3", pids))


def straying_owner() -> dict[str, Any]:
    """A process of the owner of CPUs 2-3 may also run on CPU 1, and works there."""
    with running("2", OWNER_CGROUP, IDLE) as pids, running("1-3", OWNER_CGROUP, SOME):
        return twice(owner("2-3", pids))


def crowded_owner() -> dict[str, Any]:
    """Two busy processes of the owner of CPU 2 share it, for longer than a start-up takes."""
    with running("2", OWNER_CGROUP, count=2) as pids:
        time.sleep(10)
        return twice(owner("2", pids))


def interrupt() -> dict[str, Any]:
    """The interrupt of the serial port is placed on CPU 3."""
    with serial_port_on("3"):
        return once(owners=())


def interrupt_at_work() -> dict[str, Any]:
    """The serial port's interrupt is placed on CPU 3, and arrives there between two readings."""
    with serial_port_on("3"):
        earlier = reading()
        for _ in range(20):
            send()
        return findings(Case(reading(), earlier=earlier, owners=()))


@contextlib.contextmanager
def serial_port_on(cpu: str) -> Generator[None]:
    """The serial port's interrupt on this CPU. The kernel moves it when the next one arrives."""
    with written(device_interrupt("ttyS0") / "smp_affinity_list", cpu):
        send()
        yield
    send()


def send() -> None:
    """Make the serial port interrupt."""
    with Path("/dev/ttyS0").open("wb", buffering=0) as port:
        port.write(b"test\n")
    time.sleep(0.1)


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
        crowded_owner,
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
