# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Every command that the documentation prints after `$` works, in order, and prints what the documentation shows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from .documented import FIRST_COMMAND, PICTURE, README, ROOT, Step, draw_picture, is_as_shown, source_terminal, steps_in

#: The tutorial is missing: it installs the program, so test_clean_clone.py runs it.
PAGES: Final = (path for path in ROOT.glob("docs/**/*.md") if path.parent.name != "tutorial")
DOCUMENTS: Final = sorted(path for path in (README, *PAGES) if steps_in(path.read_text()))


def failures_of(text: str, document: str) -> list[str]:
    """What is wrong with the commands of a text, each with what it printed."""
    first = FIRST_COMMAND.search(document)
    with source_terminal() as terminal:
        if first is not None:
            terminal.serve(first[1])
        return terminal.failures(steps_in(text))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_work_as_printed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    failures = failures_of(text, text)
    assert not failures, "\n".join(failures)


def test_picture_of_the_readme_is_the_one_that_its_commands_draw() -> None:
    assert f"]({PICTURE.relative_to(ROOT)})" in README.read_text(encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == draw_picture(), "run: python -m tests.functional.documented"


def test_readme_and_placement_print_commands() -> None:
    assert {"README.md", "docs/explanation/placement.md"} <= {str(path.relative_to(ROOT)) for path in DOCUMENTS}


def test_first_command_serves_the_machine_of_the_documentation() -> None:
    (command,) = FIRST_COMMAND.findall(README.read_text(encoding="utf-8"))
    assert command == "epa-orchestrator serve --machine demo-48 --fresh"


@pytest.mark.parametrize(
    "text",
    [
        "```\n$ epa-orchestrator allocate ovs-dpdk 4\n0-1,24-26 …\n```\n",
        "```\n$ epa-orchestrator allocate ovs-dpdk 400\n```\n",
        "```\n$ epa-orchestrator release ovs-dpdk\n```\n",
    ],
    ids=["other output", "refused", "failed"],
)
def test_wrong_text_is_noticed(text: str) -> None:
    assert failures_of(text, "&& .venv/bin/epa-orchestrator serve --machine demo-48")


# --- how a document is read ---


def test_commands_are_read_with_their_output() -> None:
    text = "```\n$ one \\\n  two\nshown\nmore\n$ three <<'END'\n$ x\nEND\n$ four\n```\n```\nno command\n```\n"
    assert steps_in(text) == [
        Step("one \\\n  two", "shown\nmore"),
        Step("three <<'END'\n$ x\nEND\n", None),
        Step("four", None),
    ]


@pytest.mark.parametrize(
    ("output", "shown", "same"),
    [
        ("a  \nb\n\n", "a\nb", True),
        ("a\nb\n", "a", False),
        ("took 17 ms\n", "took … ms", True),
        ("took 17 s\n", "took … ms", False),
        ("a\nb\nc\nd\n", "a\n…\nd", True),
        ("a\nb\nc\n", "a\n…", True),
        ("1+1\n", "1.1", False),
    ],
)
def test_output_is_compared(output: str, shown: str, same: bool) -> None:
    assert is_as_shown(output, shown) is same


def test_a_shown_refusal_exits_with_1() -> None:
    assert Step("x", "epa-orchestrator: No").exit_code == 1
    assert Step("x", "done").exit_code == 0
