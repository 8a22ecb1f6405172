# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The checks C1 to C6: good hosts, broken ones, and what is not a fault."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.case import Case, Terms
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.tick_checks import tick_checks
from tests.unit.isolation.quiet_host import CLOCK, CPU, INTERRUPTS, LATER, Files, case, facts, measured, one, task

#: 2,500 ticks in 10 s on the busy CPU 2.
WITHOUT: Files = {"proc/cmdline": "isolcpus=2-3\n"}
TICKING = INTERRUPTS.replace("8000        100", "8000       2600")


def finding(check: str, case: Case) -> Finding:
    return one(tick_checks, check, case)


def test_each_check_passes_on_the_quiet_host() -> None:
    assert {found.id: found.result for found in tick_checks(measured())} == dict.fromkeys(
        ("C1", "C2", "C3", "C4", "C6"), "pass"
    )


def test_nothing_is_judged_without_isolated_cpus() -> None:
    bare = case({f"{CPU}/isolated": "\n", f"{CPU}/nohz_full": "(null)\n", "proc/cmdline": "quiet\n"})
    assert {(found.id, found.result, found.seen) for found in tick_checks(bare)} == {
        (check, "not-checked", "needs an isolated CPU") for check in ("C1", "C2", "C3", "C4", "C6")
    }


@pytest.mark.parametrize(
    ("changes", "seen", "remedy"),
    [
        ({f"{CPU}/nohz_full": "(null)\n", **WITHOUT}, "CPUs 2-3", "add nohz_full=2-3 to the kernel line, then reboot"),
        (
            {f"{CPU}/nohz_full": "1-2\n"},
            "CPU 3",
            "change nohz_full= on the kernel line to nohz_full=1-3, then reboot",
        ),
    ],
)
def test_nohz_full_has_to_cover_the_isolated_cpus(changes: Files, seen: str, remedy: str) -> None:
    found = finding("C1", case(changes))
    assert (found.result, found.seen, found.remedy) == ("fail", f"nohz_full does not cover {seen}", remedy)


def test_kernel_without_nohz_full_fails_and_another_one_is_the_remedy() -> None:
    found = finding("C1", case({f"{CPU}/nohz_full": None}))
    assert found.result == "fail"
    assert found.remedy == ("boot a kernel with CONFIG_NO_HZ_FULL=y, and nohz_full=2-3 on the kernel line")


def test_nohz_full_is_no_fault_where_it_is_not_wanted() -> None:
    found = finding("C1", case({f"{CPU}/nohz_full": "(null)\n"}, terms=Terms(nohz_full="none")))
    assert (found.result, found.seen) == ("pass", "Not wanted: the option nohz-full is none")


def test_nohz_full_that_may_not_be_read_is_not_checked() -> None:
    found = finding("C1", case({f"{CPU}/nohz_full": None}, denied=[f"{CPU}/nohz_full"]))
    assert (found.result, found.seen) == (
        "not-checked",
        f"needs /{CPU}/nohz_full, which was not recorded",
    )


def test_ticks_need_two_readings() -> None:
    assert finding("C2", case()).seen == "needs two readings: run it with --measure 5"


def test_ticks_of_a_busy_cpu_are_found_with_their_rate() -> None:
    found = finding("C2", measured({"proc/interrupts": TICKING, f"{CPU}/nohz_full": "(null)\n", **WITHOUT}))
    assert (found.result, found.seen) == ("warn", "250 timer ticks a second on CPU 2")
    assert found.remedy == "add nohz_full=2-3 to the kernel line, then reboot"


def test_ticks_under_nohz_full_have_another_remedy() -> None:
    found = finding("C2", measured({"proc/interrupts": TICKING}))
    assert found.result == "warn"
    assert "nohz_full" not in found.remedy


def test_ten_ticks_a_second_are_no_fault() -> None:
    quiet = INTERRUPTS.replace("8000        100", "8000        200")
    assert finding("C2", measured({"proc/interrupts": quiet})).result == "pass"


def test_ticks_of_an_idle_cpu_are_no_fault() -> None:
    ticking = INTERRUPTS.replace("100        100   Local", "100       2600   Local")
    assert finding("C2", measured({"proc/interrupts": ticking})).result == "pass"


