# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Output that all commands share: lines, JSON, wrong use, and failures as one sentence with an exit code.

Results go to stdout, everything else to stderr. With --json, stdout has one JSON value, of a failure too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final, NoReturn

import typer

from epa_orchestrator.errors import printable

EXIT_REFUSED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_READ_ONLY: Final = 4

#: Whether the command that runs prints JSON.
_as_json: Final = ContextVar("_as_json", default=False)


class Misuse(typer.BadParameter):
    """A wrong use of the command line, which ends the command with exit code 2 and this sentence."""

    def __init__(self, sentence: str, ctx: Any = None) -> None:
        super().__init__(printable(sentence), ctx)

    def format_message(self) -> str:
        """The sentence alone."""
        return self.message


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


def print_failures_as_json(wanted: bool) -> None:
    """Say whether the command that begins prints JSON: then `fail` does too."""
    _as_json.set(wanted)


def end_if_read_only(problem: str | None) -> None:
    """End the command, after all that it can print, if the daemon serves readings only: `problem` says why."""
    if problem is not None:
        say(f"READ-ONLY: {problem}", err=True)
        raise typer.Exit(EXIT_READ_ONLY)


def fail_if_read_only(problem: str | None) -> None:
    """End a command that changes something, before it sends a request that cannot be served."""
    if problem is not None:
        fail(f"READ-ONLY: {problem}", EXIT_READ_ONLY)


def fail(sentence: str, code: int = EXIT_REFUSED, **details: Any) -> NoReturn:
    """End the command with a sentence on stderr, and with --json as {"error": …} with these `details` on stdout."""
    say(f"epa-orchestrator: {sentence}", err=True)
    if _as_json.get():
        print_json({"error": printable(sentence), **details})
    raise typer.Exit(code)
