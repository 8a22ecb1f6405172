# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Whole hosts, judged: a good one has no fault, and each way to break it is found, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import CHECKS, Finding
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.judge import judge
from tests.isolated_hosts import OWNERS, RELEASE, HostInterrupt, HostTask, IsolatedHost, kernel_thread

#: The isolated CPUs of the host are 2-3,6-7. 'ovs' is busy on 2-3, 'dpdk' sleeps on 6, and 7 is free.
Break = Callable[[IsolatedHost], None]

CPU: Final = "sys/devices/system/cpu"


def judged(host: IsolatedHost) -> dict[str, Finding]:
    """The findings of two readings, 10 s apart."""
    earlier = read_facts(RecordedHost(host.files()), 1000.0)
    host.go_on(10.0)
    now = read_facts(RecordedHost(host.files()), 1010.0)
    return {finding.id: finding for finding in judge(Case(now, earlier=earlier, owners=OWNERS))}


def test_good_host_passes_every_check() -> None:
    found = judged(IsolatedHost())
    assert list(found) == list(CHECKS)
    assert {check: finding for check, finding in found.items() if finding.result != "pass"} == {}


# --- the ways to break it -------------------------------------------------------------------------------------------


def fewer_cpus_isolated_than_asked(host: IsolatedHost) -> None:
    host.changed[f"{CPU}/isolated"] = "2-3\n"


def cpu_that_does_not_exist(host: IsolatedHost) -> None:
    host.set_line("isolcpus=domain,managed_irq,2-3,6-7", "isolcpus=domain,managed_irq,2-3,6-8")
    host.changed[f"{CPU}/isolated"] = host.changed["sys/fs/cgroup/cpuset.cpus.isolated"] = "\n"
    host.balanced = host.cpus


def two_isolcpus(host: IsolatedHost) -> None:
    host.line += " isolcpus=2-3"


def only_managed_irq(host: IsolatedHost) -> None:
    host.set_line("isolcpus=domain,managed_irq,", "isolcpus=managed_irq,")
    host.changed[f"{CPU}/isolated"] = host.changed["sys/fs/cgroup/cpuset.cpus.isolated"] = "\n"
    host.balanced = host.cpus


def unknown_parameter(host: IsolatedHost) -> None:
    host.line += " kthread_cpus=0"


def kernel_without_rcu_nocb(host: IsolatedHost) -> None:
    host.changed[f"boot/config-{RELEASE}"] = "CONFIG_CPU_ISOLATION=y\nCONFIG_NO_HZ_FULL=y\n"


def update_grub_did_not_run(host: IsolatedHost) -> None:
    host.changed["etc/default/grub.d/zz-epa-orchestrator.cfg"] = (
        'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT irqaffinity=0"\n'
    )


def scheduling_domain(host: IsolatedHost) -> None:
    host.balanced = CpuSet.parse("0-1,3-5")


def pid_1_everywhere(host: IsolatedHost) -> None:
    host.task(1).allowed = "0-7"


def stranger_on_a_claim(host: IsolatedHost) -> None:
    host.tasks.append(HostTask(900, "stress", "3", "R", "/user.slice/stress.scope"))


def stranger_on_a_free_cpu(host: IsolatedHost) -> None:
    host.tasks.append(HostTask(900, "stress", "7", "R", "/user.slice/stress.scope"))


def movable_kernel_thread(host: IsolatedHost) -> None:
    host.tasks.append(kernel_thread(901, "rcu_tasks", "0-7", bound=False))


def workqueues_everywhere(host: IsolatedHost) -> None:
    host.changed["sys/devices/virtual/workqueue/cpumask"] = "ff\n"


def invalid_partition(host: IsolatedHost) -> None:
    host.changed["sys/fs/cgroup/quiet.slice/cpuset.cpus"] = "2-3\n"
    host.changed["sys/fs/cgroup/quiet.slice/cpuset.cpus.partition"] = (
        "isolated invalid (Cpu list in cpuset.cpus not exclusive)\n"
    )