def test_ticks_are_no_fault_where_several_tasks_take_turns() -> None:
    turns = (task(2, tid=10), task(2, tid=11))
    assert finding("C2", measured({"proc/interrupts": TICKING}, tasks=turns)).result == "pass"


@pytest.mark.parametrize("tasks", [(task(2, tid=10), task(2, "S", 11)), (task(2, tid=10), task(3, tid=11))])
def test_sleeping_and_distant_tasks_excuse_no_ticks(tasks: tuple[object, ...]) -> None:
    assert finding("C2", measured({"proc/interrupts": TICKING}, tasks=tasks)).result == "warn"  # type: ignore[arg-type]


def test_ticks_are_not_judged_without_the_tasks() -> None:
    found = finding("C2", measured({"proc/interrupts": TICKING}, tasks=Unread("proc", "denied")))
    assert (found.result, found.seen) == ("not-checked", "needs /proc, which this process may not read")


def test_ticks_are_not_judged_over_a_reboot() -> None:
    rebooted = case({**LATER, "proc/sys/kernel/random/boot_id": "b\n"}, earlier=facts())
    assert finding("C2", rebooted).result == "not-checked"


@pytest.mark.parametrize("path", ["proc/interrupts", "proc/stat"])
def test_ticks_are_not_judged_without_counters(path: str) -> None:
    assert finding("C2", measured({path: None})).seen == f"needs /{path}, which is not there"


@pytest.mark.parametrize(
    ("nohz_full", "line", "missing", "remedy"),
    [
        ("(null)", "isolcpus=2-3", "CPUs 2-3", "add rcu_nocbs=2-3 to the kernel line, then reboot"),
        ("2", "isolcpus=2-3", "CPU 3", "add rcu_nocbs=2-3 to the kernel line, then reboot"),
        ("(null)", "rcu_nocbs=2", "CPU 3", "change rcu_nocbs= on the kernel line to rcu_nocbs=2-3, then reboot"),
        # Without a list no CPU is offloaded at boot (kernel-parameters.txt).
        ("(null)", "rcu_nocbs", "CPUs 2-3", "add rcu_nocbs=2-3 to the kernel line, then reboot"),
    ],
)
def test_rcu_callbacks_of_some_cpus_are_not_offloaded(nohz_full: str, line: str, missing: str, remedy: str) -> None:
    found = finding("C3", case({f"{CPU}/nohz_full": nohz_full, "proc/cmdline": line}))
    assert (found.result, found.seen) == ("warn", f"Neither rcu_nocbs= nor nohz_full= names {missing}")
    assert found.remedy == remedy


@pytest.mark.parametrize(("nohz_full", "line"), [("(null)", "rcu_nocbs=0-7"), ("2-3", "quiet"), ("3", "rcu_nocbs=2")])
def test_rcu_callbacks_are_offloaded_by_either_parameter(nohz_full: str, line: str) -> None:
    assert finding("C3", case({f"{CPU}/nohz_full": nohz_full, "proc/cmdline": line})).result == "pass"


def test_threads_of_rcu_prove_nothing() -> None:
    # The kernel starts rcuop/N for CPUs that it does not offload.
    ready = case({f"{CPU}/nohz_full": "(null)", "proc/cmdline": "quiet"}, tasks=(task(0),))
    assert finding("C3", ready).result == "warn"


def test_rcu_callbacks_are_judged_although_nohz_full_is_not_wanted() -> None:
    unwanted = case({f"{CPU}/nohz_full": "(null)", "proc/cmdline": "quiet"}, terms=Terms(nohz_full="none"))
    assert finding("C3", unwanted).result == "warn"


def test_rcu_callbacks_need_the_kernel_line() -> None:
    found = finding("C3", case({f"{CPU}/nohz_full": "(null)", "proc/cmdline": None}))
    assert found.seen == "needs /proc/cmdline, which is not there"


def test_watchdog_on_isolated_cpus_is_moved_with_one_command() -> None:
    found = finding("C4", case({"proc/sys/kernel/watchdog_cpumask": "0-2\n"}))
    assert (found.result, found.seen) == ("warn", "The lockup watchdog runs on CPU 2")
    assert found.remedy == "sudo sysctl -w kernel.watchdog_cpumask=0-1"


