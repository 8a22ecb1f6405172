# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""docs/reference/audit.md has every check as the code has it."""

from __future__ import annotations

from pathlib import Path

from epa_orchestrator.isolation.findings import CHECKS, RESULTS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "reference" / "audit.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The rows of the table with this row of headings, each as its cells."""
    lines = DOCUMENT.split(f"{heading}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_table_of_checks_is_that_of_the_code() -> None:
    assert rows("| check | what it expects | why it matters | at worst |") == [
        [name, check.title, check.why, "fails" if check.may_fail else "warns"] for name, check in CHECKS.items()
    ]


def test_every_result_is_explained() -> None:
    assert [row[0] for row in rows("| result | meaning |")] == list(RESULTS)
