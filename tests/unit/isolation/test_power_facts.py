# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Governors, idle states and memory scanners as they are read."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.power_facts import CpuPower, read_power_facts
from tests.unit.isolation.quiet_host import CPU, Files, host


def cpu2(changes: Files, denied: tuple[str, ...] = ()) -> CpuPower:
    return read_power_facts(host(changes, denied)).cpus[2]


def idle(state: int, latency: str, disable: str = "0") -> dict[str, str]:
    directory = f"{CPU}/cpu2/cpuidle/state{state}"
    return {f"{directory}/latency": f"{latency}\n", f"{directory}/disable": f"{disable}\n"}


def test_virtual_machine_has_neither_governors_nor_idle_states() -> None:
    assert cpu2({}) == CpuPower(
        Unread(f"{CPU}/cpu2/cpufreq/scaling_governor"), Unread(f"{CPU}/cpu2/cpuidle"), longest_latency=None
    )


def test_only_cpus_that_somebody_meant_to_isolate_are_read() -> None:
    facts = read_power_facts(
        host({f"{CPU}/isolated": "2", f"{CPU}/nohz_full": "3,9", "sys/fs/cgroup/cpuset.cpus.isolated": "1"})
    )
    assert sorted(facts.cpus) == [1, 2, 3]


def test_enabled_idle_states_count() -> None:
    power = cpu2({**idle(0, "0"), **idle(1, "2"), **idle(2, "10", disable="1"), **idle(3, "133")})
    assert power.latencies == (0, 2, 133)
    assert power.wakeup == 133


@pytest.mark.parametrize(
    ("limit", "longest", "wakeup"),
    [("0\n", None, 133), ("n/a\n", 0, 0), ("50\n", 50, 2), ("200\n", 200, 133), (None, None, 133), ("x", None, 133)],
)
def test_limit_of_latency_excludes_idle_states(limit: str | None, longest: int | None, wakeup: int) -> None:
    states = {**idle(0, "0"), **idle(1, "2"), **idle(2, "133")}
    power = cpu2({**states, f"{CPU}/cpu2/power/pm_qos_resume_latency_us": limit})
    assert (power.longest_latency, power.wakeup) == (longest, wakeup)


def test_idle_states_that_may_not_be_read_are_unknown() -> None:
    path = f"{CPU}/cpu2/cpuidle"
    power = cpu2({}, (path,))
    assert power.latencies == Unread(path, "denied")
    assert power.wakeup == 0


def test_nonsense_in_a_latency_is_no_traceback() -> None:
    assert cpu2({**idle(0, "x"), **idle(1, "7"), **idle(2, "9" * 5000)}).latencies == (7,)


def test_switches_of_memory_scanners() -> None:
    facts = read_power_facts(host({"proc/sys/kernel/numa_balancing": None}))
    assert (facts.ksm, facts.huge_pages) == ("0", "always [madvise] never")
    assert facts.numa_balancing == Unread("proc/sys/kernel/numa_balancing")
