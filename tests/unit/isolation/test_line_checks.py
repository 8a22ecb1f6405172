# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A2 to A5: faults of the kernel line are found, and everything that is no fault is left alone."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.case import Case, Terms
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.line_checks import line_checks
from tests.unit.isolation.line_hosts import CPU, CPUSET, find, host_files

CONFIG = "boot/config-6.12.0"
BUILT = "CONFIG_SMP=y\nCONFIG_CPU_ISOLATION=y\nCONFIG_NO_HZ_FULL=y\nCONFIG_RCU_NOCB_CPU=y\n"

#: /proc/schedstat of 4 CPUs of which the scheduler balances 0-1, and of which it balances all.
TWO_BALANCED = "version 15\ntimestamp 1\n" + "".join(
    f"cpu{cpu} 0 0 0 0 0 0 1 2 3\n" + ("domain0 3 0 0\n" if cpu < 2 else "") for cpu in range(4)
)
ALL_BALANCED = "version 15\ntimestamp 1\n" + "".join(f"cpu{cpu} 0 0 0 0 0 0 1 2 3\ndomain0 f 0\n" for cpu in range(4))

#: /proc/2/stat of a kernel thread (PF_KTHREAD is 0x200000) and of another process.
KTHREADD = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0\n"
OTHER = "2 (sleep) S 0 0 0 0 -1 4194304 0 0\n"


@pytest.mark.parametrize("cmdline", ["quiet", "isolcpus=2-99 nohz_full=3-2", "\0\x1b[2J isolcpus=\x1b", "--"])
def test_each_check_yields_exactly_one_finding(cmdline: str) -> None:
    case = Case(read_facts(RecordedHost(host_files(cmdline)), 0.0))
    assert [finding.id for finding in line_checks(case)] == ["A1", "A2", "A3", "A4", "A5", "A6"]


def test_an_unread_host_passes_nothing() -> None:
    case = Case(read_facts(RecordedHost({}), 0.0))
    assert [finding.result for finding in line_checks(case)] == ["not-checked"] * 6


def test_texts_of_the_line_cannot_act_on_a_terminal() -> None:
    case = Case(read_facts(RecordedHost(host_files("isolcpus=\x1b[1m,2 isolcpus=3\x1b isol\x1bcpus=1")), 0.0))
    assert "\x1b" not in "".join(finding.seen + finding.remedy for finding in line_checks(case))


@pytest.mark.parametrize(
    ("cmdline", "seen"),
    [
        ("quiet", "The kernel line has no isolcpus="),
        ("isolcpus=2-3", "The kernel line has one isolcpus="),
        ("isolcpus=2-3 isolcpus=2-3", "The kernel line has 2 isolcpus= with the same CPUs"),
        ("isolcpus=2-3 isolcpus=domain,3,2", "The kernel line has 2 isolcpus= with the same CPUs"),
        ("isolcpus=managed_irq,2 isolcpus=domain,2", "The kernel line has 2 isolcpus= with the same CPUs"),
        ("isolcpus=2-3 -- isolcpus=1", "The kernel line has one isolcpus="),
    ],
)
def test_equal_lists_are_no_fault(cmdline: str, seen: str) -> None:
    assert find("A2", host_files(cmdline)) == Finding("A2", "pass", seen)


@pytest.mark.parametrize(
    ("cmdline", "result", "seen", "cpus"),
    [
        ("isolcpus=2-3 isolcpus=1", "fail", "isolcpus=2-3 (word 4) and isolcpus=1 (word 5)", "1-3"),
        ("isolcpus=2-99 isolcpus=3", "fail", "isolcpus=2-99 (word 4) and isolcpus=3 (word 5)", "2-3"),
        ("isolcpus=3 x isolcpus=0-2", "fail", "isolcpus=3 (word 4) and isolcpus=0-2 (word 6)", "LIST"),
        (
            "isolcpus=managed_irq,2 isolcpus=domain,3",
            "warn",
            (
                "isolcpus=managed_irq,2 (word 4) and isolcpus=domain,3 (word 5);"
                " this kernel takes both, and kernels before 5.18 do not"
            ),
            "2-3",
        ),
    ],
)
def test_different_lists_are_named_with_their_places(cmdline: str, result: str, seen: str, cpus: str) -> None:
    finding = find("A2", host_files(cmdline))
    assert (finding.result, finding.seen) == (result, f"The kernel line has different ones: {seen}")
    assert finding.remedy == (
        f"keep one of them, or write isolcpus=domain,managed_irq,{cpus} for the CPUs of all, and reboot"
    )


