# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What the audit finds on real kernels: exactly the faults that are there, each with the right remedy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pytest

from epa_orchestrator.isolation.findings import CHECKS
from tests.boots.conftest import Lab
from tests.boots.lines import KERNELS


@dataclass(frozen=True)
class Scenario:
    """A scenario of inside.py on a kernel, and all that is found: by id, the result and a part of the remedy.

    `passes` are checks that have to pass, not only to find nothing. `seen` are parts of what is seen. `may` are checks
    whose result depends on the moment.
    """

    kernel: str
    name: str
    found: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    passes: str = ""
    seen: dict[str, str] = field(default_factory=dict[str, str])
    may: frozenset[str] = frozenset()


#: What is found wherever the scheduler uses the CPUs 2-3, which somebody meant to isolate.
BALANCED: Final = {"B1": ("fail", "isolcpus=domain,managed_irq,2-3"), "B2": ("fail", "CPUAffinity=0-1")}

SCENARIOS: Final = (
    # The masks of kswapd0, kcompactd0 and the threads of each CPU hold isolated CPUs, and that is no fault.
    Scenario("good", "idle", passes="A1 A2 A3 A4 A5 B1 B2 B3 B4 B5 B6 B7 C1 C2 C3 C4 C6 D1 D2 D3 D4 D5 D6 F3 F5"),
    Scenario("good", "busy_owner", passes="B3 C1 C2 D3 E1 E2", seen={"C2": "No busy isolated CPU"}),
    Scenario("good", "busy_stranger", {"B3": ("fail", "taskset -apc 0-1 ")}, passes="E1 E2", seen={"B3": "CPU 3"}),
    Scenario("good", "stacked_owner", {"E2": ("fail", "taskset -pc 3 ")}, passes="B3", seen={"E2": "share CPU 2"}),
    Scenario("good", "crowded_owner", {"E3": ("warn", "a CPU of its own")}, passes="B3 E2", seen={"E3": "CPU 2"}),
    Scenario("good", "straying_owner", {"E1": ("warn", "taskset -pc 2-3 ")}, passes="B3", seen={"E1": "CPU 1"}),
    Scenario("good", "interrupt", {"D2": ("fail", "echo 0-1 | sudo tee /proc/irq/4/smp_affinity_list")}),
    Scenario(
        "good",
        "interrupt_at_work",
        {"D2": ("fail", "echo 0-1 | sudo tee /proc/irq/4/smp_affinity_list"), "D3": ("fail", "/proc/irq/4/")},
        seen={"D2": "ttyS0", "D3": "ttyS0"},
    ),
    Scenario("good", "workqueues", {"B5": ("warn", "echo 3 | sudo tee /sys/devices/virtual/workqueue/cpumask")}),
    Scenario("good", "watchdog", {"C4": ("warn", "kernel.watchdog_cpumask=0-1")}),
    # The kernel keeps its threads and the lockup watchdog off the CPUs of nohz_full only.
    Scenario(
        "without nohz_full",
        "busy_owner",
        {
            "B4": ("warn", "nohz_full=2-3"),
            "C1": ("fail", "nohz_full=2-3"),
            "C2": ("warn", "nohz_full=2-3"),
            "C4": ("warn", "kernel.watchdog_cpumask=0-1"),
        },
    ),
    Scenario("nothing", "idle", {"A1": ("warn", "isolcpus=domain,managed_irq,LIST")}),
    Scenario(
        "managed_irq only",
        "unknown_claims",
        {
            "A1": ("warn", "isolcpus=domain,managed_irq,2-3"),
            "A3": ("fail", "isolcpus=domain,managed_irq,2-3"),
            **BALANCED,
        },
        seen={"A1": "nohz_full has 2-3"},
    ),
    Scenario(
        "two isolcpus",
        "unknown_claims",
        {"A1": ("fail", "only one isolcpus="), "A2": ("fail", "keep one of them")},
        seen={"A2": "isolcpus=1-3"},
    ),
    Scenario(
        "no such CPU",
        "unknown_claims",
        {"A1": ("fail", "isolcpus=domain,managed_irq,2-3"), **BALANCED},
        seen={"A1": "no CPU 4"},
    ),
    Scenario(
        "nohz_full only",
        "unknown_claims",
        {
            "A1": ("warn", "isolated-cpus-from=nohz_full"),
            "A3": ("fail", "isolcpus=domain,managed_irq,2-3"),
            **BALANCED,
        },
    ),
    Scenario("nohz_full only", "valid_partition", passes="A1 A3 B1 B2 B4 B6 C1"),
    Scenario("nohz_full only", "valid_partition_by_default", passes="A3 B1 B2 B4 B6 C1"),
    # The end of a partition widens the masks of kernel threads, of which one may be at work there.
    Scenario(
        "nohz_full only",
        "invalid_partition",
        {
            "A1": ("warn", "cpuset.cpus.partition"),
            "A3": ("fail", "isolcpus=domain,managed_irq,2-3"),
            "B6": ("fail", "/sys/fs/cgroup/quiet"),
            **BALANCED,
        },
        may=frozenset({"B4"}),
    ),
    Scenario("split cores", "unknown_claims", {"B7": ("warn", "isolate whole cores: 2-3")}, seen={"B7": "CPUs 0-1"}),
)


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(each, id=f"{each.kernel}: {each.name}", marks=pytest.mark.xdist_group(each.kernel))
        for each in SCENARIOS
    ],
)
def test_audit_finds_what_is_wrong_and_nothing_else(scenario: Scenario, lab: Lab) -> None:
    findings = lab.run(KERNELS[scenario.kernel], "tests.boots.inside", scenario.name)["findings"]
    assert list(findings) == list(CHECKS)
    bad = {check: each for check, each in findings.items() if each["result"] in ("fail", "warn")}
    for check in scenario.may:
        bad.pop(check, None)
    assert {check: each["result"] for check, each in bad.items()} == {
        check: result for check, (result, _) in scenario.found.items()
    }, bad
    for check, (_, remedy) in scenario.found.items():
        assert remedy in bad[check]["remedy"]
    assert {check: findings[check] for check in scenario.passes.split() if findings[check]["result"] != "pass"} == {}
    for check, seen in scenario.seen.items():
        assert seen in findings[check]["seen"]
