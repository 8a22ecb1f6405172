# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Output that all commands share: lines, JSON, wrong use, and failures as one sentence with an exit code.

Results go to stdout, everything else to stderr. With --json, stdout has one JSON value, of a failure too. Sentences
fold on a terminal, and nowhere else; results and commands to copy never fold.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer

from epa_orchestrator.errors import printable

if TYPE_CHECKING:
    from typing import TextIO

    from epa_orchestrator.cli.streams import OutputLost

EXIT_REFUSED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_READ_ONLY: Final = 4

#: Whether the command that runs prints JSON.
_as_json: Final = ContextVar("_as_json", default=False)
#: What the command that runs has changed.
_changed: Final[ContextVar[str | None]] = ContextVar("_changed", default=None)
#: The columns of a terminal that does not tell.
_COLUMNS: Final = 80


class Misuse(typer.BadParameter):
    """A wrong use of the command line, which ends the command with exit code 2 and this sentence."""

    def __init__(self, sentence: str, ctx: Any = None) -> None:
        super().__init__(printable(sentence), ctx)

    def format_message(self) -> str:
        """The sentence alone."""
        return self.message


def write(text: str, *, err: bool = False) -> None:
    """Write a text as it is."""
    stream = sys.stderr if err else sys.stdout
    stream.write(text)
    stream.flush()


def print_line(text: str, *, err: bool = False) -> None:
    """Print a result, or a command to copy, on one line. Its parts may come from other programs."""
    write(f"{encodable(printable(text), sys.stderr if err else sys.stdout)}\n", err=err)


def say(text: str, *, err: bool = False) -> None:
    """Print a sentence, whose parts may come from other programs."""
    write(f"{for_stream(text, sys.stderr if err else sys.stdout)}\n", err=err)


def for_stream(text: str, stream: TextIO) -> str:
    """A sentence as its stream shows it: in lines of a terminal, and in one line for a program."""
    shown = encodable(printable(text), stream)
    if not stream.isatty():
        return shown
    from epa_orchestrator.cli.folding import fold_indented

    return "\n".join(fold_indented(shown, _columns(stream)))


def encodable(text: str, stream: TextIO) -> str:
    """The text with the escapes that the stream would write for what it cannot show, so that widths are right."""
    encoding = stream.encoding or "utf-8"
    if text.isascii() or encoding.lower().startswith("utf"):
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _columns(terminal: TextIO) -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(terminal.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def warn(warnings: Iterable[str], *, err: bool = True) -> None:
    """Print an answer's warnings, each on its own line."""
    for warning in warnings:
        say(f"warning: {warning}", err=err)


def print_json(document: Any) -> None:
    """Print a JSON document for people and programs."""
    write(f"{json.dumps(document, indent=2)}\n")


def print_failures_as_json(wanted: bool) -> None:
    """Say whether the command that begins prints JSON: then `fail` does too."""
    _as_json.set(wanted)


def note_change(sentence: str) -> None:
    """Remember what the command has changed: if the result cannot be written, a person still learns it."""
    _changed.set(sentence)


def explain_lost(lost: OutputLost) -> None:
    """Say why the output is lost, and what was changed before. Of a reader that ended nobody needs to hear."""
    from epa_orchestrator.cli.streams import EXIT_WITHOUT_READER

    change = _changed.get()
    if change is not None:
        say(f"epa-orchestrator: {lost.reason}. The change was made: {change}", err=True)
    elif lost.code != EXIT_WITHOUT_READER:
        say(f"epa-orchestrator: {lost.reason}", err=True)


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