@pytest.mark.parametrize(
    ("cmdline", "texts", "cpus"),
    [
        ("isolcpus=managed_irq,2-3", "isolcpus=managed_irq,2-3", "CPUs 2-3"),
        ("isolcpus=nohz,3", "isolcpus=nohz,3", "CPU 3"),
        ("nohz_full=2-3", "nohz_full=2-3", "CPUs 2-3"),
        ("nohz_full=all", "nohz_full=all", "CPUs 1-3"),
        ("isolcpus=managed_irq,2 nohz_full=3", "isolcpus=managed_irq,2 and nohz_full=3", "CPUs 2-3"),
    ],
)
def test_without_domain_the_scheduler_moves_tasks_there(cmdline: str, texts: str, cpus: str) -> None:
    seen = f"Without the flag domain in {texts}, the scheduler moves tasks to {cpus}"
    remedy = f"write isolcpus=domain,managed_irq,{cpus.split()[1]} on the kernel line and reboot"
    assert find("A3", host_files(cmdline)) == Finding("A3", "fail", seen, remedy)


@pytest.mark.parametrize(
    ("files", "terms", "result", "seen"),
    [
        (host_files("isolcpus=2-3"), Terms(), "pass", "isolcpus= has the flag domain, which is also the default"),
        (
            host_files("isolcpus=domain,2 nohz_full=2-3"),
            Terms(),
            "pass",
            "isolcpus= has the flag domain, which is also the default",
        ),
        (
            host_files("isolcpus=managed_irq,2-3 nohz_full=2-3", partition="2-3"),
            Terms(),
            "pass",
            "A cpuset partition isolates CPUs 2-3",
        ),
        (host_files("nohz_full=all", partition="1-3"), Terms(), "pass", "A cpuset partition isolates CPUs 1-3"),
        (host_files("quiet", partition="3"), Terms(), "pass", "A cpuset partition isolates CPU 3"),
        (
            host_files("nohz_full=1-3", partition="2-3"),
            Terms(isolated_cpus_from="cpuset"),
            "pass",
            "A cpuset partition isolates CPUs 2-3",
        ),
        (
            host_files("nohz_full=2-3") | {"proc/schedstat": TWO_BALANCED},
            Terms(),
            "pass",
            "CPUs 2-3 are out of the scheduler's domains, by a cpuset partition",
        ),
        (
            host_files("nohz_full=1-3", partition="2-3"),
            Terms(),
            "fail",
            "Without the flag domain in nohz_full=1-3, the scheduler moves tasks to CPU 1",
        ),
        (
            host_files("nohz_full=2-3") | {"proc/schedstat": ALL_BALANCED},
            Terms(),
            "fail",
            "Without the flag domain in nohz_full=2-3, the scheduler moves tasks to CPUs 2-3",
        ),
        (host_files("quiet"), Terms(), "not-checked", "needs an isolated CPU"),
        (host_files("isolcpus=managed_irq,"), Terms(), "not-checked", "needs an isolated CPU"),
    ],
)
def test_what_isolates_instead_of_the_flag_domain(files: dict[str, str], terms: Terms, result: str, seen: str) -> None:
    finding = find("A3", files, terms)
    assert (finding.result, finding.seen) == (result, seen)


def test_a_partition_that_may_not_be_read_is_not_checked() -> None:
    files = host_files("nohz_full=2-3")
    del files[CPUSET]
    assert find("A3", files, denied=[CPUSET]).seen == f"needs /{CPUSET}, which was not recorded"
    assert find("A3", files | {"proc/schedstat": ALL_BALANCED}, denied=[CPUSET]).result == "fail"
    assert find("A3", files).result == "fail"


@pytest.mark.parametrize(
    "cmdline",
    [
        "isolcpus=2-3 nohz-full=2-3 rcu-nocbs=2-3 irqaffinity=0-1",
        "rcu_nocbs rcu_nocb_poll nohz=on maxcpus=4 nr_cpus=8 possible_cpus=8 skew_tick=1 intel_pstate=disable",
        "irqpoll irqfixup nosmt nosoftlockup tsc=nowatchdog hugepages=8 console=ttyS0 iommu=pt foo.isolcpu=2",
        "splash -- isolcpu=2",
    ],
)
def test_known_parameters_are_no_fault(cmdline: str) -> None:
    seen = "No parameter for isolation is misspelt or unknown to the kernel"
    assert find("A4", host_files(cmdline)) == Finding("A4", "pass", seen)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("isolcpu=2-3", "isolcpus=2-3"),
        ("isol_cpus=2-3", "isolcpus=2-3"),
        ("isolated_cpus=2-3", "isolcpus=2-3"),
        ("ISOLCPUS=2-3", "isolcpus=2-3"),
        ("nohzfull=2-3", "nohz_full=2-3"),
        ("nohz-ful=2-3", "nohz_full=2-3"),
        ("rcu_nocb=2-3", "rcu_nocbs=2-3"),
        ("irq_affinity=0-1", "irqaffinity=0-1"),
        ("irqaffinty", "irqaffinity=LIST"),
    ],
)
def test_misspelt_parameters_are_a_warning(word: str, meant: str) -> None:
    seen, remedy = f"{word} is no parameter of the kernel", f"write {meant} instead; then reboot"
    assert find("A4", host_files(word)) == Finding("A4", "warn", seen, remedy)


@pytest.mark.parametrize("word", ["isolcpus", "nohz_full", "irqaffinity"])
def test_a_parameter_without_its_list_is_a_warning(word: str) -> None:
    finding = find("A4", host_files(word))
    assert (finding.result, finding.seen) == ("warn", f"{word} has no list of CPUs, so the kernel ignores it")


