# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The application behind the command epa-orchestrator: every command, `--version`, and the last resort for errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Final

import typer

from epa_orchestrator import __version__
from epa_orchestrator.cli.command import Command, Commands
from epa_orchestrator.cli.completion import VARIABLE
from epa_orchestrator.cli.output import EXIT_REFUSED, explain_lost, print_line, say
from epa_orchestrator.cli.streams import OutputLost, take_over

#: The commands in the order of the help, each with its module in this room and its function there.
COMMANDS: Final = {
    "serve": ("serve", "serve"),
    "status": ("listings", "status"),
    "list": ("listings", "list_claims"),
    "map": ("map", "map_"),
    "allocate": ("claims", "allocate"),
    "explain": ("claims", "explain"),
    "why": ("why", "why"),
    "audit": ("audit", "audit"),
    "release": ("release", "release"),
    "hugepages": ("hugepages", "hugepages"),
    "machine": ("machine", "machine"),
    "history": ("history", "history"),
    "report": ("report", "report"),
    "completion": ("completion", "completion"),
}

_HELP: Final = """Hand out a host's isolated CPUs and hugepages to its services, and show who holds them.

Exit codes: 0 done, 1 refused or failed, 2 wrong use of the command line, 3 no daemon answers (or the answer is not a
daemon's), 4 the daemon is read-only, 141 the program that reads the output has ended.

A result that cannot be written, because stdout is closed or full, is a failure. If a change was made before, stderr
says which. What stderr does not take is lost, and the exit code stays.
"""


def application(words: Iterable[str] = ()) -> typer.Typer:
    """The command line with the commands that these words name; with all of them if the words name none.

    A process runs one command, so it imports that one only: the others take 8 ms of CPU time, a tenth of a command.
    """
    app = typer.Typer(
        cls=Commands,
        help=_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        add_completion=VARIABLE in os.environ,  # costs time at each start, so only for a shell that asks
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_print_version)
    named = [] if VARIABLE in os.environ else [name for name in words if name in COMMANDS]
    for name in named or COMMANDS:
        module, function = COMMANDS[name]
        app.command(name, cls=Command)(getattr(import_module(f"{__package__}.{module}"), function))
    return app


def _print_version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print_line(__version__)
        raise typer.Exit


def run(app: typer.Typer) -> None:
    """Run the command line."""
    take_over()
    try:
        try:
            app(prog_name="epa-orchestrator")
        finally:
            sys.stdout.flush()
    except OutputLost as lost:
        explain_lost(lost)
        raise
    except OSError as error:
        say(f"epa-orchestrator: Reading or writing failed: {error.strerror}", err=True)
        sys.exit(EXIT_REFUSED)
