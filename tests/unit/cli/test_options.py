# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Options have one sentence of help, and the earlier name of --preemption-policy still works."""

from __future__ import annotations

import re
from typing import Any

import pytest
from typer.main import get_command

from epa_orchestrator.cli.app import application
from epa_orchestrator.cli.options import decimal_number, whole_number
from tests.unit.cli.builders import Command, Daemon

COMMANDS: dict[str, Any] = getattr(get_command(application()), "commands")  # noqa: B009  # typer's type says no more than command


@pytest.mark.parametrize("command", ["allocate", "explain"])
def test_policy_is_an_alias_of_preemption_policy(command: str, daemon: Daemon) -> None:
    answer = daemon.json(command, "nova", "2", "--policy", "non-preemptive")
    assert answer["preemption_policy"] == "non-preemptive"


@pytest.mark.parametrize("command", ["allocate", "explain"])
def test_wrong_policy_is_wrong_use_of_the_alias_too(command: str, offline: Command) -> None:
    sentence = "Invalid value for '--policy': '' is not one of legacy, non-preemptive"
    assert sentence in offline.misuse(command, "nova", "2", "--policy", "")


@pytest.mark.parametrize("command", ["allocate", "explain"])
def test_preemption_policy_has_precedence_over_its_alias(command: str, daemon: Daemon) -> None:
    options = ("--policy", "legacy", "--preemption-policy", "non-preemptive")
    assert daemon.json(command, "nova", "2", *options)["preemption_policy"] == "non-preemptive"


@pytest.mark.parametrize("command", ["allocate", "explain"])
def test_help_does_not_show_the_alias(command: str, offline: Command) -> None:
    text = offline.text(command, "--help")
    assert "--preemption-policy" in text
    assert "--policy" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_and_option_has_one_sentence_of_help(command: str) -> None:
    for parameter in COMMANDS[command].params:
        if not parameter.hidden:
            assert parameter.help.endswith("."), parameter.name
            assert ". " not in parameter.help, parameter.name


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_value_by_its_meaning(command: str, offline: Command) -> None:
    head, _, _ = offline.text(command, "--help").partition("Examples:")
    assert not set("<{") & set(head)


NUMERIC = (int, float, int | None, float | None)
#: Each option that takes a number.
NUMBERS = [
    (command, parameter.opts[0])
    for command, made in COMMANDS.items()
    for parameter in made.params
    if parameter.param_type_name == "option" and parameter.type_descriptor.annotation in NUMERIC
]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_number_is_left_to_typer(command: str) -> None:
    """Its sentences name no value: "Input should be greater than or equal to 1"."""
    numbers = [each for each in COMMANDS[command].params if each.type_descriptor.annotation in NUMERIC]
    left = [
        number.name
        for number in numbers
        if number.type_descriptor.parameter_info.parser not in (whole_number, decimal_number) or number.callback is None
    ]
    assert left == []


@pytest.mark.parametrize(("command", "option"), NUMBERS)
def test_what_is_no_number_is_named(command: str, option: str, offline: Command) -> None:
    said = offline.misuse(command, option, "four")
    assert re.search(rf"Invalid value for '{option}': must be a (whole )?number( such as .*)?, not 'four'", said), said


@pytest.mark.parametrize("number", ["-7", "2147483648"])
@pytest.mark.parametrize(("command", "option"), NUMBERS)
def test_number_out_of_bounds_is_named_with_the_bounds(
    command: str, option: str, number: str, offline: Command
) -> None:
    said = offline.misuse(command, option, number)
    found = re.search(
        rf"Invalid value for '{option}': must be from (-?\d+) to (\d+)(, or -1 to .*)?, not '{number}'", said
    )
    assert found, said
    assert not int(found[1]) <= int(number) <= int(found[2])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["history", "--limit", "0"], "'--limit': must be from 1 to 2147483647, not '0'"),
        (["map", "--width", "39"], "'--width': must be from 40 to 10000, not '39'"),
        (["map", "--width", "10001"], "'--width': must be from 40 to 10000, not '10001'"),
        (["explain", "a", "--percent", "101"], "'--percent': must be from 1 to 100, not '101'"),
    ],
)
def test_bounds(words: list[str], sentence: str, offline: Command) -> None:
    assert sentence in offline.misuse(*words)


def test_help_of_values(offline: Command) -> None:
    text = "\n".join(offline.text(name, "--help") for name in ("history", "hugepages", "report"))
    for shown in ("--since TIME", "--limit COUNT", "--size SIZE", "--service SERVICE", "--socket FILE", "  FILE  "):
        assert shown in text


@pytest.mark.parametrize("text", ["0-3", "0x2", "abc", "1.0", "1_0", "²"])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("why", "--cpu"), "--cpu"),
        (("list", "--node"), "--node"),
        (("history", "--cpu"), "--cpu"),
        (("hugepages", "a", "--count"), "--count"),
        (("allocate", "a", "--percent"), "--percent"),
        (("allocate", "a"), "COUNT"),
    ],
)
def test_wrong_number_is_quoted(arguments: tuple[str, ...], name: str, text: str, offline: Command) -> None:
    assert f"Invalid value for '{name}': must be a whole number, not '{text}'\n" in offline.misuse(*arguments, text)


def test_share_over_100_percent_is_wrong_use(offline: Command) -> None:
    assert "must be from 1 to 100, not '101'" in offline.misuse("allocate", "a", "--percent", "101")
