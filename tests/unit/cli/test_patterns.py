# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A word means the service of that name, or else those that match it as a pattern."""

from __future__ import annotations

import pytest

from epa_orchestrator.cli.patterns import can_be_pattern, matches, names_beginning, names_meant

NAMES = ("vm-1", "vm-10", "[red]x[/red]", "r", "*", "\u00e9t\u00e9", "a?")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("vm-1", ["vm-1"]),
        ("vm-*", ["vm-1", "vm-10"]),
        ("vm-?", ["vm-1"]),
        ("vm-[12]", ["vm-1"]),
        ("[red]x[/red]", ["[red]x[/red]"]),
        ("[[]red*", ["[red]x[/red]"]),
        ("[red]", ["r"]),
        ("*", ["*"]),
        ("a?", ["a?"]),
        ("e\u0301t\u00e9", ["\u00e9t\u00e9"]),
        ("e\u0301*", ["\u00e9t\u00e9"]),
        ("VM-*", []),
        ("vm", []),
        ("", []),
    ],
)
def test_names_meant(word: str, meant: list[str]) -> None:
    assert names_meant(word, NAMES) == meant


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("", list(NAMES)),
        ("vm", ["vm-1", "vm-10"]),
        ("vm-10", ["vm-10"]),
        ("[r", ["[red]x[/red]"]),
        ("e\u0301", ["\u00e9t\u00e9"]),
        ("x", []),
    ],
)
def test_names_that_begin_like_a_word(word: str, meant: list[str]) -> None:
    assert names_beginning(word, NAMES) == meant


@pytest.mark.parametrize(("word", "can"), [("vm-1", False), ("vm-*", True), ("[x", True), ("a?", True), ("", False)])
def test_can_be_pattern(word: str, can: bool) -> None:
    assert can_be_pattern(word) == can


def test_word_without_wildcards_matches_no_name() -> None:
    assert not matches("vm-1", "vm-1")
