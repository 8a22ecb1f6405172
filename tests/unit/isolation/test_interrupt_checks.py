# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The checks D1 to D4: good hosts, broken ones, and what is not a fault."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, Owner
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.interrupt_checks import interrupt_checks
from tests.unit.isolation.quiet_host import CPU, INTERRUPTS, LATER, Files, case, facts, measured, one

OWNER = Owner("ovs", CpuSet([2, 3]))
NEIGHBOUR = Owner("nova", CpuSet([3]))


def finding(check: str, case: Case) -> Finding:
    return one(interrupt_checks, check, case)


def device(name: str, counts: str = "0 0 5 0") -> str:
    """The counters with one device more, IRQ 46."""
    return f"{LATER['proc/interrupts']} 46: {counts} PCI-MSIX-0000:01:00.0 1-edge {name}\n"


def placed(name: str, effective: str, affinity: str | None = None) -> Files:
    """A device whose interrupt goes to these CPUs."""
    return {
        "proc/interrupts": device(name),
        "proc/irq/46/smp_affinity_list": affinity or effective,
        "proc/irq/46/effective_affinity_list": effective,
    }


def test_each_check_passes_on_the_quiet_host() -> None:
    assert {found.id: found.result for found in interrupt_checks(measured())} == dict.fromkeys(
        ("D1", "D2", "D3", "D4", "D5", "D6"), "pass"
    )


def test_nothing_is_judged_without_isolated_cpus() -> None:
    bare = case({f"{CPU}/isolated": "\n", f"{CPU}/nohz_full": "(null)\n", "proc/cmdline": "quiet\n"})
    assert {(found.result, found.seen) for found in interrupt_checks(bare)} == {
        ("not-checked", "needs an isolated CPU")
    }


def test_default_mask_with_isolated_cpus_has_a_remedy_for_now_and_later() -> None:
    found = finding("D1", case({"proc/irq/default_smp_affinity": "7\n", "proc/cmdline": "isolcpus=2-3"}))
    assert (found.result, found.seen) == ("warn", "The default mask of interrupts holds CPU 2")
    assert found.remedy == (
        "add irqaffinity=0-1 to the kernel line, then reboot; until then: "
        "echo 3 | sudo tee /proc/irq/default_smp_affinity"
    )


def test_bits_of_offline_cpus_in_the_default_mask_are_no_fault() -> None:
    offline = {"proc/irq/default_smp_affinity": "ff3\n", f"{CPU}/isolated": "2-5\n"}
    assert finding("D1", case(offline)).result == "pass"


def test_default_mask_has_to_be_readable() -> None:
    path = "proc/irq/default_smp_affinity"
    assert finding("D1", case({path: None}, denied=[path])).seen == f"needs /{path}, which was not recorded"


def test_interrupt_on_an_isolated_cpu_fails_with_the_exact_command() -> None:
    found = finding("D2", case(placed("eth0-rx-3", "2")))
    assert (found.result, found.seen) == ("fail", "An interrupt goes to an isolated CPU: eth0-rx-3 (IRQ 46) on CPU 2")
    assert found.remedy == "echo 0-1 | sudo tee /proc/irq/46/smp_affinity_list"


def test_many_interrupts_are_counted_and_the_first_are_named() -> None:
    counters = INTERRUPTS + "".join(f"{irq}: 0 0 1 0 IO-APIC {irq}-edge eth{irq}\n" for irq in (50, 51, 52, 53, 60))
    files = {f"proc/irq/{irq}/effective_affinity_list": "3" for irq in (50, 51, 52, 53, 60)}
    found = finding("D2", case({"proc/interrupts": counters, **files}))
    assert found.seen == (
        "Interrupts go to isolated CPUs: eth50 (IRQ 50) on CPU 3, eth51 (IRQ 51) on CPU 3, eth52 (IRQ 52) on CPU 3 "
        "and 2 more interrupts"
    )
    assert found.remedy == "echo 0-1 | sudo tee /proc/irq/{{50..53},60}/smp_affinity_list"


def test_interrupt_that_never_came_counts() -> None:
    silent = {**placed("eth0", "2"), "proc/interrupts": device("eth0", "0 0 0 0")}
    assert finding("D2", case(silent)).result == "fail"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(placed("eth0", "1", "0-3"), id="wide, but goes elsewhere"),
        pytest.param({**placed("x", "2"), "proc/interrupts": device("")}, id="no handler"),
        pytest.param({"proc/irq/0/effective_affinity_list": "2", "proc/irq/2/effective_affinity_list": "2"}, id="0, 2"),
        pytest.param(
            {
                **placed("x", "0-3"),
                "proc/interrupts": LATER["proc/interrupts"] + " 46: 9 9 9 9 GICv3 27 Level arch_timer\n",
            },
            id="timer of each CPU",
        ),
        pytest.param(placed("nvme0q3", "2"), id="managed by name"),
        pytest.param({**placed("qla2xxx", "2"), "sys/kernel/debug/irq/irqs/46": "IRQD_AFFINITY_MANAGED"}, id="managed"),
    ],
)
def test_what_is_no_fault_of_a_device(files: Files) -> None:
    assert finding("D2", case(files)).result == "pass"


@pytest.mark.parametrize(
    ("affinity", "owners", "result"),
    [
        ("2", (OWNER,), "pass"),
        ("2-3", (OWNER,), "pass"),
        ("0-3", (OWNER,), "fail"),
        ("2-3", (NEIGHBOUR, Owner("a", CpuSet([2]))), "fail"),
        ("2", (), "fail"),
        ("2", None, "not-checked"),
    ],
)
def test_passed_through_device_may_interrupt_the_cpus_of_one_claim(
    affinity: str, owners: tuple[Owner, ...] | None, result: str
) -> None:
    files = placed("vfio-msix[0](0000:03:00.0)", "2", affinity)
    assert finding("D2", case(files, owners=owners)).result == result


