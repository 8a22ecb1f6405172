# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolated hosts for tests: every file that the audit reads, of a host on which everything is right, and as it goes on.

    host = IsolatedHost()                       # 8 CPUs, of which 2-3,6-7 are isolated, with the owners OWNERS
    host.changed["proc/irq/default_smp_affinity"] = "ff\\n"
    host.tasks.append(HostTask(900, "stress", "3", ticks=500))
    before = RecordedHost(host.files())
    host.go_on(10.0)                            # busy tasks run, timers tick: the second reading
    after = RecordedHost(host.files())

The texts have the form of Linux 6.12 on x86. Any test may use it, for tables of what a check finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Owner
from tools.synthetic import Shape, all_but_first_cores, build

#: 2 NUMA nodes of 2 cores of 2 adjacent threads: the nodes have the CPUs 0-3 and 4-7.
SMALL: Final = Shape(nodes_per_package=2, cores_per_l3=2, threads_per_core=2, siblings="adjacent")

RELEASE: Final = "6.12.0-1-generic"
HZ: Final = 250

_KERNEL_THREAD: Final = 0x00208040
_BOUND_KERNEL_THREAD: Final = 0x04208040
_USER: Final = 0x00400100


@dataclass
class HostTask:
    """A thread. `allowed` is a list of CPUs; the first of them is `cpu` unless it is given.

    A task in the state R is busy: it runs all the time, `share` of it (1.0: never waits for others). `ticks` are in
    hundredths of a second. A process has a task whose `pid` is its `tid`; 0 stands for that.
    """

    tid: int
    name: str
    allowed: str
    state: str = "S"
    cgroup: str = "/"
    pid: int = 0
    parent: int = 1
    flags: int = _USER
    cpu: int = -1
    ticks: int = 10
    started: int = 500
    voluntary: int = 20
    involuntary: int = 0
    waited_ns: int = 0
    share: float = 1.0

    @property
    def process(self) -> int:
        """The id of its process."""
        return self.pid or self.tid

    @property
    def runs_on(self) -> int:
        """The CPU where it runs, or ran last."""
        return self.cpu if self.cpu >= 0 else next(iter(CpuSet.parse(self.allowed)))


def kernel_thread(tid: int, name: str, allowed: str, bound: bool = True) -> HostTask:
    """A kernel thread, bound to its CPUs or movable."""
    flags = _BOUND_KERNEL_THREAD if bound else _KERNEL_THREAD
    return HostTask(tid, name, allowed, parent=2, flags=flags, ticks=1)


@dataclass
class HostInterrupt:
    """An interrupt of a device: its CPUs, and how many arrive on each CPU in a second; `actions` may be empty."""

    number: int
    actions: str
    affinity: str
    effective: str
    chip: str = "PCI-MSIX-0000:17:00.0"
    rate: dict[int, int] = field(default_factory=dict[int, int])
    counts: dict[int, int] = field(default_factory=dict[int, int])


#: The owners of the CPUs of SMALL: a unit with a busy thread on each CPU, and a snap that sleeps.
OWNERS: Final = (
    Owner("ovs", CpuSet.parse("2-3"), unit="ovs-vswitchd.service", pid=700, asked_at=1000.0),
    Owner("dpdk", CpuSet.parse("6"), snap="dpdk-app", pid=710, asked_at=1000.0),
)
_OVS: Final = "/system.slice/ovs-vswitchd.service"
_DPDK: Final = "/system.slice/snap.dpdk-app.daemon.service"


