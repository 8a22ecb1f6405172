# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A1: what the kernel line asks for is compared with what is in force, and the remedy is exact."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.case import Terms
from epa_orchestrator.isolation.findings import Finding
from tests.unit.isolation.line_hosts import CPU, CPUSET, find, host_files

NOTHING = "No CPU is isolated from the scheduler, and the kernel line asks for none"
RANGE = '(dmesg shows "Housekeeping: nohz_full= or isolcpus= incorrect CPU range")'
MATCH = '(dmesg shows "Housekeeping: nohz_full= must match isolcpus=")'
ALL_PARAMETERS = (
    "add isolcpus=domain,managed_irq,LIST nohz_full=LIST rcu_nocbs=LIST irqaffinity=REST to the kernel line and reboot;"
    " LIST are the CPUs to isolate, such as 4-15, and REST are all others, such as 0-3"
)


@pytest.mark.parametrize(
    ("cmdline", "isolated", "nohz_full"),
    [
        ("isolcpus=2-3", "2-3", "(null)"),
        ("isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1", "2-3", "2-3"),
        ("isolcpus=2-N nohz_full=2-N", "2-3", "2-3"),
        ("isolcpus=0-3:1/2", "0,2", "(null)"),
        ("isolcpus=foo,2-3", "2-3", "(null)"),
        ("isolcpus=1 nohz-full=2-3", "1", "2-3"),
        ("isolcpus=nohz,domain,2-3", "2-3", "2-3"),
        ("isolcpus=2 nohz_full=all", "2", "1-3"),
        ("isolcpus=2 nohz_full=0-2", "2", "1-2"),
        ("isolcpus=2-3 isolcpus=3,2", "2-3", "(null)"),
        ("isolcpus=2-99 isolcpus=2-3", "2-3", "(null)"),
        ("isolcpus=managed_irq,2 isolcpus=domain,3", "3", "(null)"),
    ],
)
def test_in_force_as_asked(cmdline: str, isolated: str, nohz_full: str) -> None:
    finding = find("A1", host_files(cmdline, isolated, nohz_full))
    noun = f"CPU {isolated} is" if isolated.isdecimal() else f"CPUs {isolated} are"
    assert (finding.result, finding.seen) == ("pass", f"{noun} isolated, as the kernel line asks")


