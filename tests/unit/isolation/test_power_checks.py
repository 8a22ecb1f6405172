# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The checks F1 to F5: good hosts, broken ones, and what is not a fault."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.power_checks import power_checks
from tests.unit.isolation.quiet_host import CPU, LATER, STAT, Files, case, measured, one

KSM = "sys/kernel/mm/ksm/run"
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
NUMA = "proc/sys/kernel/numa_balancing"


def finding(check: str, case: Case) -> Finding:
    return one(power_checks, check, case)


def governors(*names: str) -> Files:
    """The governors of CPU 2 and CPU 3."""
    return {f"{CPU}/cpu{cpu}/cpufreq/scaling_governor": f"{name}\n" for cpu, name in enumerate(names, start=2)}


def idle(cpu: int, *latencies: int) -> Files:
    states = [f"{CPU}/cpu{cpu}/cpuidle/state{number}" for number in range(len(latencies))]
    return {f"{state}/latency": f"{latency}\n" for state, latency in zip(states, latencies, strict=True)}


def test_each_check_passes_on_the_quiet_host() -> None:
    assert {found.id: found.result for found in power_checks(measured())} == dict.fromkeys(
        ("F1", "F2", "F3", "F5"), "pass"
    )


def test_nothing_is_judged_without_isolated_cpus() -> None:
    bare = case({f"{CPU}/isolated": "\n", f"{CPU}/nohz_full": "(null)\n", "proc/cmdline": "quiet\n"})
    assert {(found.result, found.seen) for found in power_checks(bare)} == {("not-checked", "needs an isolated CPU")}


@pytest.mark.parametrize(
    ("names", "seen", "where"),
    [
        (("powersave", "performance"), "powersave on CPU 2", "2"),
        (("powersave", "powersave"), "powersave on CPUs 2-3", "{2..3}"),
        (("schedutil", "ondemand"), "ondemand on CPU 3, schedutil on CPU 2", "{2..3}"),
    ],
)
def test_slow_governors_are_found(names: tuple[str, ...], seen: str, where: str) -> None:
    found = finding("F1", case(governors(*names)))
    assert (found.result, found.seen) == ("warn", f"The frequency governor is {seen}")
    assert found.remedy == (f"echo performance | sudo tee /sys/devices/system/cpu/cpu{where}/cpufreq/scaling_governor")


def test_governor_performance_is_no_fault() -> None:
    assert finding("F1", case(governors("performance", "performance"))).result == "pass"


def test_virtual_machine_scales_no_frequency() -> None:
    assert finding("F1", case()).seen == "No frequency scaling on CPUs 2-3"


def test_governor_that_may_not_be_read_is_not_checked() -> None:
    path = f"{CPU}/cpu3/cpufreq/scaling_governor"
    found = finding("F1", case(governors("performance"), denied=[path]))
    assert (found.result, found.seen) == ("not-checked", f"needs /{path}, which was not recorded")


def test_deep_idle_state_is_found() -> None:
    found = finding("F2", case({**idle(2, 0, 2, 133), **idle(3, 0, 2)}))
    assert (found.result, found.seen) == ("warn", "Waking up takes up to 133 µs on CPU 2")
    assert found.remedy == "echo 100 | sudo tee /sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us"


def test_idle_states_of_100_us_are_no_fault() -> None:
    assert finding("F2", case({**idle(2, 0, 100), **idle(3, 0, 2)})).result == "pass"


def test_deep_idle_state_over_the_limit_is_no_fault() -> None:
    limit = {f"{CPU}/cpu2/power/pm_qos_resume_latency_us": "50\n"}
    assert finding("F2", case({**idle(2, 0, 2, 133), **limit})).result == "pass"


def test_deep_idle_state_is_no_fault_on_a_cpu_that_polls() -> None:
    # CPU 2 works all the time between the readings, CPU 3 is idle.
    assert finding("F2", measured(idle(2, 0, 133))).result == "pass"
    assert finding("F2", measured(idle(3, 0, 133))).result == "warn"


def test_virtual_machine_has_no_idle_states() -> None:
    assert finding("F2", case()).seen == "No idle states to choose from on CPUs 2-3"


