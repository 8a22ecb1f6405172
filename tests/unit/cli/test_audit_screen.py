# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The screen of the audit: a summary, the worst first, what is missing, and one row for each check for programs."""

from __future__ import annotations

import pytest

from epa_orchestrator.cli.audit_screen import document, lines, plain_text, summary, table
from epa_orchestrator.isolation.findings import CHECKS, Finding, bad, not_checked, passed, warned

FINDINGS = [
    passed("A2", "one isolcpus="),
    bad("A1", "isolcpus= names CPUs 2-5, and CPUs 2-3 are isolated", "correct the list"),
    warned(
        "D1", "the default mask holds CPU 2", "add irqaffinity=0-1 to the kernel line; until then: echo 3 | sudo tee x"
    ),
    not_checked("C2", "two readings: run it with --measure 5"),
    not_checked("C4", "/proc/a, which this process may not read: run it as root"),
    not_checked("D2", "/proc/b, which this process may not read: run it as root"),
    not_checked("D3", "two readings: run it with --measure 5"),
    passed("A4", "no unknown parameter"),
]

SCREEN = """1 check fails, 1 warns, 4 not made, 2 pass

FAIL A1 The kernel line is in force
  Seen: isolcpus= names CPUs 2-5, and CPUs 2-3 are isolated
  Why: The kernel silently drops a parameter with a mistake, so CPUs that it names may not be isolated.
  Remedy: correct the list

WARN D1 New interrupts stay off the isolated CPUs
  Seen: the default mask holds CPU 2
  Why: A device that starts later gets its interrupts on the CPUs of the default mask.
  Remedy: add irqaffinity=0-1 to the kernel line; until then:
    echo 3 | sudo tee x

Not made:
  C2, D3: needs two readings: run it with --measure 5
  C4, D2: needs /proc/a and /proc/b, which this process may not read: run it as root

Pass: A2, A4"""


def test_screen_has_the_worst_first() -> None:
    assert plain_text(FINDINGS, 110) == SCREEN


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_lines_fit_but_for_commands(width: int) -> None:
    commands = [line.text for line in lines(FINDINGS) if line.is_command]
    assert commands == ["    echo 3 | sudo tee x"]
    shown = [line for line in plain_text(FINDINGS, width).splitlines() if line not in commands]
    assert max(map(len, shown)) <= width


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        (["fail", "fail", "warn", "pass"], "2 checks fail, 1 warns, 1 passes"),
        (["warn", "warn"], "2 checks warn"),
        (["not-checked", "pass", "pass"], "1 check not made, 2 pass"),
        (["pass"], "1 check passes"),
    ],
)
def test_summary_counts_each_result(results: list[str], sentence: str) -> None:
    assert summary([Finding("A1", result, "") for result in results]) == sentence  # type: ignore[arg-type]


def test_needs_name_at_most_three_files() -> None:
    found = [not_checked(check, f"/proc/{check}, which is not there") for check in ("A1", "A2", "A3", "A4", "A5")]
    assert "  A1, A2, A3, A4, A5: needs /proc/A1, /proc/A2, /proc/A3 and 2 more files, which are not there" in [
        line.text for line in lines(found)
    ]


def test_command_that_is_the_whole_remedy_is_never_folded() -> None:
    command = f"echo 3 | sudo tee {' '.join(['/proc/irq/default_smp_affinity'] * 4)}"
    assert f"  Remedy:\n    {command}" in plain_text([bad("D1", "x", command)], 60)


def test_names_act_on_no_terminal() -> None:
    assert "\x1b" not in plain_text([bad("B3", "'\x1b[2J' runs on CPU 2", "taskset \x1b[2J")], 80)


def test_table_has_a_row_for_each_check() -> None:
    rows = table(FINDINGS).rows
    assert [row[:2] for row in rows] == [
        ["A1", "fail"],
        ["D1", "warn"],
        *([check, "not-checked"] for check in ("C2", "C4", "D2", "D3")),
        ["A2", "pass"],
        ["A4", "pass"],
    ]


def test_document_has_all_members_in_the_order_of_the_findings() -> None:
    (first, *_) = document([Finding("A1", "fail", "seen", "do", 1_700_000_000.9)])["checks"]
    assert first == {
        "id": "A1",
        "result": "fail",
        "seen": "seen",
        "why": CHECKS["A1"].why,
        "remedy": "do",
        "since": "2023-11-14T22:13:20Z",
    }