@pytest.mark.parametrize(
    ("cmdline", "isolated", "nohz_full", "seen", "remedy"),
    [
        (
            "isolcpus=2-99",
            "",
            "(null)",
            f"isolcpus=2-99 is on the kernel line, and no CPU is isolated: this host has no CPU 99 {RANGE}",
            "write isolcpus=2-3 on the kernel line instead and reboot",
        ),
        (
            "isolcpus=3-2",
            "",
            "(null)",
            f"isolcpus=3-2 is on the kernel line, and no CPU is isolated: the range '3-2' runs backwards {RANGE}",
            "write isolcpus=2-3 on the kernel line instead and reboot",
        ),
        (
            "isolcpus=domain,managed_irq,2-3n",
            "",
            "(null)",
            (
                "isolcpus=domain,managed_irq,2-3n is on the kernel line, and no CPU is isolated:"
                f" '2-3n' is not a CPU or a range of CPUs such as 4-7 {RANGE}"
            ),
            "write isolcpus=domain,managed_irq,LIST on the kernel line, with the CPUs to isolate as LIST, and reboot",
        ),
        (
            "isolcpus=all",
            "",
            "(null)",
            (
                "isolcpus=all is on the kernel line, and no CPU is isolated:"
                " the kernel reads 'all' as a flag and finds no"
                ' list of CPUs (dmesg shows "isolcpus: Skipped unknown flag all")'
            ),
            "write isolcpus=LIST on the kernel line, with the CPUs to isolate as LIST, and reboot",
        ),
        (
            "isolcpus=bad9,2-3",
            "",
            "(null)",
            (
                "isolcpus=bad9,2-3 is on the kernel line, and no CPU is isolated: 'bad9' is no flag of isolcpus="
                ' (dmesg shows "isolcpus: Invalid flag bad9")'
            ),
            "write isolcpus=2-3 on the kernel line instead and reboot",
        ),
        (
            "isolcpus=2-3 isolcpus=1",
            "2-3",
            "(null)",
            (
                "isolcpus=1 is on the kernel line, and CPUs 2-3 are isolated:"
                f" isolcpus=2-3 comes first and differs {MATCH}"
            ),
            "keep only one isolcpus= on the kernel line, and reboot",
        ),
        (
            "isolcpus=domain,0-3",
            "1-3",
            "(null)",
            (
                "isolcpus=domain,0-3 is on the kernel line, and CPUs 1-3 are isolated:"
                " the kernel needs a CPU for itself and keeps CPU 0"
            ),
            "write isolcpus=domain,1-3 on the kernel line instead and reboot",
        ),
        (
            "isolcpus=2-3 nohz_full=2-99",
            "2-3",
            "(null)",
            f"nohz_full=2-99 is on the kernel line, and no CPU is in nohz_full: this host has no CPU 99 {RANGE}",
            "write nohz_full=2-3 on the kernel line instead and reboot",
        ),
        (
            "isolcpus=2 nohz_full=3",
            "2",
            "(null)",
            (
                "nohz_full=3 is on the kernel line, and no CPU is in nohz_full:"
                " before Linux 5.18, nohz_full= has to name the same CPUs as isolcpus="
            ),
            "name the same CPUs in isolcpus= and nohz_full=, and reboot",
        ),
        (
            "isolcpus=2-N",
            "",
            "(null)",
            (
                "isolcpus=2-N is on the kernel line, and no CPU is isolated:"
                " this kernel may not know 'N' in a list of CPUs"
            ),
            "write isolcpus=2-3 on the kernel line instead and reboot",
        ),
        (
            "isolcpus=2-3",
            "3",
            "(null)",
            (
                "isolcpus=2-3 is on the kernel line, and CPU 3 is isolated:"
                " the kernel dropped the parameter; dmesg may say why"
            ),
            "look into dmesg for the reason, correct the kernel line and reboot",
        ),
    ],
)
def test_asked_and_not_in_force(cmdline: str, isolated: str, nohz_full: str, seen: str, remedy: str) -> None:
    assert find("A1", host_files(cmdline, isolated, nohz_full)) == Finding("A1", "fail", seen, remedy)


def test_two_parameters_make_one_finding() -> None:
    finding = find("A1", host_files("isolcpus=2-99 nohz_full=3-2"))
    assert finding.seen.count(" is on the kernel line") == 2
    assert finding.remedy == (
        "write isolcpus=2-3 on the kernel line instead and reboot;"
        " write nohz_full=2-3 on the kernel line instead and reboot"
    )


def test_a_partition_does_not_hide_a_dropped_isolcpus() -> None:
    assert find("A1", host_files("isolcpus=2-99", partition="2-3")).result == "fail"


def test_cpus_that_may_be_added_later_are_no_fault() -> None:
    files = host_files("isolcpus=2-6", "2-6") | {f"{CPU}/possible": "0-7\n"}
    assert find("A1", files).result == "pass"


def test_ids_that_no_cpu_can_have_are_no_fault() -> None:
    files = host_files("isolcpus=2-6", "2-3,6") | {f"{CPU}/possible": "0-3,6-7\n"}
    assert find("A1", files).result == "pass"


def test_without_possible_only_present_cpus_count() -> None:
    files = host_files("isolcpus=2-N", "2-127")
    del files[f"{CPU}/possible"]
    assert find("A1", files).result == "pass"


@pytest.mark.parametrize(
    ("cmdline", "nohz_full", "seen", "remedy"),
    [
        ("quiet", "(null)", NOTHING, ALL_PARAMETERS),
        ("isolcpus=", "", NOTHING, ALL_PARAMETERS),
        (
            "isolcpus=managed_irq,2-3",
            "(null)",
            NOTHING,
            "add isolcpus=domain,managed_irq,2-3 to the kernel line and reboot",
        ),
        (
            "nohz_full=2-3",
            "2-3",
            f"{NOTHING}; nohz_full has 2-3",
            (
                "set the option isolated-cpus-from=nohz_full,"
                " or add isolcpus=domain,managed_irq,2-3 to the kernel line and reboot"
            ),
        ),
    ],
)
def test_nothing_isolated_is_a_warning(cmdline: str, nohz_full: str, seen: str, remedy: str) -> None:
    assert find("A1", host_files(cmdline, "", nohz_full)) == Finding("A1", "warn", seen, remedy)