def test_idle_states_that_may_not_be_read_are_not_checked() -> None:
    path = f"{CPU}/cpu3/cpuidle"
    assert finding("F2", case(idle(2, 0), denied=[path])).seen == f"needs /{path}, which was not recorded"


@pytest.mark.parametrize("check", ["F1", "F2"])
def test_cpus_have_to_be_known(check: str) -> None:
    assert finding(check, case({f"{CPU}/online": None})).result == "not-checked"


def stolen(text: str, cpu2: int, cpu3: int) -> str:
    """The times with this steal."""
    steal = text.replace("cpu2 10000 0 0 10 0 0 0 0", f"cpu2 10000 0 0 10 0 0 0 {cpu2}")
    steal = steal.replace("cpu2 9000 0 0 10 0 0 0 0", f"cpu2 9000 0 0 10 0 0 0 {cpu2}")
    return steal.replace("0 0 0 0 0 0\nintr", f"0 0 0 {cpu3} 0 0\nintr")


def test_stolen_time_since_the_boot_is_found() -> None:
    found = finding("F3", case({"proc/stat": stolen(STAT, 150, 0)}))
    assert (found.result, found.seen) == ("warn", "The hypervisor took 1.50 s from CPU 2 since the boot")


def test_stolen_time_is_measured_with_two_readings() -> None:
    found = finding("F3", measured({"proc/stat": stolen(LATER["proc/stat"], 0, 7)}))
    assert found.seen == "The hypervisor took 0.07 s from CPU 3 between two readings"
    assert finding("F3", measured()).seen == "No time was stolen from CPUs 2-3 between two readings"


def test_stolen_time_of_other_cpus_is_no_fault() -> None:
    assert finding("F3", case({"proc/stat": STAT.replace("266 0 0 6 0", "266 0 0 6 99")})).result == "pass"


@pytest.mark.parametrize("text", [None, "cpu0 1 1 1 1 1 1 1 1\n"])
def test_stolen_time_needs_the_times(text: str | None) -> None:
    assert finding("F3", case({"proc/stat": text})).result == "not-checked"


@pytest.mark.parametrize(
    ("files", "seen", "remedy"),
    [
        ({KSM: "1\n"}, "KSM is on", "echo 2 | sudo tee /sys/kernel/mm/ksm/run"),
        (
            {HUGE_PAGES: "[always] madvise never\n"},
            "Transparent huge pages are on",
            "echo never | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        ({NUMA: "1\n"}, "NUMA balancing is on", "sudo sysctl -w kernel.numa_balancing=0"),
        (
            {KSM: "1\n", NUMA: "1\n"},
            "KSM and NUMA balancing are on",
            "echo 2 | sudo tee /sys/kernel/mm/ksm/run; sudo sysctl -w kernel.numa_balancing=0",
        ),
    ],
)
def test_memory_scanners_are_found(files: Files, seen: str, remedy: str) -> None:
    found = finding("F5", case(files))
    assert (found.result, found.seen, found.remedy) == ("warn", seen, remedy)


@pytest.mark.parametrize(
    "files", [{KSM: "2\n"}, {HUGE_PAGES: "always madvise [never]\n"}, {NUMA: None}, {KSM: None, NUMA: None}]
)
def test_scanners_that_rest_or_that_the_kernel_lacks_are_no_fault(files: Files) -> None:
    assert finding("F5", case(files)).result == "pass"


def test_scanner_that_may_not_be_read_is_not_checked_unless_another_one_is_on() -> None:
    found = finding("F5", case({KSM: None}, denied=[KSM]))
    assert (found.result, found.seen) == ("not-checked", f"needs /{KSM}, which was not recorded")
    assert finding("F5", case({KSM: None, NUMA: "1"}, denied=[KSM])).result == "warn"


def test_scanners_are_not_checked_without_any_file() -> None:
    assert finding("F5", case({KSM: None, HUGE_PAGES: None, NUMA: None})).result == "not-checked"


@pytest.mark.parametrize("check", ["F1", "F2"])
def test_a_copy_without_the_files_of_the_cpus_passes_nothing(check: str) -> None:
    found = finding(check, case({f"{CPU}/cpu0/topology/thread_siblings_list": None}))
    assert (found.result, found.seen) == ("not-checked", "needs the files of the isolated CPUs")
