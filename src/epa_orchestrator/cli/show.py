# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shows tables and sentences on stdout: drawn and folded for people, plain and unfolded for another program."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.folding import fold_indented
from epa_orchestrator.cli.output import encodable, for_stream
from epa_orchestrator.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

#: The columns of text that is printed for no terminal: no line is cut or folded.
_ENDLESS: Final = 10_000_000
#: The columns of a text for people that passes through a program: `juju run` indents it, and a terminal shows it.
_FOLDED_WIDTH: Final = 110
#: Rich has 80 columns where TERM is dumb, unless it is told both dimensions.
_NO_HEIGHT: Final = 1000
#: A program sets this variable if it passes the text on to people.
FOLD: Final = "EPA_FOLD"


def show(*parts: FittedTable | str) -> None:
    """Print tables and lines on stdout. Rich is loaded only for people."""
    on_terminal = sys.stdout.isatty()
    if not on_terminal and width_for_people() is not None:
        sys.stdout.write(f"{plain(*parts)}\n")
        sys.stdout.flush()
        return
    screen = console() if on_terminal else None
    table_before = False
    for part in parts:
        if table_before and not on_terminal:
            sys.stdout.write("\n")
        table_before = isinstance(part, FittedTable)
        if not isinstance(part, FittedTable):
            sys.stdout.write(f"{for_stream(part, sys.stdout)}\n")
            continue
        table = part.changed(lambda text: encodable(text, sys.stdout))
        if screen is not None:
            screen.print(table)
        else:
            sys.stdout.write(f"{table.plain()}\n")
    sys.stdout.flush()


def width_for_people() -> int | None:
    """The columns that people see, on a terminal or through a program; None where the program itself reads."""
    if sys.stdout.isatty():
        return console().width
    return _FOLDED_WIDTH if os.environ.get(FOLD) else None


def console() -> Console:
    """A console that prints text as it is: names come from clients, and must not act as markup.

    It prints no colours if NO_COLOR is set, and prints plain text where stdout is no terminal.
    """
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(
        markup=False,
        highlight=False,
        emoji=False,
        force_terminal=terminal,
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        width=None if terminal else _ENDLESS,
    )


def plain(*parts: FittedTable | str) -> str:
    """Tables and lines as text without colours, as a terminal of 110 columns would show them."""
    from rich.console import Console

    written = io.StringIO()
    screen = Console(
        file=written,
        width=_FOLDED_WIDTH,
        height=_NO_HEIGHT,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    for part in parts:
        screen.print(part if isinstance(part, FittedTable) else folded(part, _FOLDED_WIDTH))
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()).rstrip()


def folded(sentence: str, width: int) -> str:
    """A sentence as lines of this width; an indented one stays indented."""
    return "\n".join(fold_indented(printable(sentence), width))