def test_effective_cpus_have_to_be_readable_unless_the_set_ones_tell_enough() -> None:
    path = "proc/irq/45/effective_affinity_list"
    assert finding("D2", case({path: None}, denied=[path])).result == "pass"
    wide = {path: None, "proc/irq/45/smp_affinity_list": "0-3"}
    assert finding("D2", case(wide, denied=[path])).seen == f"needs /{path}, which was not recorded"


def test_interrupts_that_arrive_are_found_with_device_and_rate() -> None:
    found = finding("D3", measured({"proc/interrupts": device("eth0-rx-3", "0 0 120 0")}))
    assert (found.result, found.seen) == ("fail", "Interrupts arrived: 12 a second of eth0-rx-3 (IRQ 46) on CPU 2")
    assert found.remedy == "echo 0-1 | sudo tee /proc/irq/46/smp_affinity_list"


def test_loudest_device_comes_first() -> None:
    both = device("eth0", "0 0 10 10") + " 47: 0 0 0 50 IO-APIC 47-edge eth1\n"
    found = finding("D3", measured({"proc/interrupts": both}))
    assert (
        found.seen
        == "Interrupts arrived: 5 a second of eth1 (IRQ 47) on CPU 3, 2 a second of eth0 (IRQ 46) on CPUs 2-3"
    )


@pytest.mark.parametrize(
    ("name", "counts", "owners"),
    [
        pytest.param("eth0", "500 500 0 0", (), id="other CPUs"),
        pytest.param("nvme0q3", "0 0 50 0", (), id="I/O that the owner started"),
        pytest.param("vfio-msi[0](0000:03:00.0)", "0 0 50 0", (OWNER,), id="the owner's device"),
    ],
)
def test_arrivals_that_are_no_fault(name: str, counts: str, owners: tuple[Owner, ...]) -> None:
    files = {"proc/interrupts": device(name, counts), "proc/irq/46/smp_affinity_list": "2"}
    assert finding("D3", measured(files, owners=owners)).result == "pass"


def test_owner_of_a_device_is_not_guessed() -> None:
    files = {"proc/interrupts": device("vfio-msi[0](0000:03:00.0)"), "proc/irq/46/smp_affinity_list": "2"}
    found = finding("D3", measured(files, owners=None))
    assert found.seen == "needs the claims, to tell whose device vfio-msi[0](0000:03:00.0) (IRQ 46) is"


def test_arrivals_before_the_first_reading_do_not_count() -> None:
    text = device("eth0", "0 0 50 0")
    now = facts({**LATER, "proc/interrupts": text})
    assert finding("D3", Case(now, facts({"proc/interrupts": text}))).result == "pass"


def test_column_that_was_not_there_before_does_not_count() -> None:
    before = "  CPU0 CPU1\n 45: 1 1 IO-APIC 45-edge eth0\n"
    now = facts({**LATER, "proc/interrupts": device("eth0")})
    assert finding("D3", Case(now, facts({"proc/interrupts": before}))).result == "pass"


def test_arrivals_need_two_readings_and_counters() -> None:
    assert finding("D3", case()).seen == "needs two readings: run it with --measure 5"
    assert finding("D3", measured({"proc/interrupts": None})).seen == "needs /proc/interrupts, which is not there"


def test_managed_interrupts_are_a_fault_without_the_flag() -> None:
    files = {**placed("nvme0q3", "2"), "proc/cmdline": "isolcpus=2-3"}
    found = finding("D4", case(files))
    assert (found.result, found.seen) == (
        "warn",
        "The kernel placed managed interrupts on isolated CPUs: nvme0q3 (IRQ 46) on CPU 2",
    )
    assert found.remedy.startswith("set isolcpus=domain,managed_irq,2-3 on the kernel line, then reboot")


def test_managed_interrupts_with_the_flag_come_only_for_own_io() -> None:
    found = finding("D4", case(placed("nvme0q3", "2")))
    assert (found.result, found.seen) == ("pass", "Managed interrupts on CPU 2 arrive only for I/O from there")


def test_first_isolcpus_decides_about_the_flag() -> None:
    line = {"proc/cmdline": "isolcpus=2-3 isolcpus=managed_irq,2-3"}
    assert finding("D4", case({**placed("nvme0q3", "2"), **line})).result == "warn"


def test_unknown_driver_needs_the_kernels_word() -> None:
    found = finding("D4", case(placed("eth0", "2")))
    assert found.seen == "needs /sys/kernel/debug/irq/irqs/46, to tell whether the kernel itself placed eth0 (IRQ 46)"
    told = {**placed("eth0", "2"), "sys/kernel/debug/irq/irqs/46": "dstate: 0x0\n"}
    assert finding("D4", case(told)).result == "pass"


@pytest.mark.parametrize("check", ["D2", "D4"])
def test_interrupts_have_to_be_known(check: str) -> None:
    found = finding(check, case({"proc/interrupts": None}, denied=["sys/kernel/irq"]))
    assert found.seen == "needs /sys/kernel/irq, which was not recorded"


def test_placement_of_a_passed_through_device_needs_no_debugfs() -> None:
    assert finding("D4", case(placed("vfio-msix[3](0000:3b:02.0)", "2"))).result == "pass"
