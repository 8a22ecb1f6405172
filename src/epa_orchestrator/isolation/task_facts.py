# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task facts: every thread of the host with its CPUs, its state and its times.

Sources: Documentation/filesystems/proc.rst of the Linux kernel, and proc_pid_stat(5). A host has thousands of tasks,
so each file is read once and only the needed lines are cut out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.control_groups import cgroup_path
from epa_orchestrator.cpuset import EMPTY, MAX_CPU_ID, CpuSet
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.kernel_lists import kernel_number, whole_number

#: Flags of a task (include/linux/sched.h).
_KERNEL_THREAD: Final = 0x00200000
_NO_SETAFFINITY: Final = 0x04000000

_ALLOWED: Final = "\nCpus_allowed_list:"
_INVOLUNTARY: Final = "\nnonvoluntary_ctxt_switches:"

#: Two readings of so many take 100 MB. No host needs more, but a user may start a million.
_MOST_TASKS: Final = 100_000
_TOO_MANY: Final = Unread("proc", "denied", f"which shows more than {_MOST_TASKS:,} tasks")

#: After how many tasks to rest.
_BETWEEN_RESTS: Final = 16

#: The kernel's own first thread, which only processes in the first PID namespace see.
KTHREADD: Final = "proc/2/stat"


@dataclass(frozen=True, slots=True)
class Task:
    """A thread, as `/proc/PID/task/TID` shows it.

    `pid` is its process (the kernel's tgid) and `tid` the thread. `name` may be anything that the process chooses.
    `cpu` is the CPU where it runs, or ran last. `ticks` is the CPU time that it had (user and system), `started` the
    time of its start after boot, both in ticks of the user clock (100 a second). `cgroup` is its path in the hierarchy
    of systemd, None where it was not read. `waited_ns` is how long it was runnable and did not run; it is None for
    tasks with the CPUs of PID 1, which nobody placed.

    A kernel thread that may not be moved belongs to its CPU: its `allowed` is empty, and `involuntary` 0. Nobody judges
    these threads, and a host with many CPUs has thousands of them. `cgroup` and `waited_ns` are None for all kernel
    threads.
    """

    pid: int
    tid: int
    parent: int
    name: str
    state: str
    is_kernel: bool
    may_be_moved: bool
    allowed: CpuSet
    cpu: int
    ticks: int
    started: int
    involuntary: int
    cgroup: str | None = None
    waited_ns: int | None = None


def read_tasks(files: HostFiles, rest: Callable[[], None]) -> tuple[Task, ...] | Unread:
    """Read all tasks; `rest` is called often, and may sleep.

    A task that ends meanwhile, or that cannot be read, is left out. Without the kernel's threads, this process sees
    only a part of the host (a container, or the mount option hidepid), so the tasks count as unread.
    """
    names = files.names("proc")
    if isinstance(names, Unread):
        return names
    kthreadd = files.read(KTHREADD)
    if isinstance(kthreadd, Unread) and kthreadd.reason == "denied":
        return kthreadd
    reader = _TaskReader(files, read_cpu_line(files, "proc/1/status"))
    tasks: list[Task] = []
    until_rest = _BETWEEN_RESTS
    for pid in sorted(int(name) for name in names if name.isdecimal() and len(name) < 10):
        for task in reader.of_process(pid):
            if len(tasks) == _MOST_TASKS:
                return _TOO_MANY
            tasks.append(task)
            until_rest -= 1
            if not until_rest:
                rest()
                until_rest = _BETWEEN_RESTS
    return tuple(tasks) if any(task.is_kernel for task in tasks) else Unread(KTHREADD)


def read_cpu_line(files: HostFiles, path: str) -> CpuSet | Unread:
    """The CPUs on which a task may run, by its `status`."""
    text = files.read(path)
    if isinstance(text, Unread):
        return text
    try:
        return CpuSet.parse(_line(text, _ALLOWED))
    except ValueError:
        return Unread(path)


