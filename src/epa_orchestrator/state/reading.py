# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Reading: finds events in the database, the newest or the oldest first, while another process or thread may write it.

A filter may have to look at every event. So the events are read in pieces, each in a transaction of its own: the log of
the database (WAL) begins from the start only while nobody reads, and would grow during a long one. Between the pieces
the reader rests, so that a daemon that reads in a thread of its own still serves.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.state.database_files import check_regular, read_only_uri
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.events import COLUMNS, NOTED, Event, event_of, text_or_bytes

#: After this time (seconds) of work the reader rests for as long.
_WORK: Final = 0.002
#: How many events one piece has.
_EVENTS_AT_ONCE: Final = 100


@dataclass(frozen=True)
class Wanted:
    """Which events to find: of a service, of a CPU, from and until a time (Unix time), after and before an event.

    `until` names a whole second. `member` is one that records of the event have: `cpus` leaves out those of hugepages.
    """

    service: str | None = None
    cpu: int | None = None
    since: float | None = None
    until: int | None = None
    after: int | None = None
    before: int | None = None
    member: str | None = None


_SERVICE, _BEFORE, _AFTER = (COLUMNS.index(name) for name in ("service", "before", "after"))
_CPUS: Final = re.compile(r'"cpus": ?"([0-9,-]*)"')
_PAGES: Final = re.compile(r'"node_id": ?([0-9]{1,10}), ?"size_kb": ?([0-9]{1,18})')

#: All events.
ANY: Final = Wanted()

_CONDITIONS: Final = {
    "service": "service = :service",
    "since": "at >= :since",
    "until": "at < :until + 1",
    "member": """(instr(before, '"' || :member || '"') OR instr(after, '"' || :member || '"'))""",
}
#: The first and the last of the next events between two others.
_PIECE: Final = (
    "SELECT min(id), max(id) FROM"
    " (SELECT id FROM event WHERE id > :after AND id < :before ORDER BY id {order} LIMIT :count)"
)
_LEAST_ID: Final = -(2**63)
_GREATEST_ID: Final = 2**63 - 1


