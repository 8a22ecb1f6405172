# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hosts to audit: four CPUs, of which 2-3 are isolated, with counters and tasks that tests choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.facts import Facts, read_facts
from epa_orchestrator.isolation.host_files import RecordedHost

BOOT = "5a1c"
#: The time of the boot, in seconds since 1970.
BOOTED_AT = 1_000_000.0
_KERNEL_THREAD = 0x00200000


class Thread(NamedTuple):
    """A thread: by default a busy one of a process of its own."""

    pid: int
    name: str = "worker"
    cpus: str = "0-1"
    cpu: int = 0
    tid: int = 0
    ticks: int = 100
    involuntary: int = 0
    cgroup: str = "/system.slice/other.service"
    state: str = "R"
    started: int = 100


KTHREADD = Thread(2, "kthreadd", "0-3")


def files_of(
    uptime: float = 100.0,
    ticks: tuple[int, int, int, int] = (0, 0, 0, 0),
    eth0: tuple[int, int, int, int] = (0, 0, 0, 0),
    threads: tuple[Thread, ...] = (),
    boot: str = BOOT,
) -> dict[str, str]:
    """The files of a host that has run for `uptime` seconds."""
    files = {
        "proc/cmdline": "isolcpus=domain,managed_irq,2-3\n",
        "proc/uptime": f"{uptime} 1.0\n",
        "proc/sys/kernel/random/boot_id": f"{boot}\n",
        "proc/interrupts": "           CPU0       CPU1       CPU2       CPU3\n"
        f" 45: {_columns(eth0)} PCI-MSI 45-edge      eth0-rx-0\n"
        f"LOC: {_columns(ticks)} Local timer interrupts\n",
        "sys/devices/system/cpu/present": "0-3\n",
        "sys/fs/cgroup/cgroup.subtree_control": "cpuset cpu\n",
        "sys/devices/system/cpu/online": "0-3\n",
        "sys/devices/system/cpu/isolated": "2-3\n",
        "sys/devices/system/cpu/nohz_full": "\n",
    }
    for thread in (KTHREADD, *threads):
        files |= _files_of_thread(thread)
    return files


def facts_of(uptime: float = 100.0, files: Mapping[str, str] | None = None, **more: object) -> Facts:
    """A reading of such a host."""
    found = files if files is not None else files_of(uptime, **more)  # type: ignore[arg-type]
    return read_facts(RecordedHost(found), BOOTED_AT + uptime)


def claim(service: str, cpus: str) -> Claim:
    """A claim of isolated CPUs."""
    return Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy")


def _columns(counts: tuple[int, int, int, int]) -> str:
    return " ".join(str(count).rjust(10) for count in counts)


def _files_of_thread(thread: Thread) -> dict[str, str]:
    pid, tid = thread.pid, thread.tid or thread.pid
    flags = _KERNEL_THREAD if thread.pid == KTHREADD.pid else 0
    fields = [thread.state, "1", "0", "0", "0", "-1", str(flags), *["0"] * 4]
    fields += [str(thread.ticks), "0", "0", "0", "20", "0", "1", "0", str(thread.started)]
    stat = f"{tid} ({thread.name}) {' '.join(fields + ['0'] * 16)} {thread.cpu} 0 0\n"
    status = (
        f"Name:\t{thread.name}\nCpus_allowed_list:\t{thread.cpus}\nnonvoluntary_ctxt_switches:\t{thread.involuntary}\n"
    )
    of_process = {f"proc/{pid}/stat": stat, f"proc/{pid}/status": status, f"proc/{pid}/cgroup": f"0::{thread.cgroup}\n"}
    directory = f"proc/{pid}/task/{tid}"
    return of_process | {f"{directory}/stat": stat, f"{directory}/status": status}
