# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The outcomes are those that Linux 6.12 has shown on a host with 4 CPUs."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.housekeeping import NO_CPU_LEFT, NO_MATCH, WRONG_RANGE, all_cpus, first_of, outcomes
from epa_orchestrator.isolation.kernel_line import KernelLine

FOUR = CpuSet(range(4))

#: Kernel lines, and what 6.12.x printed in `isolated`, `nohz_full` and dmesg (where a parameter was dropped).
BOOTS = [
    ("isolcpus=2-3 isolcpus=1", "2-3", "", NO_MATCH),
    ("isolcpus=domain,managed_irq,2-3 nohz_full=2-3", "2-3", "2-3", ""),
    ("isolcpus=2-99", "", "", WRONG_RANGE),
    ("isolcpus=2-N", "2-3", "", ""),
    ("isolcpus=0-3:1/2", "0,2", "", ""),
    ("isolcpus=managed_irq,2-3", "", "", ""),
    ("isolcpus=nohz,2-3", "", "2-3", ""),
    ("isolcpus=foo,2-3", "2-3", "", ""),
    ("isolcpus=foo_bar9,2-3", "", "", "isolcpus: Invalid flag foo_bar9"),
    ("isolcpus=3-2", "", "", WRONG_RANGE),
    ("isolcpus=2-", "", "", WRONG_RANGE),
    ("isolcpus=1 nohz-full=2-3", "1", "2-3", ""),
    ("isolcpus=all", "", "", "isolcpus: Skipped unknown flag all"),
    ("isolcpus=domain,all", "", "", "isolcpus: Skipped unknown flag all"),
    ("isolcpus=foo1", "", "", "isolcpus: Invalid flag foo1"),
    ("nohz_full=all", "", "1-3", ""),
    ("isolcpus=2-99 isolcpus=3", "3", "", WRONG_RANGE),
    ("isolcpus=2-3 nohz_full=1", "2-3", "1", ""),
    ("isolcpus=domain,0-1 nohz_full=2-3", "0-1", "2-3", ""),
    ("isolcpus= nohz_full=2", "", "2", ""),
    ("isolcpus=2-3 isolcpus=domain,3,2", "2-3", "", ""),
    ("isolcpus=managed_irq,2 isolcpus=domain,2", "2", "", ""),
    ("isolcpus=managed_irq,2 isolcpus=domain,3", "3", "", ""),
    ('isolcpus="2-3" nohz_full=2,,3', "2-3", "2-3", ""),
    ("isolcpus=domain,0-3", "1-3", "", ""),
    ("isolcpus", "", "", ""),
    ("isolcpus=nohz,domain,2-3 nohz_full=2-3", "2-3", "2-3", ""),
    ("foo.isolcpus=2 nohz_full=2-99 isolcpus=domain,", "", "", WRONG_RANGE),
    ("-- isolcpus=2", "", "", ""),
]


@pytest.mark.parametrize(("line", "isolated", "nohz_full", "log"), BOOTS)
def test_outcomes_are_what_the_kernel_did(line: str, isolated: str, nohz_full: str, log: str) -> None:
    found = outcomes(KernelLine(line), FOUR, FOUR)
    in_force = {
        flag: all_cpus(outcome.named for outcome in found if flag in outcome.request.flags and not outcome.mistake)
        for flag in ("domain", "nohz")
    }
    for flag, cpus in in_force.items():
        if cpus == FOUR:
            in_force[flag] = cpus - first_of(FOUR)
    assert (str(in_force["domain"]), str(in_force["nohz"])) == (isolated, nohz_full)
    assert next((outcome.log for outcome in found if outcome.mistake), "") == log


def test_a_host_with_one_cpu_has_none_to_isolate() -> None:
    (outcome,) = outcomes(KernelLine("isolcpus=0"), CpuSet([0]), CpuSet([0]))
    assert (outcome.mistake, outcome.log) == ("it leaves no CPU for everything else", NO_CPU_LEFT)


def test_a_cpu_that_may_be_added_later_is_accepted() -> None:
    (outcome,) = outcomes(KernelLine("isolcpus=2-6"), CpuSet(range(8)), FOUR)
    assert outcome.mistake == ""


def test_without_known_ids_no_cpu_is_too_high() -> None:
    (outcome,) = outcomes(KernelLine("isolcpus=2-99"), EMPTY, EMPTY)
    assert (str(outcome.named), outcome.mistake) == ("2-99", "")


def test_text_of_the_line_cannot_act_on_a_terminal() -> None:
    found = outcomes(KernelLine("isolcpus=\x1b[31m isolcpus=a\x1b9,1 isolcpus=2 isolcpus=,\x1b,3"), FOUR, FOUR)
    assert "\x1b" not in "".join(outcome.mistake + outcome.log for outcome in found)
