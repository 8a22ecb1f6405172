# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Judge: all findings about a host, in the order of the table of checks or worst first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.findings import CHECKS, RESULTS, Finding
from epa_orchestrator.isolation.interrupt_checks import interrupt_checks
from epa_orchestrator.isolation.line_checks import line_checks
from epa_orchestrator.isolation.owner_checks import owner_checks
from epa_orchestrator.isolation.power_checks import power_checks
from epa_orchestrator.isolation.scheduler_checks import scheduler_checks
from epa_orchestrator.isolation.tick_checks import tick_checks

_GROUPS = (line_checks, scheduler_checks, tick_checks, interrupt_checks, owner_checks, power_checks)

#: The checks that compare two readings: what they find began after the earlier one.
_MEASURED = frozenset({"C2", "D3", "E3"})


def judge(case: Case) -> tuple[Finding, ...]:
    """One finding for each check, in the order of CHECKS."""
    found = {finding.id: finding for group in _GROUPS for finding in group(case)}
    return tuple(replace(found[check], since=_since(case, check)) for check in CHECKS if check in found)


def _since(case: Case, check: str) -> float:
    return case.earlier.at if check in _MEASURED and case.earlier is not None else case.now.at


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with the worst results first, those with the same result in their order."""
    return sorted(findings, key=lambda finding: RESULTS.index(finding.result))


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether a check failed."""
    return any(finding.result == "fail" for finding in findings)