@pytest.mark.parametrize(
    "off",
    [
        {"proc/sys/kernel/watchdog": "0"},
        {"proc/sys/kernel/soft_watchdog": "0", "proc/sys/kernel/nmi_watchdog": "0"},
    ],
)
def test_watchdog_that_is_off_is_no_fault(off: Files) -> None:
    assert finding("C4", case({"proc/sys/kernel/watchdog_cpumask": "0-3\n", **off})).result == "pass"


def test_one_of_two_watchdogs_is_enough_for_a_fault() -> None:
    nmi = {"proc/sys/kernel/soft_watchdog": "0", "proc/sys/kernel/nmi_watchdog": "1"}
    assert finding("C4", case({"proc/sys/kernel/watchdog_cpumask": "0-3\n", **nmi})).result == "warn"


def test_watchdog_needs_its_mask() -> None:
    path = "proc/sys/kernel/watchdog_cpumask"
    assert finding("C4", case({path: None}, denied=[path])).seen == f"needs /{path}, which was not recorded"


@pytest.mark.parametrize(
    ("current", "available", "result"),
    [
        ("tsc", "tsc hpet acpi_pm", "pass"),
        ("hpet", "hpet acpi_pm", "warn"),  # the kernel no longer offers a TSC that it found unstable
        ("acpi_pm", "tsc acpi_pm", "warn"),
        ("jiffies", "jiffies", "warn"),
        ("refined-jiffies", "tsc", "warn"),
        ("kvm-clock", "kvm-clock tsc acpi_pm", "pass"),
        ("hyperv_clocksource_tsc_page", "hyperv_clocksource_tsc_page tsc", "pass"),
        ("xen", "xen tsc", "pass"),
        ("arch_sys_counter", "arch_sys_counter", "pass"),
        ("tod", "tod", "pass"),
        ("timebase", "timebase", "pass"),
    ],
)
def test_slow_clock_sources_are_found_and_those_of_guests_are_no_fault(
    current: str, available: str, result: str
) -> None:
    clocks = {f"{CLOCK}/current_clocksource": current, f"{CLOCK}/available_clocksource": available}
    assert finding("C6", case(clocks)).result == result


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_clock_source_has_to_be_known(text: str | None) -> None:
    assert finding("C6", case({f"{CLOCK}/current_clocksource": text})).result == "not-checked"


def test_name_of_a_clock_source_cannot_act_on_a_terminal() -> None:
    clocks = {f"{CLOCK}/current_clocksource": "\x1b[2J" + "x" * 100}
    found = finding("C6", case(clocks))
    assert found.seen.isprintable()
    assert len(found.seen) < 80


@pytest.mark.parametrize("listed", ["all", "2-N", "1-3:1/1"])
def test_lists_of_rcu_nocbs_are_known_without_the_possible_cpus(listed: str) -> None:
    changes: Files = {f"{CPU}/possible": None, f"{CPU}/nohz_full": "(null)\n"}
    line = {"proc/cmdline": f"isolcpus=2-3 rcu_nocbs={listed}\n"}
    assert finding("C3", case({**changes, **line})).result == "pass"
    assert finding("C3", case({**changes, **line, f"{CPU}/present": None, f"{CPU}/online": None})).result == "pass"


def test_nohz_full_that_the_kernel_dropped_is_not_added_a_second_time() -> None:
    same = case({"proc/cmdline": "isolcpus=2-3 nohz_full=2-3\n", f"{CPU}/nohz_full": "(null)\n"})
    assert finding("C1", same).remedy == "nohz_full=2-3 is on the kernel line and not in force: do what A1 says"
    other = case({"proc/cmdline": "isolcpus=2-3 nohz_full=2-99\n", f"{CPU}/nohz_full": "(null)\n"})
    assert finding("C1", other).remedy == "change nohz_full= on the kernel line to nohz_full=2-3, then reboot"


def test_nohz_full_that_was_not_copied_is_not_checked() -> None:
    copy: Files = {f"{CPU}/nohz_full": None, f"{CPU}/present": None}
    assert finding("C1", case(copy)).result == "not-checked"
    assert finding("C1", case({**copy, "proc/cmdline": "isolcpus=2-3\n"})).result == "fail"