@pytest.mark.parametrize(
    ("stat", "allowed", "result"),
    [(KTHREADD, "0-1", "pass"), (KTHREADD, "0-3", "warn"), (OTHER, "0-1", "warn"), (None, "0-1", "warn")],
)
def test_kthread_cpus_is_no_fault_where_kernel_threads_obey_it(stat: str | None, allowed: str, result: str) -> None:
    files = host_files("kthread_cpus=0-1") | {"proc/2/status": f"Name:\tx\nCpus_allowed_list:\t{allowed}\n"}
    finding = find("A4", files if stat is None else files | {"proc/2/stat": stat})
    assert finding.result == result
    if result == "warn":
        assert finding.seen == "kthread_cpus=0-1 is no parameter of this kernel"
        assert finding.remedy == "delete kthread_cpus=0-1: nohz_full= keeps kernel threads off its CPUs; then reboot"


@pytest.mark.parametrize(
    ("config", "has_file", "terms", "lacks"),
    [
        (None, False, Terms(), "CONFIG_NO_HZ_FULL"),
        (BUILT.replace("CONFIG_NO_HZ_FULL=y", "# CONFIG_NO_HZ_FULL is not set"), False, Terms(), "CONFIG_NO_HZ_FULL"),
        (BUILT.replace("CONFIG_CPU_ISOLATION=y\n", ""), True, Terms(), "CONFIG_CPU_ISOLATION"),
        (BUILT.replace("CONFIG_CPU_ISOLATION=y\n", ""), True, Terms(nohz_full="none"), "CONFIG_CPU_ISOLATION"),
        (BUILT.replace("CONFIG_RCU_NOCB_CPU=y\n", ""), True, Terms(), "CONFIG_RCU_NOCB_CPU"),
        ("CONFIG_SMP=y\n", False, Terms(nohz_full="none"), "CONFIG_CPU_ISOLATION"),
    ],
)
def test_a_kernel_without_a_feature_is_a_warning(config: str | None, has_file: bool, terms: Terms, lacks: str) -> None:
    files = host_files("isolcpus=2-3", "2-3")
    if not has_file:
        del files[f"{CPU}/nohz_full"]
    finding = find("A5", files if config is None else files | {CONFIG: config}, terms)
    assert (finding.result, finding.seen) == ("warn", f"This kernel was built without {lacks}")
    assert finding.remedy.startswith(f"boot a kernel that was built with {lacks}=y")


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        (None, "The kernel has nohz_full, so it was built with CONFIG_NO_HZ_FULL"),
        ("", "The kernel has nohz_full, so it was built with CONFIG_NO_HZ_FULL"),
        (BUILT, "The kernel was built with CONFIG_CPU_ISOLATION, CONFIG_NO_HZ_FULL, CONFIG_RCU_NOCB_CPU"),
    ],
)
def test_a_kernel_that_can_isolate(config: str | None, seen: str) -> None:
    files = host_files("isolcpus=2-3", "2-3")
    assert find("A5", files if config is None else files | {CONFIG: config}) == Finding("A5", "pass", seen)


def test_no_nohz_full_is_no_fault_where_nobody_wants_it() -> None:
    files = host_files("isolcpus=2-3", "2-3") | {CONFIG: BUILT.replace("CONFIG_NO_HZ_FULL=y\n", "")}
    del files[f"{CPU}/nohz_full"]
    assert find("A5", files, Terms(nohz_full="none")).result == "pass"
    assert find("A5", files).result == "warn"


def test_denied_evidence_is_not_checked() -> None:
    files = host_files("isolcpus=2-3", "2-3")
    assert find("A5", files, denied=[CONFIG]).result == "pass"
    del files[f"{CPU}/nohz_full"]
    finding = find("A5", files, denied=[CONFIG, f"{CPU}/nohz_full"])
    assert (finding.result, finding.seen) == ("not-checked", f"needs /{CONFIG}, which was not recorded")


def test_without_isolated_cpus_no_feature_is_needed() -> None:
    assert find("A5", host_files("quiet")).seen == "needs an isolated CPU"


def test_a_partition_of_a_kernel_without_the_list_at_the_root_is_no_fault() -> None:
    files = host_files("isolcpus=managed_irq,2-3 nohz_full=2-3", nohz_full="2-3")
    del files[CPUSET]
    assert find("A3", files).result == "fail"
    group = "sys/fs/cgroup/dpdk"
    files |= {f"{group}/cpuset.cpus.partition": "isolated\n", f"{group}/cpuset.cpus.effective": "2-3\n"}
    assert find("A3", files).seen == "A cpuset partition isolates CPUs 2-3"


def test_partitions_that_may_not_be_read_are_not_checked_on_such_a_kernel() -> None:
    files = host_files("isolcpus=managed_irq,2-3")
    del files[CPUSET]
    assert find("A3", files, denied=["sys/fs/cgroup/cgroup.subtree_control"]).result == "not-checked"
