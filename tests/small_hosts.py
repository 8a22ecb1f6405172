# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Small hosts with isolated CPUs, as files: what recordings and the command line need of a host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Flags of kernel threads (include/linux/sched.h).
_KERNEL_THREAD = 0x00200000
_BOUND = 0x04000000

_GOOD = "isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1"


def task(pid: int, name: str, cpus: str, *, flags: int = 0, cpu: int = 0, state: str = "S") -> dict[str, str]:
    """The files of a process with one thread."""
    numbers = [1, pid, pid, 0, -1, flags, 0, 0, 0, 0, 5, 5, 0, 0, 20, 0, 1, 0, 100, *[0] * 16, cpu, *[0] * 13]
    stat = f"{pid} ({name}) {state} {' '.join(map(str, numbers))}\n"
    status = (
        f"Name:\t{name}\nUmask:\t0022\nState:\t{state}\nTgid:\t{pid}\nPid:\t{pid}\nUid:\t0\n"
        f"Cpus_allowed_list:\t{cpus}\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n"
    )
    files = {"stat": stat, "status": status, "cgroup": f"0::/system.slice/{name}.service\n"}
    directories = (f"proc/{pid}",) if flags else (f"proc/{pid}", f"proc/{pid}/task/{pid}")
    return {f"{directory}/{file}": text for directory in directories for file, text in files.items()}


def host(line: str = _GOOD, isolated: str = "2-3", **more: str) -> dict[str, str]:
    """A host with the CPUs 0-3, and these files in addition; `__` in their names stands for a slash."""
    cpu = "sys/devices/system/cpu"
    files = {
        "proc/cmdline": f"BOOT_IMAGE=/vmlinuz root=/dev/vda1 {line}\n",
        "proc/uptime": "100.00 300.00\n",
        "proc/schedstat": "version 17\n" + "".join(_schedstat(number, isolated) for number in range(4)),
        f"{cpu}/present": "0-3\n",
        f"{cpu}/possible": "0-3\n",
        f"{cpu}/online": "0-3\n",
        f"{cpu}/isolated": f"{isolated}\n",
        f"{cpu}/nohz_full": "2-3\n" if "nohz_full" in line else "(null)\n",
        "sys/devices/virtual/workqueue/cpumask": "3\n",
        "proc/irq/default_smp_affinity": "3\n",
        **task(1, "systemd", "0-1"),
        **task(2, "kthreadd", "0-1", flags=_KERNEL_THREAD),
        **task(20, "ksoftirqd/2", "2", flags=_KERNEL_THREAD | _BOUND, cpu=2),
        **task(300, "sshd", "0-1"),
    }
    return files | {path.replace("__", "/"): text for path, text in more.items()}


def _schedstat(cpu: int, isolated: str) -> str:
    domain = "" if isolated and cpu > 1 else "domain0 MC 0f 0 0 0\n"
    return f"cpu{cpu} 0 0 0 0 0 0 0 0 0\n{domain}"


def write_host(files: Mapping[str, str], root: Path) -> Path:
    """Write the files below a directory."""
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root