def test_a_runtime_partition_is_no_fault_of_the_kernel_line() -> None:
    finding = find("A1", host_files("quiet", partition="2-3"))
    assert (finding.result, finding.seen) == (
        "pass",
        (
            "The kernel line asks for no isolated CPU, and a cpuset partition isolates CPUs 2-3;"
            " the option isolated-cpus-from=cpuset makes use of them"
        ),
    )


def test_a_kernel_that_isolates_unasked_is_no_fault() -> None:
    assert find("A1", host_files("quiet", "2-3")).seen == "CPUs 2-3 are isolated, although the kernel line names none"
    assert find("A1", host_files("isolcpus=2", "2-3")).seen == "CPUs 2-3 are isolated, more than the kernel line names"


@pytest.mark.parametrize(
    ("option", "files", "result", "seen", "remedy"),
    [
        (
            "nohz_full",
            host_files("nohz_full=2-3", "", "2-3"),
            "pass",
            "nohz_full has 2-3, and isolated-cpus-from=nohz_full reads it",
            "",
        ),
        (
            "cpuset",
            host_files("quiet", partition="2-3"),
            "pass",
            "The root's cpuset.cpus.isolated has 2-3, and isolated-cpus-from=cpuset reads it",
            "",
        ),
        (
            "cpuset",
            host_files("isolcpus=2-3", "2-3"),
            "warn",
            (
                "The root's cpuset.cpus.isolated is empty, and the option isolated-cpus-from=cpuset reads it;"
                " isolcpus= isolates CPUs 2-3"
            ),
            "set isolated-cpus-from=isolcpus",
        ),
        (
            "cpuset",
            host_files("quiet"),
            "warn",
            "The root's cpuset.cpus.isolated is empty, and the option isolated-cpus-from=cpuset reads it",
            "write isolated to cpuset.cpus.partition of a cgroup that has the CPUs to isolate",
        ),
        (
            "nohz_full",
            host_files("quiet"),
            "warn",
            "nohz_full is empty, and the option isolated-cpus-from=nohz_full reads it",
            ALL_PARAMETERS,
        ),
    ],
)
def test_the_list_of_the_option(option: str, files: dict[str, str], result: str, seen: str, remedy: str) -> None:
    terms = Terms(isolated_cpus_from=option)  # pyright: ignore[reportArgumentType]
    finding = find("A1", files, terms)
    assert (finding.result, finding.seen, finding.remedy) == (result, seen, remedy)


@pytest.mark.parametrize(
    ("path", "cmdline", "option"),
    [
        ("proc/cmdline", "isolcpus=2-3", "isolcpus"),
        (f"{CPU}/isolated", "isolcpus=2-3", "isolcpus"),
        (f"{CPU}/nohz_full", "isolcpus=2-3 nohz_full=2-3", "isolcpus"),
        (CPUSET, "quiet", "cpuset"),
    ],
)
def test_a_list_that_cannot_be_read_is_not_checked(path: str, cmdline: str, option: str) -> None:
    files = host_files(cmdline, "2-3", "2-3", "2-3")
    del files[path]
    terms = Terms(isolated_cpus_from=option)  # pyright: ignore[reportArgumentType]
    finding = find("A1", files, terms, denied=[path])
    assert (finding.result, finding.seen) == ("not-checked", f"needs /{path}, which was not recorded")


def test_a_cpu_over_those_present_is_the_reason_where_the_possible_ones_are_not_known() -> None:
    files = host_files("isolcpus=2-7")
    del files[f"{CPU}/possible"]
    assert "this host has no CPU 7" in find("A1", files).seen


def test_a_kernel_without_nohz_full_does_not_do_what_the_line_asks_for() -> None:
    files = host_files("isolcpus=2-3 nohz_full=2-3", "2-3")
    del files[f"{CPU}/nohz_full"]
    found = find("A1", files)
    assert found.result == "fail"
    assert "no CPU is in nohz_full: this kernel was built without CONFIG_NO_HZ_FULL" in found.seen
    assert found.remedy.endswith("or set the option nohz-full=none and delete nohz_full=")
    flag = find("A1", {**files, "proc/cmdline": "isolcpus=nohz,domain,2-3\n", f"{CPU}/isolated": "\n"})
    assert flag.remedy.endswith("and delete the flag nohz")
    assert find("A1", {**files, "proc/cmdline": "isolcpus=2-3\n"}).result == "pass"
