# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Lines, JSON and failures are printed so that nothing in them acts on the terminal."""

from __future__ import annotations

import io
import json

import pytest
import typer

from epa_orchestrator.cli.output import (
    EXIT_READ_ONLY,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    Misuse,
    fail,
    for_stream,
    print_failures_as_json,
    print_json,
    print_line,
    say,
)
from tests.unit.cli.builders import Command

ESCAPE = "\x1b[31mred\n"
SHOWN = "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"


def test_exit_codes() -> None:
    assert (EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_READ_ONLY) == (1, 3, 4)


@pytest.mark.parametrize("err", [False, True])
def test_say_prints_one_printable_line(err: bool, capsys: pytest.CaptureFixture[str]) -> None:
    say(ESCAPE, err=err)
    assert capsys.readouterr() == (("", f"{SHOWN}\n") if err else (f"{SHOWN}\n", ""))


def test_json_is_printable_and_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": ESCAPE})
    written = capsys.readouterr().out
    assert all(line.isprintable() for line in written.splitlines())
    assert json.loads(written) == {"name": ESCAPE}


@pytest.mark.parametrize("code", [EXIT_REFUSED, EXIT_UNREACHABLE])
def test_fail_ends_the_command_with_a_sentence_on_stderr(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        fail(ESCAPE, code)
    assert caught.value.exit_code == code
    assert capsys.readouterr() == ("", f"epa-orchestrator: {SHOWN}\n")


def test_failure_is_also_json_on_stdout_if_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    print_failures_as_json(True)
    try:
        with pytest.raises(typer.Exit):
            fail(ESCAPE, rule="numa-policy")
    finally:
        print_failures_as_json(False)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": SHOWN, "rule": "numa-policy"}
    assert printed.err == f"epa-orchestrator: {SHOWN}\n"


def test_misuse_is_one_printable_sentence() -> None:
    assert Misuse(ESCAPE).format_message() == SHOWN


def test_refusal_folds_on_a_terminal_with_a_hanging_indent(offline: Command) -> None:
    offline.environment["COLUMNS"] = "40"
    code, _, shown = offline.on_terminal("list")
    first, *more = shown.splitlines()
    assert code == 3
    assert first.startswith("epa-orchestrator: No daemon serves")
    assert more
    assert all(line.startswith("  ") and len(line) <= 40 for line in more)


def test_refusal_is_one_line_for_a_program(offline: Command) -> None:
    offline.environment["COLUMNS"] = "40"
    assert offline.run("list").stderr.count("\n") == 1


class Terminal(io.StringIO):
    """A terminal with an encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._encoding

    def isatty(self) -> bool:
        return True


def test_escapes_count_in_the_width_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    lines = for_stream("the service \u865a\u62df holds CPUs", Terminal("ascii")).splitlines()
    assert lines == ["the service", "  \\u865a\\u62df holds", "  CPUs"]
    assert for_stream("the service \u865a\u62df holds", Terminal()).splitlines() == [
        "the service \u865a\u62df",
        "  holds",
    ]


@pytest.mark.parametrize("columns", ["", "0", "wide"])
def test_terminal_of_unknown_width_has_80_columns(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert [len(line) for line in for_stream("x" * 100, Terminal()).splitlines()] == [78, 24]


def test_result_and_command_to_copy_never_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr("sys.stdout", screen := Terminal())
    print_line("x " * 30)
    assert screen.getvalue() == "x " * 30 + "\n"
