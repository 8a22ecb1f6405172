# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

from epa_orchestrator.isolation.findings import CHECKS, Finding, bad, not_checked, passed, warned

#: The checks that can fail, as the table of checks says; the others warn at most.
CAN_FAIL = {"A1", "A2", "A3", "B1", "B2", "B3", "B6", "C1", "D2", "D3", "E2"}


def test_the_table_has_all_checks_in_the_order_of_their_ids() -> None:
    ids = "A1 A2 A3 A4 A5 A6 B1 B2 B3 B4 B5 B6 B7 C1 C2 C3 C4 C6 D1 D2 D3 D4 D5 D6 E1 E2 E3 F1 F2 F3 F5"
    assert list(CHECKS) == ids.split()


def test_only_some_checks_can_fail() -> None:
    assert {name for name, check in CHECKS.items() if check.may_fail} == CAN_FAIL


def test_a_fault_fails_where_the_check_can_fail_and_warns_elsewhere() -> None:
    results = {name: bad(name, "seen", "remedy").result for name in CHECKS}
    assert results == {name: "fail" if name in CAN_FAIL else "warn" for name in CHECKS}


def test_a_warning_of_a_check_that_can_fail_stays_a_warning() -> None:
    assert warned("A1", "seen", "remedy").result == "warn"


def test_a_check_that_was_not_made_says_what_it_needs() -> None:
    assert not_checked("C2", "two readings") == Finding("C2", "not-checked", "needs two readings")


def test_the_document_has_the_reason_of_the_check_and_the_time_as_text() -> None:
    found = replace(passed("A2", "The kernel line has one isolcpus="), since=1_795_809_600.5)
    assert found.document() == {
        "id": "A2",
        "result": "pass",
        "seen": "The kernel line has one isolcpus=",
        "why": "The kernel takes the first isolcpus= and drops a later one that differs.",
        "remedy": "",
        "since": "2026-11-27T20:00:00Z",
    }
