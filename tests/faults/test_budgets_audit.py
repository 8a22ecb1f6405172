# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Budget in CPU time of an audit of a large host: 512 CPUs, 5,000 tasks, 330 interrupts and 64 claims.

The files are in memory (tmpfs), which serves them about as quickly as the kernel makes those of /proc.
"""

from __future__ import annotations

import gc
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, Owner
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import CHECKS
from epa_orchestrator.isolation.host_files import HostTree, Unread
from epa_orchestrator.isolation.judge import judge
from tests.isolated_hosts import HostInterrupt, HostTask, IsolatedHost
from tools.synthetic import Shape

Made = TypeVar("Made")

#: CPU seconds of two readings and their judgement.
BUDGET: Final = 1.0

SHAPE: Final = Shape(packages=2, nodes_per_package=4, l3_per_node=4, cores_per_l3=8, threads_per_core=2)
TASKS: Final = 5000
INTERRUPTS: Final = 330
CLAIMS: Final = 64

#: Threads of an owner, of which the first `CPUS_EACH` are busy.
THREADS_EACH: Final = 10
CPUS_EACH: Final = 6


def large_host() -> tuple[IsolatedHost, tuple[Owner, ...]]:
    """The host, and the owners of its claims."""
    host = IsolatedHost(SHAPE)
    free = iter(host.isolated)
    owners = tuple(claim(host, number, list(itertools.islice(free, CPUS_EACH))) for number in range(CLAIMS))
    keep = list(host.housekeeping)
    for number in range(100, 100 + INTERRUPTS - len(host.interrupts)):
        cpu = keep[number % len(keep)]
        host.interrupts.append(
            HostInterrupt(number, f"nvme{number % 8}q{number // 8}", str(cpu), str(cpu), rate={cpu: 50})
        )
    process, housekeeping = 100_000, str(host.housekeeping)
    while len(host.tasks) < TASKS:  # services with ten threads each
        group = f"/system.slice/service-{process}.service"
        threads = range(process, process + min(10, TASKS - len(host.tasks)))
        host.tasks += [HostTask(tid, "worker", housekeeping, cgroup=group, pid=process) for tid in threads]
        process += 10
    return host, owners


def claim(host: IsolatedHost, number: int, cpus: list[int]) -> Owner:
    """A claim of some CPUs, and its owner's threads: one busy on each CPU, the others asleep."""
    unit, pid = f"switch-{number}.service", 50_000 + 100 * number
    for place in range(THREADS_EACH):
        busy = place < len(cpus)
        allowed = str(cpus[place]) if busy else str(CpuSet(cpus))
        group = f"/system.slice/{unit}"
        host.tasks.append(HostTask(pid + place, f"pmd-{place}", allowed, "R" if busy else "S", group, pid=pid))
    return Owner(f"switch-{number}", CpuSet(cpus), unit=unit, pid=pid, asked_at=1000.0)


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory in memory."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("this host has no tmpfs at /dev/shm")
    directory = Path(tempfile.mkdtemp(dir=memory))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def write(files: dict[str, str], root: Path) -> None:
    """Write the files, each directory made once."""
    for directory in {path.rpartition("/")[0] for path in files}:
        (root / directory).mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        (root / path).write_text(text)


class Audit:
    """What `audit --measure` does, with the CPU time that it took."""

    def __init__(self) -> None:
        self.spent = 0.0

    def timed(self, work: Callable[[], Made]) -> Made:
        """Do something, and add its CPU time."""
        gc.collect()
        begin = time.process_time()
        made = work()
        self.spent += time.process_time() - begin
        return made


def test_audit_of_512_cpus_and_5000_tasks_costs_under_1_s(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host, owners = large_host()
    assert (len(host.cpus), len(host.tasks), len(host.interrupts)) == (512, TASKS, INTERRUPTS)
    written = host.files()
    write(written, root)
    earlier = read_facts(HostTree(root), host.uptime)
    spent: list[float] = []
    for _ in range(3):
        host.go_on(10.0)
        files = host.files()
        write({path: text for path, text in files.items() if written[path] != text}, root)
        written, audit = files, Audit()
        audit.timed(lambda: read_facts(HostTree(root), 0.0))  # the first reading costs as much as the second one
        now = audit.timed(lambda: read_facts(HostTree(root), host.uptime))
        found = audit.timed(partial(judge, Case(now, earlier=earlier, owners=owners)))
        spent.append(audit.spent)
        assert not isinstance(now.tasks, Unread)
        assert len(now.tasks) == TASKS
        assert [each.id for each in found] == list(CHECKS)
        assert {each.id: each.seen for each in found if each.result != "pass"} == {}
    with capsys.disabled():
        print(f"\nan audit of {len(host.cpus)} CPUs and {TASKS:,} tasks: {min(spent):.2f} s of CPU")
    assert min(spent) < BUDGET
