# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A command of the command line: its help with examples, and what all commands have in common.

The docstring of a command's function is its help. Lines after a line "Examples:" at its end are shown as they are.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from epa_orchestrator.cli.output import Misuse, for_stream, print_failures_as_json

_EXAMPLES: Final = "\n\nExamples:\n"
_END_OF_SENTENCE: Final = re.compile(r"(?<=\.)\s")
_NEGATIVE_NUMBER: Final = re.compile(r"-[0-9]+")


#: What the help calls the value of an option, if not by the last word of the option's name.
_VALUES: Final = {
    "limit": "COUNT",
    "near": "PLACE",
    "output": "FORM",
    "record": "FILE",
    "since": "TIME",
    "socket": "FILE",
    "sort": "ORDER",
    "svg": "FILE",
    "until": "TIME",
}
#: Options that Typer adds while a shell asks what can follow; the command has `completion` instead.
_TYPERS_OWN: Final = ("--install-completion", "--show-completion")


#: What begins the sentence about a wrong use.
_ERROR: Final = "Error: "


@contextmanager
def _folded_misuse() -> Generator[None]:
    """Fold the sentence about a wrong use as its stream shows it."""
    try:
        yield
    except typer.TyperException as error:
        sentence = getattr(error, "format_message", str)()
        if "\n" not in sentence:  # the help has more lines
            shown = for_stream(f"{_ERROR}{sentence}", sys.stderr).removeprefix(_ERROR)
            setattr(error, "format_message", lambda: shown)  # noqa: B010  # not every exception has it
        raise


class Commands(TyperGroup):
    """All commands."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Read the words before the command."""
        with _folded_misuse():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        """Find the command, and run it."""
        with _folded_misuse():
            return super().invoke(ctx)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The commands and options that begin like this."""
        return [item for item in super().shell_complete(ctx, incomplete) if item.value not in _TYPERS_OWN]


class Command(TyperCommand):
    """A command whose failures are JSON with --json, and whose help ends with examples."""

    def __init__(self, name: str | None, *, help: str | None = None, **attributes: Any) -> None:  # noqa: A002
        text, _, examples = (help or "").partition(_EXAMPLES)
        super().__init__(name, help=text, **attributes)
        self.examples = tuple(line.strip() for line in examples.splitlines() if line.strip())
        for parameter in self.params:
            _name_value(parameter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line; a negative number is no option."""
        words = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except typer.TyperException as error:
            option = getattr(error, "option_name", "")
            if _NEGATIVE_NUMBER.fullmatch(option) is None or "count" not in [each.name for each in self.params]:
                raise
            number = next((word for word in words if word.startswith(option)), option)
            raise Misuse(f"COUNT must be at least 1, not {number}: use 'epa-orchestrator release'", ctx) from None
        self._refuse_repeated(ctx, words)
        return rest

    def _refuse_repeated(self, ctx: Any, words: list[str]) -> None:
        """Refuse an option with two values, of which one would have no effect."""
        _, _, given = self.make_parser(ctx).parse_args(args=words)
        for parameter, times in Counter(given).items():
            if times > 1 and not getattr(parameter, "is_flag", False):
                raise Misuse(f"{max(parameter.opts, key=len)} is given {times} times: give it once", ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        print_failures_as_json(bool(ctx.params.get("json_")) or ctx.params.get("output") == "json")
        try:
            return super().invoke(ctx)
        finally:
            print_failures_as_json(False)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the line "Usage"; an argument that has to be given is there without braces."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        """The first sentence of the help, whole."""
        paragraph = " ".join((self.help or "").partition("\n\n")[0].split())
        return _END_OF_SENTENCE.split(paragraph)[0]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _name_value(parameter: Any) -> None:
    """Let the help name a value by its meaning, such as FILE, instead of its Python type."""
    if parameter.param_type_name == "argument":
        parameter.metavar = parameter.metavar or parameter.name.upper()
        parameter.display_type_rich = _no_type
    elif not parameter.is_flag:
        last_word = max(parameter.opts, key=len).rpartition("-")[2]
        parameter.metavar = parameter.metavar or _VALUES.get(parameter.name, last_word.upper())


def _no_type(ctx: Any) -> None:
    """Show no Python type after an argument's name."""
