# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The application behind the command epa-orchestrator: every command, `--version`, and the last resort for errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final

import typer

from epa_orchestrator import __version__
from epa_orchestrator.cli.claims import allocate, explain
from epa_orchestrator.cli.command import Command, Commands
from epa_orchestrator.cli.completion import VARIABLE, completion
from epa_orchestrator.cli.history import history
from epa_orchestrator.cli.hugepages import hugepages
from epa_orchestrator.cli.listings import list_claims, status
from epa_orchestrator.cli.machine import machine
from epa_orchestrator.cli.map import map_
from epa_orchestrator.cli.output import EXIT_REFUSED, explain_lost, print_line, say
from epa_orchestrator.cli.release import release
from epa_orchestrator.cli.report import report
from epa_orchestrator.cli.serve import serve
from epa_orchestrator.cli.streams import OutputLost, take_over
from epa_orchestrator.cli.why import why

_HELP: Final = """Hand out a host's isolated CPUs and hugepages to its services, and show who holds them.

Exit codes: 0 done, 1 refused or failed, 2 wrong use of the command line, 3 no daemon answers (or the answer is not a
daemon's), 4 the daemon is read-only, 141 the program that reads the output has ended.

A result that cannot be written, because stdout is closed or full, is a failure. If a change was made before, stderr
says which. What stderr does not take is lost, and the exit code stays.
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


@app.callback(invoke_without_command=True)
def _print_version(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print_line(__version__)
        raise typer.Exit


# The order of the help.
for _name, _function in (
    ("serve", serve),
    ("status", status),
    ("list", list_claims),
    ("map", map_),
    ("allocate", allocate),
    ("explain", explain),
    ("why", why),
    ("release", release),
    ("hugepages", hugepages),
    ("machine", machine),
    ("history", history),
    ("report", report),
    ("completion", completion),
):
    app.command(_name, cls=Command)(_function)


def main() -> None:
    """Run the command line."""
    take_over()
    _keep_only(sys.argv[1:2])
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


def _keep_only(words: list[str]) -> None:
    """Leave out all commands but the one that is run: Typer reads the parameters of all that it knows at each start."""
    named = [command for command in app.registered_commands if command.name in words]
    if named and VARIABLE not in os.environ:
        app.registered_commands = named
