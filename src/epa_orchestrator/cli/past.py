# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The past: finds the changes that a person wants to see, in the daemon's history or in the state database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator import paths
from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.output import fail
from epa_orchestrator.cli.patterns import can_be_pattern, matches

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.history import HistoryAnswer, HistoryEvent
    from epa_orchestrator.state.events import Event

#: The most changes in one answer of the daemon (protocol/readings.py).
MOST_ASKED: Final = 1000


@dataclass(frozen=True)
class Search:
    """The changes to find: `filters` are fields of a request, and the service's name may also match a pattern."""

    filters: dict[str, Any]
    pattern: str | None = None

    def takes(self, event: HistoryEvent | Event) -> bool:
        """Whether the pattern allows an event that the filters have found."""
        return self.pattern is None or (event.service is not None and matches(self.pattern, event.service))


def search_for(filters: dict[str, Any], has_changes: Callable[[str], bool]) -> Search:
    """The search for a service by its name; if no such service `has_changes`, by a pattern, if it can be one."""
    word = filters.get("service_name")
    if word is None or not can_be_pattern(word) or has_changes(word):
        return Search(filters)
    return Search({**filters, "service_name": None}, word)


def ask_daemon(client: Client, filters: dict[str, Any], limit: int) -> tuple[Search, HistoryAnswer]:
    """The newest changes that the daemon knows, and the search that found them."""
    search = search_for(filters, lambda name: bool(client.history(service_name=name, limit=1).events))
    limit = min(limit, MOST_ASKED)
    if search.pattern is None:
        return search, client.history(**search.filters, limit=limit)
    return search, _matching(client, search, limit)


def ask_after(client: Client, search: Search, seen: int) -> Iterator[HistoryEvent]:
    """All changes after an event, the oldest first."""
    more = True
    while more:
        answer = client.history(**search.filters, after=seen, limit=MOST_ASKED)
        yield from filter(search.takes, answer.events)
        more = answer.more and last_id(answer) > seen
        seen = max(seen, last_id(answer))


def last_id(answer: HistoryAnswer) -> int:
    """The id of the newest event of an answer."""
    return max((event.id or 0 for event in answer.events), default=0)


def _matching(client: Client, search: Search, limit: int) -> HistoryAnswer:
    """The newest changes that match the pattern, from as many pages as needed, the newest page first.

    The history is bounded, and so is the number of pages: each has the ids of a range.
    """
    newest = client.history(limit=1)
    oldest = client.history(after=0, limit=1)
    first, last = last_id(oldest), last_id(newest)
    found: list[HistoryEvent] = []
    while last >= first > 0 and len(found) <= limit:
        start = max(last - MOST_ASKED, 0)
        page = client.history(**search.filters, after=start, limit=MOST_ASKED)
        found[:0] = [event for event in page.events if (event.id or 0) <= last and search.takes(event)]
        last = start
    return newest.model_copy(update={"events": found[-limit:], "more": len(found) > limit})


def read_database(filters: dict[str, Any], limit: int, machine: str | None) -> list[HistoryEvent]:
    """The events in the database of this host, or of a recorded machine."""
    from epa_orchestrator.protocol.history import HistoryEvent
    from epa_orchestrator.state import database_files
    from epa_orchestrator.state.errors import StateError
    from epa_orchestrator.state.reading import Wanted, read_events

    path = paths.state_directory(None if machine is None else Path(machine).stem) / database_files.FILE_NAME
    if not database_files.exists(path):
        _fail_without_database(path, machine)
    try:
        search = search_for(filters, lambda name: bool(read_events(path, 1, Wanted(name))))
        wanted = Wanted(*(search.filters.get(name) for name in ("service_name", "cpu", "since", "until")))
        events = read_events(path, limit, wanted, search.takes)
    except StateError as error:
        fail(f"The state database {path} {error}")
    return [HistoryEvent.model_construct(None, **event.document()) for event in events]


def _fail_without_database(path: Path, machine: str | None) -> None:
    if machine is not None:
        fail(
            f"There is no history of the recorded machine '{machine}', because the state database {path} does not"
            f" exist. To create it, run: {command_text('serve', options=('--machine', machine))}"
        )
    fail(
        f"There is no history, because the state database {path} does not exist: a daemon creates it at its first"
        " start. If the daemon serves a recorded machine, add --machine NAME"
    )
