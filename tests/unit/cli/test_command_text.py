# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Command text: what a shell makes of a printed command is the name that was meant, and never an option."""

from __future__ import annotations

import shlex

import pytest

from epa_orchestrator.cli.command_text import command_text


def test_a_command_has_its_arguments_before_its_options() -> None:
    assert command_text("allocate", "nova", 4, options=["--near", 0]) == "epa-orchestrator allocate nova 4 --near 0"


@pytest.mark.parametrize("name", ["$(touch /tmp/x)", "`reboot`", "vm 1", "a;b", "it's", '"', "!!", "~", "*", "# x"])
def test_a_shell_reads_the_name_as_one_word(name: str) -> None:
    text = command_text("why", name)
    assert shlex.split(text) == ["epa-orchestrator", "why", name]
    assert text == f"epa-orchestrator why {shlex.quote(name)}"


@pytest.mark.parametrize("name", ["-x", "--help"])
def test_a_name_is_no_option(name: str) -> None:
    assert command_text("why", name) == f"epa-orchestrator why -- {name}"
    assert command_text("allocate", name, options=["--near", 0]) == f"epa-orchestrator allocate --near 0 -- {name}"
