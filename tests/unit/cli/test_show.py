# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What is shown is drawn on a terminal, and plain for a program."""

from __future__ import annotations

import sys

import pytest

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.show import console, plain, show
from tests.unit.cli.builders import Daemon

LONG = ",".join(str(cpu) for cpu in range(0, 1000, 2))


def table() -> FittedTable:
    made = FittedTable(("Service", "CPUs", "Withheld"), "Claims", ["500 CPUs"])
    made.add_row("vm-a", LONG, "")
    made.add_row("a long name", "1", "3")
    return made


def test_program_gets_plain_columns_of_any_width(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(), "the end \x1b[2J")
    head, first, second, *rest = capsys.readouterr().out.splitlines()
    assert head.split() == ["SERVICE", "CPUS", "WITHHELD"]
    assert first.split() == ["vm-a", LONG, "-"]
    assert second.split("  ")[0] == "a long name"
    assert {head.index("CPUS"), first.index("0,2,"), second.index("1")} == {head.index("CPUS")}
    assert rest == ["", "500 CPUs", "", "the end \N{REPLACEMENT CHARACTER}[2J"]


def test_console_prints_the_same_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(table())
    assert capsys.readouterr().out == table().plain() + "\n"


def test_program_needs_no_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    show(table())
    assert capsys.readouterr().out


def test_text_for_people_has_boxes() -> None:
    assert plain(FittedTable(("A",), "T"), "x " * 60).splitlines() == [
        "T",
        "┏━━━┓",
        "┃ A ┃",
        "┡━━━┩",
        "└───┘",
        " ".join("x" * 55),
        "  x x x x x",
    ]


def test_text_for_people_is_as_wide_in_any_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    assert plain("x " * 60).splitlines()[0] == " ".join("x" * 55)


def test_program_may_ask_for_a_text_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EPA_FOLD", "1")
    show(table(), "the end \x1b[2J")
    assert capsys.readouterr().out == plain(table(), "the end \N{REPLACEMENT CHARACTER}[2J") + "\n"


@pytest.mark.parametrize(("variable", "styled"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color(variable: dict[str, str], styled: bool, daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    text = daemon.drawn("list", environment={"TERM": "xterm-256color", **variable})
    assert "nova" in text
    assert "┃" in text
    assert ("\x1b[" in text) == styled


def test_terminal_keeps_the_indentation_of_a_story(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    lines = daemon.drawn("why", "nova", environment={"TERM": "xterm"}, columns=40).splitlines()
    assert any(line.startswith("  request: ") for line in lines)
    assert any(line.startswith("    ") for line in lines)
    assert all(len(line) <= 40 for line in lines)


def test_columns_stand_below_each_other_with_escapes(daemon: Daemon) -> None:
    for service in ("\u865a\u62df\u673a", "nova", "n\u00f6va"):
        daemon.client.allocate(service, 1)
    head, *lines = daemon.run_process("list", PYTHONIOENCODING="ascii").stdout.splitlines()
    assert len(lines) == 3
    column = head.index("CPUS")
    assert {line[column - 1] + line[column : column + 1] for line in lines} == {" 2", " 4", " 6"}
    assert any(line.startswith("\\u865a\\u62df\\u673a  ") for line in lines)


def test_terminal_without_unicode_shows_whole_boxes(daemon: Daemon) -> None:
    daemon.client.allocate("\u865a\u62df\u673a", 1)
    environment = {"TERM": "xterm", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    drawn = daemon.drawn("list", environment=environment).splitlines()
    box = [line for line in drawn if line[:1] in "+|"]
    assert len({len(line) for line in box}) == 1
    assert any("\\u865a" in line for line in box)


@pytest.mark.parametrize("columns", [40, 60])
def test_change_in_detail_hangs_on_a_terminal(columns: int, daemon: Daemon) -> None:
    daemon.client.allocate("a-rather-long-name-of-a-service", 6)
    daemon.client.allocate_in_node("thief-of-cpus", 0, 4, may_take=None)
    lines = daemon.drawn(
        "history", "-o", "wide", "--limit", "2", environment={"TERM": "xterm"}, columns=columns
    ).splitlines()
    assert len([line for line in lines if not line.startswith(" ")]) == 2
    assert all(len(line) <= columns for line in lines)
