# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What the audit finds on kernels whose line is not right: exactly the faults, each with the right remedy."""

from __future__ import annotations

from typing import Final

import pytest

from tests.boots.conftest import Lab
from tests.boots.scenarios import Scenario, verify

#: What is found where the scheduler uses the CPUs 2-3, which somebody meant to isolate.
BALANCED: Final = {"B1": ("fail", "isolcpus=domain,managed_irq,2-3"), "B2": ("fail", "CPUAffinity=0-1")}

SCENARIOS: Final = (
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


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.kernel}: {scenario.name}")
def test_fault_of_a_kernel_line_is_found_and_nothing_else(scenario: Scenario, lab: Lab) -> None:
    verify(scenario, lab)