def split_core(host: IsolatedHost) -> None:
    for cpu in (1, 2):
        host.changed[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = "1-2\n"
        host.changed[f"{CPU}/cpu{cpu}/topology/core_cpus_list"] = "1-2\n"
    for cpu in (0, 3):
        host.changed[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = "0,3\n"
        host.changed[f"{CPU}/cpu{cpu}/topology/core_cpus_list"] = "0,3\n"


def nohz_full_misses_cpus(host: IsolatedHost) -> None:
    host.set_line("nohz_full=2-3,6-7", "nohz_full=2-3")
    host.changed[f"{CPU}/nohz_full"] = "2-3\n"


def ticks(host: IsolatedHost) -> None:
    host.quiet_ticks = 250


def no_rcu_nocbs(host: IsolatedHost) -> None:
    host.set_line(" nohz_full=2-3,6-7 rcu_nocbs=2-3,6-7", "")
    host.changed[f"{CPU}/nohz_full"] = "(null)\n"


def watchdog_everywhere(host: IsolatedHost) -> None:
    host.changed["proc/sys/kernel/watchdog_cpumask"] = "0-7\n"


def slow_clock(host: IsolatedHost) -> None:
    host.changed["sys/devices/system/clocksource/clocksource0/current_clocksource"] = "hpet\n"


def default_interrupt_mask(host: IsolatedHost) -> None:
    host.changed["proc/irq/default_smp_affinity"] = "ff\n"


def placed_interrupt(host: IsolatedHost) -> None:
    host.interrupt(32).affinity = host.interrupt(32).effective = "7"
    host.interrupt(32).rate = {}


def arriving_interrupts(host: IsolatedHost) -> None:
    host.interrupt(32).affinity = host.interrupt(32).effective = "7"
    host.interrupt(32).rate = {7: 100}


def managed_interrupt(host: IsolatedHost) -> None:
    host.set_line("domain,managed_irq,", "domain,")
    host.interrupts.append(HostInterrupt(40, "nvme0q7", "6-7", "7"))


def banned_cpus_of_irqbalance(host: IsolatedHost) -> None:
    host.changed["etc/default/irqbalance"] = "IRQBALANCE_BANNED_CPULIST=2-3\n"


def receive_packet_steering(host: IsolatedHost) -> None:
    host.changed["sys/class/net/eth0/queues/rx-0/rps_cpus"] = "ff\n"


def owner_outside(host: IsolatedHost) -> None:
    host.task(702).allowed, host.task(702).cpu = "0-3", 1


def stacked_threads(host: IsolatedHost) -> None:
    for tid in (701, 702):
        task = host.task(tid)
        task.allowed, task.cpu, task.share = "2-3", 2, 0.5


def waiting_thread(host: IsolatedHost) -> None:
    host.task(701).share = 0.6


def powersave(host: IsolatedHost) -> None:
    host.changed[f"{CPU}/cpu3/cpufreq/scaling_governor"] = "powersave\n"


def deep_idle_state(host: IsolatedHost) -> None:
    host.changed[f"{CPU}/cpu6/cpuidle/state3/disable"] = "0\n"


def stolen_time(host: IsolatedHost) -> None:
    host.stolen_rates = {3: 5}


def ksm(host: IsolatedHost) -> None:
    host.changed["sys/kernel/mm/ksm/run"] = "1\n"


#: How to break the host, and all that is found then: the result and a part of the remedy.
BROKEN: Final[dict[Break, dict[str, tuple[str, str]]]] = {
    fewer_cpus_isolated_than_asked: {"A1": ("fail", "dmesg")},
    cpu_that_does_not_exist: {
        "A1": ("fail", "isolcpus=domain,managed_irq,2-3,6-7"),
        "B1": ("fail", "isolcpus=domain,managed_irq,2-3,6-7"),
    },
    two_isolcpus: {"A2": ("fail", "isolcpus=domain,managed_irq,2-3,6-7")},
    only_managed_irq: {
        "A1": ("warn", "isolcpus=domain,managed_irq,2-3,6-7"),
        "A3": ("fail", "isolcpus=domain,managed_irq,2-3,6-7"),
        "B1": ("fail", "isolcpus=domain,managed_irq,2-3,6-7"),
    },
    unknown_parameter: {"A4": ("warn", "delete kthread_cpus=0")},
    kernel_without_rcu_nocb: {"A5": ("warn", "CONFIG_RCU_NOCB_CPU=y")},
    update_grub_did_not_run: {"A6": ("warn", "sudo update-grub")},
    scheduling_domain: {"B1": ("fail", "isolcpus=domain,managed_irq,2-3,6-7")},
    pid_1_everywhere: {"B2": ("fail", "CPUAffinity=0-1,4-5")},
    stranger_on_a_claim: {"B3": ("fail", "taskset -apc 0-1,4-5 900")},
    stranger_on_a_free_cpu: {"B3": ("fail", "taskset -apc 0-1,4-5 900")},
    movable_kernel_thread: {"B4": ("warn", "sudo taskset -pc 0-1,4-5 901")},
    workqueues_everywhere: {"B5": ("warn", "echo 33 | sudo tee /sys/devices/virtual/workqueue/cpumask")},
    invalid_partition: {"B6": ("fail", "/sys/fs/cgroup/quiet.slice/cpuset.cpus")},
    split_core: {"B7": ("warn", "isolate whole cores: ")},
    nohz_full_misses_cpus: {"C1": ("fail", "nohz_full=2-3,6-7")},
    ticks: {"C2": ("warn", "setitimer")},
    no_rcu_nocbs: {"C1": ("fail", "nohz_full=2-3,6-7"), "C3": ("warn", "rcu_nocbs=2-3,6-7")},
    watchdog_everywhere: {"C4": ("warn", "kernel.watchdog_cpumask=0-1,4-5")},
    slow_clock: {"C6": ("warn", "tsc=nowatchdog")},
    default_interrupt_mask: {"D1": ("warn", "echo 33 | sudo tee /proc/irq/default_smp_affinity")},
    placed_interrupt: {"D2": ("fail", "echo 0-1,4-5 | sudo tee /proc/irq/32/smp_affinity_list")},
    arriving_interrupts: {
        "D2": ("fail", "/proc/irq/32/smp_affinity_list"),
        "D3": ("fail", "/proc/irq/32/smp_affinity_list"),
    },
    managed_interrupt: {"D4": ("warn", "isolcpus=domain,managed_irq,2-3,6-7")},
    banned_cpus_of_irqbalance: {"D5": ("warn", "remove IRQBALANCE_BANNED_CPULIST")},
    receive_packet_steering: {"D6": ("warn", "/sys/class/net/eth0/queues/rx-0/rps_cpus")},
    owner_outside: {"E1": ("warn", "taskset -pc 2-3 702")},
    stacked_threads: {"E2": ("fail", "taskset -pc 3 702"), "E3": ("warn", "E2")},
    waiting_thread: {"E3": ("warn", "'ovs'")},
    powersave: {"F1": ("warn", "/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor")},
    deep_idle_state: {"F2": ("warn", "")},
    stolen_time: {"F3": ("warn", "")},
    ksm: {"F5": ("warn", "/sys/kernel/mm/ksm/run")},
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_broken_host_has_that_fault_and_no_other(broken: Break) -> None:
    host, expected = IsolatedHost(), BROKEN[broken]
    broken(host)
    bad = {check: each for check, each in judged(host).items() if each.result in ("fail", "warn")}
    assert {check: each.result for check, each in bad.items()} == {check: row[0] for check, row in expected.items()}, (
        bad
    )
    assert {check: each.remedy for check, each in bad.items() if expected[check][1] not in each.remedy} == {}


def test_every_check_has_a_host_that_it_finds() -> None:
    assert {check for expected in BROKEN.values() for check in expected} == CHECKS.keys()
