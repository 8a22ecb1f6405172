# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `history`: the changes in the state database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from epa_orchestrator import paths
from epa_orchestrator.cli.connect import without_daemon
from epa_orchestrator.cli.options import JsonOption
from epa_orchestrator.cli.output import fail, print_json

if TYPE_CHECKING:
    from epa_orchestrator.state.events import Event


#: The fields of an event about CPUs that one service takes from another; JSON has them when they are not empty.
_TAKINGS: Final = ("taken_from", "taken_from_others", "taken_by")


def history(
    service: Annotated[str | None, typer.Argument(help="Show the changes of this service only.")] = None,
    limit: Annotated[int, typer.Option(help="The most changes to show, the newest ones.", min=1, max=2**31 - 1)] = 50,
    machine: Annotated[
        str | None, typer.Option(help="The recorded machine that was given to `serve --machine`.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show the changes to claims and hugepage records.

    It reads the daemon's database. You need permission to read that file, but no running daemon.
    """
    with without_daemon():
        _show(service, limit, machine, as_json=json_)


def _show(service: str | None, limit: int, machine: str | None, *, as_json: bool) -> None:
    from epa_orchestrator.state import database_files
    from epa_orchestrator.state.errors import StateError
    from epa_orchestrator.state.reading import read_events

    path = paths.state_directory(None if machine is None else Path(machine).stem) / database_files.FILE_NAME
    if service is not None:
        service = service.encode("utf-8", "replace").decode()  # the argument may hold bytes that are not UTF-8
    try:
        events = read_events(path, service, limit)
    except StateError as error:
        hint = "" if machine or path.exists() else ". If the daemon serves a recorded machine, add --machine NAME"
        fail(f"The state database {path} {error}{hint}")
    if as_json:
        print_json([_event_document(event) for event in events])
    else:
        from epa_orchestrator.cli import tables

        tables.show(tables.history(events))


def _event_document(event: Event) -> dict[str, Any]:
    """An event as JSON; a damaged value is null, and `damaged` names it."""
    document = {
        "id": event.id,
        "at": event.at,
        "service": event.service,
        "before": event.before,
        "after": event.after,
        **event.peer._asdict(),
        "action": event.action,
    }
    document |= {name: value for name in _TAKINGS if (value := getattr(event, name))}
    if not event.damaged:
        return document
    return document | dict.fromkeys(event.damaged) | {"damaged": list(event.damaged)}
