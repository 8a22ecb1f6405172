# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Every command has examples in its help, a whole summary, and -h."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.main import get_command

from epa_orchestrator.cli.app import application
from epa_orchestrator.cli.command import Command
from tests.unit.cli.builders import Command as CommandLine

COMMANDS: dict[str, Any] = getattr(get_command(application()), "commands")  # noqa: B009  # typer's type says no more than command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_one_of_ours_with_examples(name: str) -> None:
    assert isinstance(COMMANDS[name], Command)
    assert COMMANDS[name].examples


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_as_they_were_written(name: str, offline: CommandLine) -> None:
    text = offline.text(name, "--help")
    _, _, examples = text.partition("\nExamples:\n")
    assert [line.strip() for line in examples.splitlines()] == list(COMMANDS[name].examples)
    assert all(len(line) <= 80 for line in examples.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_the_examples_exist(name: str) -> None:
    for example in COMMANDS[name].examples:
        words = shlex.split(example.replace("<(", " ").replace('"$(', " ").replace(')"', " "))
        command, *rest = words[words.index("epa-orchestrator") + 1 :]
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-") and word[1:].strip("0123456789")} <= known


@pytest.mark.parametrize("words", [["-h"], *([name, "-h"] for name in COMMANDS)], ids=" ".join)
def test_h_is_help(words: list[str], offline: CommandLine) -> None:
    assert offline.text(*words) == offline.text(*words[:-1], "--help")


@pytest.mark.parametrize("width", ["80", "120"])
def test_no_summary_is_cut_off(width: str, offline: CommandLine) -> None:
    result = offline.run("--help", env={"COLUMNS": width})
    summaries = " ".join(result.stdout.partition("Commands:\n")[2].split())
    assert "..." not in summaries
    for name, command in COMMANDS.items():
        assert f"{name} {command.get_short_help_str()}" in summaries
        assert command.get_short_help_str().endswith(".")


@pytest.mark.parametrize("command", ["allocate", "explain"])
@pytest.mark.parametrize("count", ["-1", "-12"])
def test_negative_count_points_to_release(command: str, count: str, offline: CommandLine) -> None:
    for words in ([count], ["--", count]):
        assert f"must be at least 1, not {count.rjust(1)}" in offline.misuse(command, "a", *words).replace("'", "")
        assert "epa-orchestrator release" in offline.misuse(command, "a", *words)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("history --service a --service b", "--service"),
        ("history --cpu 1 --cpu 2", "--cpu"),
        ("list -o csv --output json", "--output"),
        ("allocate a 2 --near 0 --near=1", "--near"),
        ("release a --socket x --socket x", "--socket"),
    ],
)
def test_option_that_is_given_twice_is_wrong_use(words: str, option: str, offline: CommandLine) -> None:
    assert f"{option} is given 2 times: give it once" in offline.misuse(*words.split())


def test_flag_may_be_given_twice(offline: CommandLine) -> None:
    assert offline.run("machine", "--machine", "vm-8", "--json", "--json").exit_code == 0


@pytest.mark.parametrize("columns", ["40", "80"])
def test_wrong_use_folds_on_a_terminal(columns: str, offline: CommandLine) -> None:
    offline.environment["COLUMNS"] = columns
    code, _, shown = offline.on_terminal("list", "--sort", "sideways" * 5)
    first, *more = shown[shown.index("Error: ") :].splitlines()
    assert code == 2
    assert more
    assert all(line.startswith("  ") for line in more)
    assert all(len(line) <= int(columns) for line in (first, *more))
    assert "is not one of name, cpus, count, node, pool" in " ".join("".join((first, *more)).split())


def test_wrong_use_is_one_line_for_a_program(offline: CommandLine) -> None:
    offline.environment["COLUMNS"] = "40"
    assert offline.misuse("list", "--sort", "sideways" * 9).splitlines()[-1].endswith(", node, pool")
