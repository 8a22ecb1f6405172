# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The application behind the command epa-orchestrator: every command, `--version`, and the last resort for errors."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
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
from epa_orchestrator.cli.output import EXIT_REFUSED
from epa_orchestrator.cli.release import release
from epa_orchestrator.cli.report import report
from epa_orchestrator.cli.serve import serve
from epa_orchestrator.cli.why import why

_HELP: Final = """Hand out a host's isolated CPUs and hugepages to its services, and show who holds them.

Exit codes: 0 done, 1 refused or failed, 2 wrong use of the command line, 3 no daemon answers (or the answer is not a
daemon's), 4 the daemon is read-only.
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
        typer.echo(__version__)
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # for characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    _keep_only(sys.argv[1:2])
    try:
        app(prog_name="epa-orchestrator")
    except OSError as error:  # such as a full disk under the output
        with suppress(OSError, AttributeError):  # stderr may be full or closed too
            sys.stderr.write(f"epa-orchestrator: Reading or writing failed: {error.strerror}\n")
        _close_output()
        sys.exit(EXIT_REFUSED)


def _keep_only(words: list[str]) -> None:
    """Leave out all commands but the one that is run: Typer reads the parameters of all that it knows at each start."""
    named = [command for command in app.registered_commands if command.name in words]
    if named and VARIABLE not in os.environ:
        app.registered_commands = named


def _close_output() -> None:
    """Close both streams: at the end of the process their buffers would fail again, and change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):
            stream.close()
