# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Clock source, watchdog and CPU times as they are read."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.tick_facts import CpuTimes, read_tick_facts
from tests.unit.isolation.quiet_host import host


def test_facts_of_the_quiet_host() -> None:
    facts = read_tick_facts(host())
    assert (facts.clock_source, facts.clock_sources) == ("tsc", ("tsc", "hpet", "acpi_pm"))
    assert (facts.watchdog, facts.soft_watchdog, facts.nmi_watchdog) == ("1", "1", "0")
    assert facts.watchdog_cpus == CpuSet([0, 1])
    assert isinstance(facts.cpu_times, dict)
    assert facts.cpu_times[0] == CpuTimes(busy=363, idle=266, steal=0)
    assert sorted(facts.cpu_times) == [0, 1, 2, 3]


def test_waiting_for_a_disk_is_idle_and_guest_time_is_not_counted_twice() -> None:
    facts = read_tick_facts(host({"proc/stat": "cpu7 1 2 4 8 16 32 64 128 256 512\n"}))
    assert facts.cpu_times == {7: CpuTimes(busy=103, idle=24, steal=128)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "cpu  1 2 3 4 5 6 7 8\n",
        "cpu0 1 2 3\n",
        "cpu0 a b c d e f g h\n",
        "cpuX 1 2 3 4 5 6 7 8",
        "cpu0 1 2 3 4 5 6 7 " + "9" * 5000,
    ],
)
def test_nonsense_counts_as_missing(text: str) -> None:
    assert read_tick_facts(host({"proc/stat": text})).cpu_times == Unread("proc/stat")


def test_cut_line_is_left_out() -> None:
    facts = read_tick_facts(host({"proc/stat": "cpu0 1 0 0 1 0 0 0 0 0 0\ncpu1 5 0"}))
    assert facts.cpu_times == {0: CpuTimes(1, 1, 0)}


def test_idle_time_that_the_kernel_takes_back_is_none() -> None:
    assert CpuTimes(10, 5, 0).since(CpuTimes(4, 6, 0)) == CpuTimes(6, 0, 0)
