# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What the audit finds on a kernel whose line is right: what is made wrong while it runs, and nothing else."""

from __future__ import annotations

from typing import Final

import pytest

from tests.boots.conftest import Lab
from tests.boots.scenarios import Scenario, verify

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
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.kernel}: {scenario.name}")
def test_fault_on_a_well_isolated_host_is_found_and_nothing_else(scenario: Scenario, lab: Lab) -> None:
    verify(scenario, lab)
