# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Options have one sentence of help, and the earlier name of --preemption-policy still works."""

from __future__ import annotations

from typing import Any

import pytest
from typer.main import get_command

from epa_orchestrator.cli.app import app
from tests.unit.cli.builders import Command, Daemon

COMMANDS: dict[str, Any] = getattr(get_command(app), "commands")  # noqa: B009  # typer's type says no more than command


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
    assert not set("<{") & set(head.replace("<=x<=", ""))


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