class IsolatedHost:
    """A host on which everything is right; tests change it. `changed` replaces files, None removes one."""

    def __init__(self, shape: Shape = SMALL) -> None:
        self.shape = shape
        self.cpus = CpuSet(range(shape.cpus))
        self.isolated = CpuSet.parse(all_but_first_cores(shape, 1))
        self.housekeeping = self.cpus - self.isolated
        #: The CPUs of each scheduling domain, which are those that the kernel did not isolate.
        self.balanced = self.housekeeping
        self.line = (
            f"BOOT_IMAGE=/vmlinuz-{RELEASE} root=/dev/sda1 ro isolcpus=domain,managed_irq,{self.isolated}"
            f" nohz_full={self.isolated} rcu_nocbs={self.isolated} irqaffinity={self.housekeeping}"
        )
        self.uptime = 5000.0
        self.changed: dict[str, str | None] = {}
        #: Timer ticks a second on each busy CPU that nohz_full covers, and on each other CPU.
        self.quiet_ticks, self.ticks = 1, HZ
        #: Per-CPU rows of /proc/interrupts besides LOC that grow by a number a second.
        self.rates: dict[str, dict[int, int]] = {}
        self.counts: dict[str, dict[int, int]] = {
            "LOC": {cpu: 1000 if cpu in self.isolated else 1_000_000 for cpu in self.cpus},
            **{row: dict.fromkeys(self.cpus, 0) for row in _ROWS},
        }
        #: Ticks of the user clock that each CPU worked, that a hypervisor took from it, and takes in a second.
        self.worked = dict.fromkeys(self.cpus, 900)
        self.stolen = dict.fromkeys(self.cpus, 0)
        self.stolen_rates: dict[int, int] = {}
        self.tasks = self._tasks()
        self.interrupts = self._interrupts()

    # --- what there is ---

    def _tasks(self) -> list[HostTask]:
        housekeeping, everything = str(self.housekeeping), str(self.cpus)
        tasks = [
            HostTask(1, "systemd", housekeeping, parent=0, cgroup="/init.scope"),
            HostTask(2, "kthreadd", housekeeping, parent=0, flags=_KERNEL_THREAD),
            kernel_thread(10, "rcu_preempt", housekeeping, bound=False),
            kernel_thread(11, "kworker/u16:0-events_unbound", housekeeping),
            kernel_thread(12, "oom_reaper", housekeeping, bound=False),
            HostTask(600, "sshd", housekeeping, cgroup="/system.slice/ssh.service"),
            # A wide mask alone is harmless: the scheduler never moves a task to an isolated CPU.
            HostTask(601, "cron", everything, cgroup="/system.slice/cron.service", cpu=0),
        ]
        for cpu in self.cpus:
            first = 10_000 + 10 * cpu
            names = (f"cpuhp/{cpu}", f"migration/{cpu}", f"ksoftirqd/{cpu}", f"kworker/{cpu}:0", f"kworker/{cpu}:0H")
            tasks += [kernel_thread(first + place, name, str(cpu)) for place, name in enumerate(names)]
            tasks.append(kernel_thread(first + 9, f"rcuop/{cpu}", housekeeping, bound=False))
        for node in range(self.shape.cpu_nodes):
            cpus = str(CpuSet(self.shape.node_cpus(node)))
            tasks.append(kernel_thread(50 + 2 * node, f"kswapd{node}", cpus, bound=False))
            tasks.append(kernel_thread(51 + 2 * node, f"kcompactd{node}", cpus, bound=False))
        if self.shape == SMALL:
            tasks += [
                HostTask(700, "ovs-vswitchd", "2-3", cgroup=_OVS, cpu=2),
                HostTask(701, "pmd-c02", "2", "R", _OVS, pid=700, ticks=10_000),
                HostTask(702, "pmd-c03", "3", "R", _OVS, pid=700, ticks=10_000),
                HostTask(710, "dpdk-app", "6", cgroup=_DPDK),
            ]
        return tasks

    def _interrupts(self) -> list[HostInterrupt]:
        keep = list(self.housekeeping)
        first = str(keep[0])
        interrupts = [
            HostInterrupt(0, "timer", str(self.cpus), first, "IO-APIC", counts={keep[0]: 44}),
            HostInterrupt(8, "rtc0", str(self.housekeeping), first, "IO-APIC", counts={keep[0]: 1}),
            HostInterrupt(9, "acpi", str(self.housekeeping), first, "IO-APIC"),
        ]
        for queue in range(min(len(keep), 4)):
            name, cpu = f"eth0-TxRx-{queue}", keep[queue]
            interrupts.append(
                HostInterrupt(30 + queue, name, str(cpu), str(cpu), rate={cpu: 100}, counts={cpu: 10_000})
            )
        return interrupts

    def task(self, tid: int) -> HostTask:
        """The task with this id."""
        return next(task for task in self.tasks if task.tid == tid)

    def interrupt(self, number: int) -> HostInterrupt:
        """The interrupt with this number."""
        return next(each for each in self.interrupts if each.number == number)

    def set_line(self, old: str, new: str) -> None:
        """Replace a part of the kernel line."""
        assert old in self.line, self.line
        self.line = self.line.replace(old, new)

    # --- what goes on ---

    def go_on(self, seconds: float) -> None:
        """Let time pass: busy tasks run, timers tick, devices interrupt."""
        self.uptime += seconds
        busy = [task for task in self.tasks if task.state == "R"]
        for task in busy:
            task.ticks += round(100 * seconds * task.share)
            task.waited_ns += round(1e9 * seconds * (1 - task.share))
            self.worked[task.runs_on] += round(100 * seconds * task.share)
        at_work = {task.runs_on for task in busy}
        for cpu in self.cpus:
            quiet = cpu in self.isolated
            rate = (self.quiet_ticks if cpu in at_work else 0) if quiet else self.ticks
            self.counts["LOC"][cpu] += round(rate * seconds)
        for row, rates in self.rates.items():
            _add(self.counts[row], rates, seconds)
        _add(self.stolen, self.stolen_rates, seconds)
        for interrupt in self.interrupts:
            _add(interrupt.counts, interrupt.rate, seconds)

    # --- its files ---

    def files(self) -> dict[str, str]:
        """All files: path below the root -> text."""
        files = {f"sys/{path}": f"{text}\n" for path, text in build(self.shape).items()}
        files |= self._line_files() | self._scheduler_files() | self._interrupt_files() | self._power_files()
        for task in self.tasks:
            files |= task_files(task)
        for path, text in self.changed.items():
            if text is None:
                files.pop(path, None)
            else:
                files[path] = text
        return files

    def mask(self, cpus: CpuSet) -> str:
        """The text of a file with a mask of CPUs."""
        return mask(cpus, self.shape.cpus)

    def _line_files(self) -> dict[str, str]:
        parameters = self.line.partition(" ro ")[2]
        return {
            "proc/cmdline": f"{self.line}\n",
            "proc/uptime": f"{self.uptime:.2f} {self.uptime * len(self.cpus):.2f}\n",
            "proc/sys/kernel/random/boot_id": "3f0a5d5e-0f5e-4c53-9a51-0c7d1f6f7a11\n",
            "proc/sys/kernel/osrelease": f"{RELEASE}\n",
            "proc/sys/kernel/arch": "x86_64\n",
            "proc/version": f"Linux version {RELEASE} (builder@host) (gcc 14.2.0) #1 SMP PREEMPT_DYNAMIC\n",
            f"boot/config-{RELEASE}": _CONFIG,
            "boot/grub/grub.cfg": f"menuentry 'Ubuntu' {{\n\tlinux\t{self.line.removeprefix('BOOT_IMAGE=')}\n}}\n",
            "etc/default/grub": f'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="{parameters}"\nGRUB_CMDLINE_LINUX=""\n',
            "sys/devices/system/cpu/isolated": f"{self.isolated}\n",
            "sys/devices/system/cpu/nohz_full": f"{self.isolated}\n",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
            "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm \n",
        }

    def _scheduler_files(self) -> dict[str, str]:
        rows = ["version 16", "timestamp 4295000000"]
        for cpu in self.cpus:
            rows.append(f"cpu{cpu} 0 0 0 0 0 0 6197176508 1296034711 1074")
            if cpu in self.balanced:
                rows.append(f"domain0 {self.mask(self.balanced).strip()}{' 0' * 36}")
        keep = f"{self.housekeeping}\n"
        return {
            "proc/schedstat": "\n".join(rows) + "\n",
            "proc/sys/kernel/sched_schedstats": "0\n",
            "proc/sys/kernel/watchdog": "1\n",
            "proc/sys/kernel/soft_watchdog": "1\n",
            "proc/sys/kernel/nmi_watchdog": "0\n",
            "proc/sys/kernel/watchdog_thresh": "10\n",
            "proc/sys/kernel/watchdog_cpumask": keep,
            "sys/devices/virtual/workqueue/cpumask": self.mask(self.housekeeping),
            "sys/devices/virtual/workqueue/cpumask_requested": self.mask(self.housekeeping),
            "sys/devices/virtual/workqueue/cpumask_isolated": self.mask(self.isolated),
            "sys/devices/virtual/workqueue/writeback/cpumask": self.mask(self.housekeeping),
            "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
            "sys/fs/cgroup/cgroup.subtree_control": "cpuset cpu io memory pids\n",
            "sys/fs/cgroup/cpuset.cpus.effective": f"{self.cpus}\n",
            "sys/fs/cgroup/cpuset.cpus.isolated": f"{self.isolated}\n",
            **{
                f"sys/fs/cgroup/{name}/{file}": text
                for name in ("init.scope", "system.slice", "user.slice")
                for file, text in (
                    ("cpuset.cpus", "\n"),
                    ("cpuset.cpus.partition", "member\n"),
                    ("cpuset.cpus.effective", f"{self.cpus}\n"),
                )
            },
        }

    def _interrupt_files(self) -> dict[str, str]:
        rows = ["".join([" " * 5, *(f"       CPU{cpu:<4}"[:12] for cpu in self.cpus)])]
        files = {"proc/irq/default_smp_affinity": self.mask(self.housekeeping)}
        for each in self.interrupts:
            counts = "".join(f" {each.counts.get(cpu, 0):>10}" for cpu in self.cpus)
            rows.append(f"{each.number:>4}:{counts}  {each.chip}   {each.number}-edge      {each.actions}")
            affinity, effective = CpuSet.parse(each.affinity), CpuSet.parse(each.effective)
            files |= {
                f"proc/irq/{each.number}/smp_affinity": self.mask(affinity),
                f"proc/irq/{each.number}/smp_affinity_list": f"{affinity}\n",
                f"proc/irq/{each.number}/effective_affinity": self.mask(effective),
                f"proc/irq/{each.number}/effective_affinity_list": f"{effective}\n",
                f"proc/irq/{each.number}/node": "0\n",
                f"sys/kernel/irq/{each.number}/actions": f"{each.actions}\n",
                f"sys/kernel/irq/{each.number}/chip_name": f"{each.chip}\n",
                f"sys/kernel/irq/{each.number}/type": "edge\n",
            }
        # Line 2 of the old interrupt controller has neither a device nor a row of its own.
        files |= {"proc/irq/2/smp_affinity_list": f"{self.cpus}\n", "proc/irq/2/effective_affinity_list": "\n"}
        files |= {"proc/irq/2/smp_affinity": self.mask(self.cpus), "sys/kernel/irq/2/actions": "\n"}
        for row, title in {"LOC": "Local timer interrupts", **_ROWS}.items():
            counts = "".join(f" {self.counts[row][cpu]:>10}" for cpu in self.cpus)
            rows.append(f"{row:>4}:{counts}   {title}")
        rows += [" ERR:          0", " MIS:          0"]
        files["proc/interrupts"] = "\n".join(rows) + "\n"
        for queue in range(4):
            files[f"sys/class/net/eth0/queues/rx-{queue}/rps_cpus"] = self.mask(CpuSet())
            files[f"sys/class/net/eth0/queues/tx-{queue}/xps_cpus"] = self.mask(self.housekeeping)
        files["etc/default/irqbalance"] = '#IRQBALANCE_BANNED_CPULIST=\n#IRQBALANCE_ARGS=""\n'
        return files

    def _power_files(self) -> dict[str, str]:
        files = {
            "sys/kernel/mm/ksm/run": "0\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
            "sys/kernel/mm/transparent_hugepage/defrag": "always defer defer+madvise [madvise] never\n",
            "sys/kernel/mm/transparent_hugepage/khugepaged/defrag": "1\n",
            "proc/sys/kernel/numa_balancing": "0\n",
            "proc/cpuinfo": "".join(f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\n\n" for cpu in self.cpus),
            "sys/devices/system/cpu/cpuidle/current_driver": "intel_idle\n",
        }
        ticks = {
            cpu: (
                self.worked[cpu],
                0,
                300,
                round(100 * self.uptime) - self.worked[cpu],
                0,
                0,
                0,
                self.stolen[cpu],
                0,
                0,
            )
            for cpu in self.cpus
        }
        total = " ".join(str(sum(column)) for column in zip(*ticks.values(), strict=True))
        rows = [f"cpu{cpu} {' '.join(map(str, counts))}" for cpu, counts in ticks.items()]
        files["proc/stat"] = "\n".join([f"cpu  {total}", *rows, "intr 100", "ctxt 3370", "btime 1795810937"]) + "\n"
        for cpu in self.cpus:
            directory = f"sys/devices/system/cpu/cpu{cpu}"
            files[f"{directory}/cpufreq/scaling_governor"] = "performance\n"
            files[f"{directory}/cpufreq/scaling_driver"] = "intel_pstate\n"
            files[f"{directory}/power/pm_qos_resume_latency_us"] = "0\n"
            for state, (name, latency) in enumerate((("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133))):
                files[f"{directory}/cpuidle/state{state}/name"] = f"{name}\n"
                files[f"{directory}/cpuidle/state{state}/latency"] = f"{latency}\n"
                deep = name == "C6" and cpu in self.isolated
                files[f"{directory}/cpuidle/state{state}/disable"] = f"{int(deep)}\n"
        return files


def mask(cpus: CpuSet, count: int) -> str:
    """CPUs as the kernel prints a mask of `count` CPUs: words of 32 bits, the first one as long as it has to be."""
    bits = sum(1 << cpu for cpu in cpus)
    digits = f"{bits:0{(count + 3) // 4}x}"
    words = [digits[max(0, end - 8) : end] for end in range(len(digits), 0, -8)]
    return ",".join(reversed(words)) + "\n"


def task_files(task: HostTask) -> dict[str, str]:
    """The files of a thread, and of its process if it is the first one."""
    files = {
        "stat": _stat(task),
        "status": _status(task),
        "comm": f"{task.name}\n",
        "cgroup": f"0::{task.cgroup}\n",
        "schedstat": f"{task.ticks * 10_000_000} {task.waited_ns} {task.voluntary + task.involuntary}\n",
    }
    directories = [f"proc/{task.process}/task/{task.tid}"]
    if task.process == task.tid:
        directories.append(f"proc/{task.tid}")
    return {f"{directory}/{name}": text for directory in directories for name, text in files.items()}


def _stat(task: HostTask) -> str:
    before = f"{task.tid} ({task.name[:15]}) {task.state} {task.parent} 0 0 0 -1 {task.flags} 114 0 0 0 {task.ticks} 0"
    between = f"0 0 20 0 1 0 {task.started} 2359296 350 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17"
    return f"{before} {between} {task.runs_on} 0 0 0 0 0 0 0 0 0 0 0 0 0\n"


def _status(task: HostTask) -> str:
    rows: Iterable[tuple[str, object]] = (
        ("Name", task.name[:15]),
        ("State", f"{task.state} ({'running' if task.state == 'R' else 'sleeping'})"),
        ("Tgid", task.process),
        ("Pid", task.tid),
        ("PPid", task.parent),
        ("Uid", "0\t0\t0\t0"),
        ("Threads", 1),
        ("Cpus_allowed_list", CpuSet.parse(task.allowed)),
        ("Mems_allowed_list", 0),
        ("voluntary_ctxt_switches", task.voluntary),
        ("nonvoluntary_ctxt_switches", task.involuntary),
    )
    return "".join(f"{name}:\t{value}\n" for name, value in rows)


def _add(counts: dict[int, int], rates: dict[int, int], seconds: float) -> None:
    for cpu, rate in rates.items():
        counts[cpu] = counts.get(cpu, 0) + round(rate * seconds)


_ROWS: Final = {
    "NMI": "Non-maskable interrupts",
    "IWI": "IRQ work interrupts",
    "RES": "Rescheduling interrupts",
    "CAL": "Function call interrupts",
    "TLB": "TLB shootdowns",
}

_CONFIG: Final = """\
CONFIG_CPU_ISOLATION=y
CONFIG_NO_HZ_FULL=y
CONFIG_RCU_NOCB_CPU=y
CONFIG_CPUSETS=y
CONFIG_SCHEDSTATS=y
CONFIG_HZ=250
"""