class EventReader:
    """The events in a database that is open for reading; `check` is called after each piece, and may end the search."""

    def __init__(self, db: sqlite3.Connection, check: Callable[[], None]) -> None:
        self._db = db
        self._check = check
        present = {row[1] for row in db.execute("PRAGMA table_info(event)")}
        columns = (name if name not in NOTED or name in present else "NULL" for name in COLUMNS)
        self._select = f"SELECT {', '.join(columns)} FROM event"  # noqa: S608

    def newest_first(self, wanted: Wanted = ANY) -> Iterator[Event]:
        """The events that are wanted, the newest first."""
        return self._found(wanted, "DESC")

    def oldest_first(self, wanted: Wanted = ANY) -> Iterator[Event]:
        """The events that are wanted, the oldest first."""
        return self._found(wanted, "ASC")

    def grants(self, service: str, cpus: CpuSet) -> Iterator[tuple[CpuSet, Event]]:
        """The events by which a service got CPUs that it has now, the newest first, each with those CPUs."""
        left = cpus.mask
        for row in self._rows(Wanted(service), "DESC"):
            gained = _cpus(row[_AFTER]) & ~_cpus(row[_BEFORE]) & left
            if gained and not _has_damaged_records(event := event_of(row)):
                yield CpuSet.from_mask(gained), event
                left &= ~gained
                if not left:
                    return

    def newest_grants(self, claimed: Mapping[str, CpuSet]) -> Iterator[tuple[str, Event]]:
        """Of each service, the newest event by which it got CPUs that it has now. All are found in one search."""
        left = dict(claimed)
        for row in self._rows(ANY, "DESC") if left else ():
            service = row[_SERVICE]
            if not isinstance(service, str) or service not in left:
                continue
            gained = _cpus(row[_AFTER]) & ~_cpus(row[_BEFORE]) & left[service].mask
            if gained and not _has_damaged_records(event := event_of(row)):
                del left[service]
                yield service, event
                if not left:
                    return

    def newest_record(self, service: str, kinds: Collection[tuple[int, int]]) -> Event | None:
        """The newest event that made a hugepage record of one of these kinds (node and size); None if there is none."""
        for row in self._rows(Wanted(service), "DESC"):
            found = _PAGES.search(record) if isinstance(record := row[_AFTER], str) else None
            if found and (int(found[1]), int(found[2])) in kinds and not _has_damaged_records(event := event_of(row)):
                return event
        return None

    def settings(self, digest: str) -> dict[str, Any] | None:
        """The settings that have this digest; None where they are not known any longer, or damaged."""
        try:
            rows = self._db.execute("SELECT document FROM settings WHERE digest = ?", (digest,)).fetchall()
            document: object = json.loads(rows[0][0]) if rows else None
        except (sqlite3.Error, ValueError, TypeError, RecursionError):
            return None
        return cast("dict[str, Any]", document) if isinstance(document, dict) else None

    def _found(self, wanted: Wanted, order: str) -> Iterator[Event]:
        for row in self._rows(wanted, order):
            if wanted.cpu is None or _moves(row, wanted.cpu):
                yield event_of(row)

    def _rows(self, wanted: Wanted, order: str) -> Iterator[tuple[object, ...]]:
        """The rows that are wanted, but for the CPU; with rests and checks between the pieces."""
        began = time.monotonic()
        for rows in self._pieces(wanted, order):
            yield from rows
            self._check()
            worked = time.monotonic() - began
            if worked > _WORK:
                time.sleep(min(worked, 5 * _WORK))
                began = time.monotonic()

    def _pieces(self, wanted: Wanted, order: str) -> Iterator[list[tuple[object, ...]]]:
        """The same in pieces; no transaction is open between two of them."""
        values = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
        conditions = "".join(f" AND {_CONDITIONS[name]}" for name in values)
        select = f"{self._select} WHERE id BETWEEN :first AND :last{conditions} ORDER BY id {order}"
        bounds = {
            "after": _LEAST_ID if wanted.after is None else wanted.after,
            "before": _GREATEST_ID if wanted.before is None else wanted.before,
            "count": _EVENTS_AT_ONCE,
        }
        while True:
            ((first, last),) = self._db.execute(_PIECE.format(order=order), bounds).fetchall()
            if first is None:
                return
            yield self._db.execute(select, {**values, "first": first, "last": last}).fetchall()
            bounds |= {"before": first} if order == "DESC" else {"after": last}


def go_on() -> None:
    """Let every search go on to its end."""


@contextlib.contextmanager
def open_events(path: Path, check: Callable[[], None] = go_on) -> Generator[EventReader]:
    """The events of the database at a path; `check` is called often, and ends a search by an exception.

    Raises StateError, also from the block.
    """
    check_regular(path)
    try:
        with contextlib.closing(sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)) as db:
            db.text_factory = text_or_bytes
            yield EventReader(db, check)
    except sqlite3.Error as error:
        raise StateError(f"cannot be read: {error!s}") from error


def read_events(
    path: Path, limit: int, wanted: Wanted = ANY, takes: Callable[[Event], bool] = lambda _: True
) -> list[Event]:
    """The last `limit` events that are wanted, and that `takes` takes, oldest first.

    Raises StateError.
    """
    with open_events(path) as events:
        return [*islice(filter(takes, events.newest_first(wanted)), limit)][::-1]


def _has_damaged_records(event: Event) -> bool:
    return "before" in event.damaged or "after" in event.damaged


def _moves(row: tuple[object, ...], cpu: int) -> bool:
    """Whether a service gets or loses the CPU in an event."""
    return bool((_cpus(row[_BEFORE]) ^ _cpus(row[_AFTER])) >> cpu & 1)


def _cpus(record: object) -> int:
    """The CPUs of a record as a mask, by a search in its text, which is faster than decoding; 0 where it has none."""
    found = _CPUS.search(record) if isinstance(record, str) else None
    return _mask(found[1]) if found is not None else 0


@lru_cache(1024)
def _mask(cpus: str) -> int:
    """The CPUs of a list as a mask; 0 for a damaged one."""
    try:
        return CpuSet.parse(cpus).mask
    except ValueError:
        return 0
