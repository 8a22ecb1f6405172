# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Lines, JSON and failures are printed so that nothing in them acts on the terminal."""

from __future__ import annotations

import json

import pytest
import typer

from epa_orchestrator.cli.output import (
    EXIT_READ_ONLY,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    Misuse,
    fail,
    print_failures_as_json,
    print_json,
    say,
)

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
