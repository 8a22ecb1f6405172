# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What makes room for a refused request: a table of the claims that would move, and the commands that move them."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.connect import connect
from epa_orchestrator.cli.output import print_line, say
from epa_orchestrator.units import named_cpus

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.room import MakeRoom, RoomRequest

#: The fields of a request that are options of the commands, by the same name.
_OPTIONS: Final = (
    *("percent", "numa_node", "preemption_policy", "numa_policy"),
    *("cpu_thread_policy", "uncore_cache_alignment", "near"),
)
_GUESTS: Final = (
    "Nothing was moved. Running guests keep their old CPUs: stop those of these services first, or pin them to the new"
    " CPUs. Then run:"
)


@contextmanager
def connect_with_hint(socket: Path | None, fields: Mapping[str, Any]) -> Generator[Client]:
    """A client for a request with these fields, whose errors end the command as those of `connect` do.

    If the request is refused CPUs that moving claims may free, the last line on a terminal says how to see what is in
    the way, unless the daemon is too old to know.
    """
    from epa_orchestrator.client import RefusedByDaemon

    may_help = False
    try:
        with connect(socket) as client:
            try:
                yield client
            except RefusedByDaemon as error:
                may_help = sys.stderr.isatty() and _may_help(client, str(error))
                raise
    except typer.Exit:
        if may_help:
            say(f"To see what is in the way, run: {_command('explain', fields, '--make-room')}", err=True)
        raise


def _may_help(client: Client, refusal: str) -> bool:
    """Whether this daemon could say which claims would have to move for a request that it has refused."""
    from epa_orchestrator.allocation.refusal import concerns_room
    from epa_orchestrator.client import DaemonError

    try:
        return concerns_room(refusal) and client.supports("make-room")
    except DaemonError:  # the refusal counts
        return False


def show_room(found: MakeRoom) -> None:
    """Print the claims that would move and the commands, or why none make room."""
    from epa_orchestrator.cli.fitted_table import FittedTable
    from epa_orchestrator.cli.show import show

    if not found.moves:
        show(found.sentence)
        return
    table = FittedTable(("Service", "From", "To", "NUMA nodes", "Preemption"), "What would make room", found.sentence)
    for move in found.moves:
        table.add_row(move.service_name, move.from_, move.to, move.numa_nodes, move.preemption_policy)
    show(table)
    for service, cpus in found.taken.items():
        show(f"The request would take {named_cpus(cpus)} from '{service}'")
    show(_GUESTS)
    for request in found.requests:
        print_line(f"  {command(request)}")


def command(request: RoomRequest) -> str:
    """The command line that makes a request."""
    fields = request.model_dump()
    return _command("release" if request.num_of_cores == -1 else "allocate", fields)


def _command(name: str, fields: Mapping[str, Any], *more: str) -> str:
    """A command with the fields of a request."""
    service, count = fields["service_name"], fields.get("num_of_cores")
    counts = [] if count in (None, 0, -1) else [count]
    options: list[object] = ["--default-size"] if count == 0 else []
    for field in _OPTIONS:
        if fields.get(field) is not None:
            options += [f"--{field.replace('_', '-')}", fields[field]]
    if fields.get("pool", "isolated") != "isolated":
        options += ["--pool", fields["pool"]]
    return command_text(name, service, *counts, options=[*options, *more])
