# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `history`: the changes, from the running daemon, or from the state database where none answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from epa_orchestrator.cli.completion import complete_services
from epa_orchestrator.cli.connect import ask_if_possible, connect, require_feature, without_daemon
from epa_orchestrator.cli.options import (
    MOST,
    JsonOption,
    SocketOption,
    check_number,
    check_service,
    choice,
    whole_number,
    within,
)
from epa_orchestrator.cli.output import Misuse, end_if_read_only, print_json, print_line, say, warn, write
from epa_orchestrator.cli.past import MOST_ASKED, Search, ask_after, ask_daemon, last_id, read_database
from epa_orchestrator.cli.times import parse_time
from epa_orchestrator.nearest import did_you_mean

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.history import HistoryAnswer, HistoryEvent

#: How often (seconds) --follow asks for new changes at least; it also asks whenever the daemon tells of one.
_FOLLOW_EVERY: Final = 5.0
#: The columns of a terminal that has room for a table.
_TABLE_WIDTH: Final = 120
#: What an older daemon cannot do, after "cannot".
_WHAT: Final = "show the history"


def _check_time(text: str | None) -> str | None:
    if text is not None:
        try:
            parse_time(text, time.time())
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return text


def history(
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show only changes of the service with this name, or if there is none, of those like 'vm-*'.",
            callback=check_service,
            autocompletion=complete_services,
        ),
    ] = None,
    of_service: Annotated[
        str | None,
        typer.Option("--service", help="The same as NAME.", callback=check_service, autocompletion=complete_services),
    ] = None,
    cpu: Annotated[
        int | None,
        typer.Option(
            help="Show only changes by which a service got or lost this CPU.",
            parser=whole_number,
            callback=check_number,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Show changes from this time on, such as 2026-11-26, '2026-11-26 14:30', 14:30, yesterday or 2h.",
            callback=_check_time,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Show changes up to this time; the whole second belongs to it.", callback=_check_time),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(help="The most changes to show, the newest ones.", parser=whole_number, callback=within(1, MOST)),
    ] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on to show changes as they are made.")] = False,
    output: Annotated[
        str | None,
        choice(
            lambda: ("wide", "json"),
            "-o",
            "--output",
            help="wide: each change with its request, the process that asked, and what decided; or json.",
        ),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(help="Read the database of this recorded machine, as given to `serve --machine`."),
    ] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the changes to claims and hugepage records.

    The newest one comes last. It asks the running daemon. Where none answers, or with --machine, it reads the state
    database, which takes the permission to read that file. With --socket it asks this daemon only.

    A name in quotes is what the process that asked calls itself; snaps and units are what the kernel says.

    Examples:
      epa-orchestrator history
      epa-orchestrator history vm-1 --since yesterday -o wide
      epa-orchestrator history 'vm-*'
      epa-orchestrator history --cpu 5 --since '2h ago'
      epa-orchestrator history --follow
    """
    if service is not None and of_service not in (None, service):
        raise Misuse(f"NAME '{service}' and --service '{of_service}' contradict each other: give one of them")
    if json_ and output == "wide":
        raise Misuse("--json does not go with -o wide: leave one of them out")
    if follow and machine is not None:
        raise Misuse("--follow does not go with --machine: only a running daemon makes changes")
    if follow and until is not None:
        raise Misuse("--follow does not go with --until: it shows changes until it is interrupted")
    filters = _filters(service or of_service, cpu, since, until)
    output = "json" if json_ else output
    asked = None if machine is not None else _ask(socket, filters, limit, follow=follow)
    if asked is None:
        with without_daemon():
            events = read_database(filters, limit, machine)
            _show(events, output)
            if not events:
                _say_empty(filters["service_name"], read_database({}, MOST_ASKED, machine))
        return
    search, answer = asked
    if limit > MOST_ASKED and answer.more:
        say(f"note: the daemon shows at most {MOST_ASKED} changes at once", err=True)
    if follow:
        _follow(socket, search, answer, output)
        return
    if not answer.events:
        _explain_empty(socket, filters)
    _show(answer.events, output)
    warn(answer.warnings)
    end_if_read_only(answer.state_error)


def _filters(service: str | None, cpu: int | None, since: str | None, until: str | None) -> dict[str, Any]:
    now = time.time()
    times = {name: parse_time(text, now) for name, text in (("since", since), ("until", until)) if text is not None}
    if "since" in times and times["since"] > times.get("until", times["since"]):
        raise Misuse(f"--since '{since}' is later than --until '{until}': no change is between them")
    return {"service_name": service, "cpu": cpu, **times}


def _ask(
    socket: Path | None, filters: dict[str, Any], limit: int, *, follow: bool
) -> tuple[Search, HistoryAnswer] | None:
    """The daemon's answer; None, and a note on stderr, where no daemon can give one."""
    if follow:
        with connect(socket) as client:
            require_feature(client, "get-history", _WHAT)
            return ask_daemon(client, filters, limit)
    otherwise = "This is read from the state database"
    return ask_if_possible(socket, "get-history", _WHAT, lambda client: ask_daemon(client, filters, limit), otherwise)


def _explain_empty(socket: Path | None, filters: dict[str, Any]) -> None:
    """End the command if the host does not have the CPU; otherwise say that no change was found."""
    with connect(socket) as client:
        if filters["cpu"] is not None and client.supports("get-claim"):
            client.claim(None, filters["cpu"])  # refused for a CPU that the host does not have
        _say_empty(filters["service_name"], client.history(limit=MOST_ASKED).events)


def _say_empty(service: str | None, newest: Iterable[HistoryEvent]) -> None:
    """Say that no change was found, and which service was probably meant."""
    names = {event.service for event in newest if event.service is not None}
    if service is None or service in names:
        say("no change matches", err=True)
        return
    hint = did_you_mean(service, names) or "; 'epa-orchestrator list' shows which services hold CPUs"
    say(f"no change of service '{service}' matches{hint}", err=True)


def _show(events: list[HistoryEvent], output: str | None) -> None:
    from epa_orchestrator.cli import changes
    from epa_orchestrator.cli.show import show

    if output == "json":
        print_json([event.document() for event in events])
    elif output == "wide":
        show(*(text for event in events for text in changes.detailed(event)))
    else:
        _show_table(events)


def _show_table(events: list[HistoryEvent]) -> None:
    """Print the events as fits the terminal; for another program, with all columns at their full width."""
    from epa_orchestrator.cli import changes
    from epa_orchestrator.cli.show import show, width_for_people

    width = width_for_people()
    if width is None:
        show(changes.table(events))
    elif width >= _TABLE_WIDTH:
        show(changes.short_table(events))
    else:
        for line in changes.short_lines(events, width):
            print_line(line)


def _follow(socket: Path | None, search: Search, answer: HistoryAnswer, output: str | None) -> None:
    """Print each change as one line or document, until interrupted."""
    from epa_orchestrator.cli.watching import answers

    _print_each(answer.events, output)
    seen = last_id(answer)

    def news() -> list[HistoryEvent]:
        nonlocal seen
        events, seen = _news(client, search, seen)
        return events

    try:
        with connect(socket) as client:
            for events in answers(client, news, _FOLLOW_EVERY):
                _print_each(events, output)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _news(client: Client, search: Search, seen: int) -> tuple[list[HistoryEvent], int]:
    """The changes after an event, and the newest event, so that no search begins before it again.

    A refusal, such as of a busy daemon, is a note on stderr, unless the daemon is read-only: then it is there to stay.
    """
    from epa_orchestrator.client import RefusedByDaemon

    require_feature(client, "get-history", _WHAT)
    try:
        newest = last_id(client.history(limit=1))
        if newest < seen:  # the daemon that has restarted has another history
            seen = 0
        events = [*ask_after(client, search, seen)]
    except RefusedByDaemon as error:
        if client.list_allocations().state_error is not None:
            raise
        say(f"note: {error}", err=True)
        return [], seen
    return events, max([seen, newest, *(event.id or 0 for event in events)])


def _print_each(events: Iterable[HistoryEvent], output: str | None) -> None:
    from epa_orchestrator.cli import changes
    from epa_orchestrator.cli.show import show

    for event in events:
        if output == "json":
            write(f"{json.dumps(event.document())}\n")
        elif output == "wide":
            show(*changes.detailed(event))
        else:
            say(changes.line(event))
