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

    `passes` are checks that have to pass, not only to find nothing; `seen` are parts of what is seen.
    """

    kernel: str
    name: str
    found: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    passes: str = ""
    seen: dict[str, str] = field(default_factory=dict[str, str])


#: What a wrong kernel line costs on top of its own finding: tasks are placed on CPUs 2-3.
SCENARIOS: Final = (
    Scenario("good", "idle", passes="A1 A2 A3 B1 B2 B3 B4 B5 B7 C1 C3 C4 C6 D1 D2 D3 F5"),
    Scenario("good", "busy_owner", passes="B3 C1 C2 D3 E1 E2"),
    Scenario("good", "busy_stranger", {"B3": ("fail", "taskset -apc 0-1 ")}, passes="E2", seen={"B3": "CPU 3"}),
    Scenario("good", "stacked_owner", {"E2": ("fail", "taskset -pc 3 ")}, passes="B3", seen={"E2": "share CPU 2"}),
    Scenario("good", "crowded_owner", {"E3": ("warn", "")}, passes="B3 E2"),
    Scenario("good", "straying_owner", {"E1": ("warn", "2-3")}, passes="B3"),
    Scenario("good", "interrupt", {"D2": ("fail", "smp_affinity_list")}),
    Scenario("good", "interrupt_at_work", {"D2": ("fail", "smp_affinity_list"), "D3": ("fail", "")}),
    Scenario("good", "workqueues", {"B5": ("warn", "/sys/devices/virtual/workqueue/cpumask")}),
    Scenario("good", "watchdog", {"C4": ("warn", "/proc/sys/kernel/watchdog_cpumask")}),
    Scenario(
        "without nohz_full",
        "busy_owner",
        {"B4": ("warn", "nohz_full=2-3"), "C1": ("fail", "nohz_full=2-3"), "C2": ("warn", "nohz_full=2-3")},
    ),
    Scenario("nothing", "idle"),
    Scenario("managed_irq only", "unknown_claims", {"A3": ("fail", "isolcpus=domain,managed_irq,2-3")}),
    Scenario("two isolcpus", "unknown_claims", {"A2": ("fail", "isolcpus=")}),
    Scenario("no such CPU", "unknown_claims", {"A1": ("fail", "isolcpus=")}),
    Scenario("nohz_full only", "unknown_claims", {"A3": ("fail", "isolcpus=domain,managed_irq,2-3")}),
    Scenario("nohz_full only", "valid_partition"),
    Scenario("nohz_full only", "valid_partition_by_default"),
    Scenario("nohz_full only", "invalid_partition", {"B6": ("fail", "")}),
    Scenario("split cores", "unknown_claims", {"B7": ("warn", "")}),
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
    assert {check: each["result"] for check, each in bad.items()} == {
        check: result for check, (result, _) in scenario.found.items()
    }, bad
    for check, (_, remedy) in scenario.found.items():
        assert remedy in bad[check]["remedy"]
    assert {check: findings[check] for check in scenario.passes.split() if findings[check]["result"] != "pass"} == {}
    for check, seen in scenario.seen.items():
        assert seen in findings[check]["seen"]
