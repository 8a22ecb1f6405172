# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import CHECKS, Finding
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.judge import has_failed, judge, worst_first
from tests.isolated_hosts import OWNERS, IsolatedHost


def _case() -> Case:
    host = IsolatedHost()
    before = read_facts(RecordedHost(host.files()), 100.0)
    host.go_on(10.0)
    return Case(read_facts(RecordedHost(host.files()), 110.0), before, OWNERS)


def test_each_check_has_one_finding_in_the_order_of_the_table() -> None:
    assert [finding.id for finding in judge(_case())] == list(CHECKS)


def test_measured_findings_are_so_since_the_earlier_reading_and_the_others_since_the_last() -> None:
    since = {finding.id: finding.since for finding in judge(_case())}
    assert {name: at for name, at in since.items() if at == 100.0}.keys() == {"C2", "D3", "E3"}
    assert {at for name, at in since.items() if name not in {"C2", "D3", "E3"}} == {110.0}


def test_the_worst_findings_come_first_and_keep_their_order() -> None:
    findings = [
        *(Finding("A1", "pass", ""), Finding("A2", "warn", ""), Finding("B1", "fail", "")),
        *(Finding("B2", "not-checked", ""), Finding("C1", "fail", ""), Finding("C3", "warn", "")),
    ]
    assert [finding.id for finding in worst_first(findings)] == ["B1", "C1", "A2", "C3", "B2", "A1"]


def test_only_a_failed_check_is_a_failure() -> None:
    assert not has_failed([Finding("A1", "warn", ""), Finding("B1", "not-checked", ""), Finding("C1", "pass", "")])
    assert has_failed([Finding("A1", "pass", ""), Finding("B1", "fail", "")])
