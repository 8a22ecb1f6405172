# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The kernel line that docs/explanation/isolation.md explains: the audit finds nothing wrong with it, word by word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import CHECKS, Finding
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.housekeeping import outcomes
from epa_orchestrator.isolation.judge import judge
from epa_orchestrator.isolation.kernel_line import KernelLine
from tests.isolated_hosts import IsolatedHost
from tools.synthetic import Shape

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "explanation" / "isolation.md").read_text(encoding="utf-8")
LINE: Final = PAGE.split("<!-- kernel line -->\n```\n")[1].split("\n```", 1)[0]

#: The host of the page: 16 CPUs, of which 0 and 1 are the threads of one core.
SHAPE: Final = Shape(cores_per_l3=8, threads_per_core=2, siblings="adjacent")
CPUS: Final = CpuSet(range(16))
ISOLATED: Final = CpuSet(range(2, 16))


def judged(line: str) -> dict[str, Finding]:
    """What the audit finds in two readings of the host with this line, where the kernel took what the line asks for."""
    host = IsolatedHost(SHAPE)
    assert host.isolated == ISOLATED
    host.line = host.line.partition("isolcpus=")[0] + line
    before = read_facts(RecordedHost(host.files()), 1000.0)
    host.go_on(10.0)
    after = read_facts(RecordedHost(host.files()), 1010.0)
    return {finding.id: finding for finding in judge(Case(after, before, ()))}


def test_audit_finds_nothing_wrong_with_the_line() -> None:
    found = judged(LINE)
    assert list(found) == list(CHECKS)
    assert {check: finding for check, finding in found.items() if finding.result in ("fail", "warn")} == {}
    assert {check for check, finding in found.items() if finding.result == "not-checked"} <= {"E1", "E2", "E3"}


def test_kernel_takes_each_parameter_of_the_line_for_the_same_cpus() -> None:
    taken = outcomes(KernelLine(LINE), CPUS, CPUS)
    assert [(outcome.request.name, outcome.request.flags) for outcome in taken] == [
        ("isolcpus", {"domain", "managed_irq"}),
        ("nohz_full", {"nohz"}),
    ]
    assert [(outcome.named, outcome.mistake) for outcome in taken] == [(ISOLATED, "")] * 2


def test_line_gives_interrupts_all_other_cpus_and_offloads_callbacks_of_the_isolated_ones() -> None:
    line = KernelLine(LINE)
    assert [CpuSet.parse(cpus) for cpus in line.values("irqaffinity")] == [CPUS - ISOLATED]
    assert [CpuSet.parse(cpus) for cpus in line.values("rcu_nocbs")] == [ISOLATED]


def test_cpu_that_is_not_there_makes_the_kernel_drop_the_parameter() -> None:
    isolcpus, nohz_full = outcomes(KernelLine(LINE.replace("2-15 nohz_full", "2-16 nohz_full")), CPUS, CPUS)
    assert isolcpus.mistake
    assert not nohz_full.mistake


def test_second_isolcpus_with_other_cpus_is_dropped() -> None:
    first, _, second = outcomes(KernelLine(f"{LINE} isolcpus=4-7"), CPUS, CPUS)
    assert not first.mistake
    assert second.mistake.endswith("comes first and differs")


def test_flag_replaces_the_default_domain() -> None:
    flags = [KernelLine(f"isolcpus={flag}2-15").isolcpus[0].flags for flag in ("", "managed_irq,")]
    assert flags == [{"domain"}, {"managed_irq"}]


def test_every_check_of_the_page_is_a_check_of_the_audit() -> None:
    named = re.findall(r"\b([A-F]\d)\b", PAGE)
    assert len(named) > 20
    # C6 is also the name of an idle state of Intel's processors.
    assert set(named) <= set(CHECKS)
