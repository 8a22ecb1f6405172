# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shows tables and sentences on stdout: drawn and folded on a terminal, plain and unfolded for another program."""

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
#: The columns of a text for people that passes through a program, such as `juju run`.
_PLAIN_WIDTH: Final = 110


def show(*parts: FittedTable | str) -> None:
    """Print tables and lines on stdout. Rich is loaded only for a terminal."""
    on_terminal = sys.stdout.isatty()
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
        width=_PLAIN_WIDTH,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    for part in parts:
        screen.print(part if isinstance(part, FittedTable) else folded(part, _PLAIN_WIDTH))
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()).rstrip()


def folded(sentence: str, width: int) -> str:
    """A sentence as lines of this width; an indented one stays indented."""
    return "\n".join(fold_indented(printable(sentence), width))
