# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Output that all commands share: lines, JSON, and failures as one sentence with an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import typer

from epa_orchestrator.errors import printable

EXIT_REFUSED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_READ_ONLY: Final = 4


def say(text: str, *, err: bool = False) -> None:
    """Print a line, whose parts may come from other programs."""
    typer.echo(printable(text), err=err)


def warn(warnings: Iterable[str], *, err: bool = True) -> None:
    """Print an answer's warnings, each on its own line."""
    for warning in warnings:
        say(f"warning: {warning}", err=err)


def print_json(document: Any) -> None:
    """Print a JSON document for people and programs."""
    typer.echo(json.dumps(document, indent=2))


def end_if_read_only(problem: str | None) -> None:
    """End the command, after all that it can print, if the daemon serves readings only: `problem` says why."""
    if problem is not None:
        say(f"READ-ONLY: {problem}", err=True)
        raise typer.Exit(EXIT_READ_ONLY)


def fail(sentence: str, code: int = EXIT_REFUSED) -> NoReturn:
    """End the command with a sentence on stderr."""
    say(f"epa-orchestrator: {sentence}", err=True)
    raise typer.Exit(code)