class _TaskReader:
    """Reads tasks; equal texts become one object."""

    def __init__(self, files: HostFiles, default: CpuSet | Unread) -> None:
        self._files = files
        self._default = default
        self._cpu_sets: dict[str, CpuSet] = {}
        self._cgroups: dict[str, str] = {}

    def of_process(self, pid: int) -> Iterator[Task]:
        """The threads of a process."""
        directory = f"proc/{pid}"
        stat = self._files.read(f"{directory}/stat")
        if isinstance(stat, Unread):
            return
        if is_kernel_thread(stat):
            task = self._task(pid, pid, directory, stat, None)
            if task is not None:
                yield task
            return
        cgroup = self._cgroup(directory)
        names = self._files.names(f"{directory}/task")
        if isinstance(names, Unread):  # a confinement may allow the process's own files only
            threads = [(pid, directory)]
        else:
            threads = [(int(name), f"{directory}/task/{name}") for name in names if name.isdecimal() and len(name) < 10]
        for tid, files in threads:
            text = self._files.read(f"{files}/stat")
            task = None if isinstance(text, Unread) else self._task(pid, tid, files, text, cgroup)
            if task is not None:
                yield task

    def _task(self, pid: int, tid: int, directory: str, stat: str, cgroup: str | None) -> Task | None:
        """The task with this `stat`, None if it has ended or the text is none of the kernel's."""
        opening, closing = stat.find("("), stat.rfind(")")
        fields = stat[closing + 2 :].split()
        try:
            flags, cpu = kernel_number(fields[6]), kernel_number(fields[36])
            if not 0 <= cpu <= MAX_CPU_ID:
                return None
            is_kernel, may_be_moved = bool(flags & _KERNEL_THREAD), not flags & _NO_SETAFFINITY
            allowed, involuntary = EMPTY, 0
            if may_be_moved or not is_kernel:
                status = self._files.read(f"{directory}/status")
                if isinstance(status, Unread):
                    return None
                allowed = self._cpus(_line(status, _ALLOWED))
                involuntary = kernel_number(_line(status, _INVOLUNTARY) or "0")
            return Task(
                pid=pid,
                tid=tid,
                parent=kernel_number(fields[1]),
                name=stat[opening + 1 : closing],
                state=fields[0],
                is_kernel=is_kernel,
                may_be_moved=may_be_moved,
                allowed=allowed,
                cpu=cpu,
                ticks=kernel_number(fields[11]) + kernel_number(fields[12]),
                started=kernel_number(fields[19]),
                involuntary=involuntary,
                cgroup=cgroup,
                waited_ns=None if is_kernel or allowed == self._default else self._waited_ns(directory),
            )
        except (ValueError, IndexError):
            return None

    def _cpus(self, text: str) -> CpuSet:
        cpus = self._cpu_sets.get(text)
        if cpus is None:
            cpus = self._cpu_sets[text] = CpuSet.parse(text)
        return cpus

    def _cgroup(self, directory: str) -> str | None:
        text = self._files.read(f"{directory}/cgroup")
        if isinstance(text, Unread):
            return None
        path = self._cgroups.get(text)
        if path is None:
            path = self._cgroups[text] = cgroup_path(text)
        return path

    def _waited_ns(self, directory: str) -> int | None:
        text = self._files.read(f"{directory}/schedstat")
        return None if isinstance(text, Unread) else kernel_number(text.split()[1])


def is_kernel_thread(stat: str) -> bool:
    """Whether a task's `stat` is that of a kernel thread."""
    fields = stat[stat.rfind(")") + 2 :].split(maxsplit=7)
    return len(fields) > 6 and bool((whole_number(fields[6]) or 0) & _KERNEL_THREAD)


def _line(text: str, start: str) -> str:
    """What follows `start` in its line, empty without it."""
    return text.partition(start)[2].partition("\n")[0].strip()
