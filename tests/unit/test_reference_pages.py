# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The reference has every option with its default and values, and every command."""

from __future__ import annotations

import re
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import typer

from epa_orchestrator.allocation.option_values import as_written
from epa_orchestrator.allocation.settings import Settings, option_names
from epa_orchestrator.cli.app import application

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the page's table below this row of headings, each as its cells."""
    _, rest = (REFERENCE / page).read_text(encoding="utf-8").split(f"| {heading} |\n", 1)
    rows = rest.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def options() -> dict[str, str]:
    """Each option of the table, with the text of its values: a row with several options is as many options."""
    found: dict[str, str] = {}
    for names, values, _ in table("options.md", "option | values (default first) | meaning"):
        options = re.findall(r"`([^`]+)`", names)
        alone = values.split(", ") if len(options) > 1 and re.fullmatch(r"\d+(, \d+)*", values) else []
        found |= dict(zip(options, alone, strict=True)) if alone else dict.fromkeys(options, values)
    return found


def choices(annotation: Any) -> set[str]:
    """The values of an option that has a fixed set of them; an empty set for any other."""
    if annotation is bool:
        return {"true", "false"}
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return {value for each in get_args(annotation) for value in choices(each)}
    return set()


def test_every_option_is_in_the_table() -> None:
    assert options().keys() == {field.alias for field in Settings.model_fields.values()}


def test_the_default_is_the_first_value() -> None:
    shown = {option: values.split(", ")[0].strip("`") for option, values in options().items()}
    # Unset, the log level is that of the environment, whose default is info.
    defaults = {
        option: "info" if option == "log-level" else str(as_written(Settings().value(option))).lower() or "empty"
        for option in option_names()
    }
    assert shown == defaults


def test_all_values_of_an_option_are_in_the_table() -> None:
    shown = options()
    for field in Settings.model_fields.values():
        assert field.alias is not None
        if expected := choices(field.annotation):
            assert set(re.findall(r"`([^`]+)`", shown[field.alias])) == expected, field.alias


def test_every_command_is_in_the_table() -> None:
    rows = table("command-line.md", "command | what it does")
    shown = {name for names, _ in rows for name in re.findall(r"`([^`]+)`", names)}
    commands = typer.main.get_command(application())
    assert shown == set(getattr(commands, "commands"))  # noqa: B009  # click's groups have it, Typer's type does not
