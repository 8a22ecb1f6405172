# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The generated parts of the reference are up to date, and have all that their sources have."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from typer.main import get_command

from epa_orchestrator.allocation.settings import option_names
from epa_orchestrator.cli.app import application
from tools.write_reference import CHARMCRAFT, REFERENCE, RULES, fill_in, parts

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md"))}
COMMANDS: dict[str, Any] = getattr(get_command(application()), "commands")  # noqa: B009  # typer's type says no more than command
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    assert fill_in(PAGES[name]) == PAGES[name]


def test_every_part_is_in_one_page() -> None:
    shown = [part for page in PAGES.values() for part in re.findall(r"<!-- from ([^:\n]+): ([a-z -]+) -->", page)]
    assert sorted(shown) == sorted(parts())


def test_changed_part_is_written_again() -> None:
    page = PAGES["options.md"]
    changed = page.replace("Deprecated.", "Recommended.")
    assert changed != page
    assert fill_in(changed) == page


def test_text_around_a_part_stays() -> None:
    assert fill_in("before\n\nafter\n") == "before\n\nafter\n"


def test_part_that_nothing_writes_is_named() -> None:
    with pytest.raises(SystemExit, match="nothing writes 'action dance' from charmcraft"):
        fill_in("<!-- from charmcraft.yaml: action dance -->\n<!-- end -->\n")


@pytest.mark.parametrize("name", CHARMCRAFT["actions"])
def test_action_has_its_parameters(name: str) -> None:
    section = PAGES["actions.md"].partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for parameter, each in CHARMCRAFT["actions"][name].get("params", {}).items():
        (row,) = re.findall(rf"^\| `{parameter}` \| .*$", section, re.MULTILINE)
        assert all(f"`{value}`" in row for value in each.get("enum", ()))
        assert (
            f"| `{str(each['default']).lower()}` |" in row
            if "default" in each
            else "| required |" in row or "|  |" in row
        )


def test_options_of_the_charm_are_those_that_the_daemon_does_not_have() -> None:
    part = PAGES["options.md"].partition("options of the charm -->")[2].partition("<!-- end -->")[0]
    shown = set(re.findall(r"^\| `([a-z-]+)` \|", part, re.MULTILINE))
    assert shown == CHARMCRAFT["config"]["options"].keys() - set(option_names())


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_its_options_and_examples(name: str) -> None:
    section = PAGES["commands.md"].partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for parameter in COMMANDS[name].params:
        if not getattr(parameter, "hidden", False):
            assert all(f"`{each}" in section for each in parameter.opts if each.startswith("-"))
    assert all(f"\n{example}\n" in section for example in COMMANDS[name].examples)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_has_its_condition_and_what_to_do(rule: dict[str, Any]) -> None:
    section = PAGES["alerts.md"].partition(f"\n## {rule['alert']}\n")[2].partition("\n## ")[0]
    assert f" {' '.join(rule['expr'].split())} " in " ".join(section.split())
    assert f"Severity: {rule['labels']['severity']}." in section
    assert "{{" not in section.partition("```")[0]
    assert "epa-orchestrator" in section
