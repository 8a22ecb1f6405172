# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Reading: finds events in the database, newest first, while another process or thread may write it.

A filter by CPU has to look into the records of every event. It rests between pieces of work, so that a daemon that
reads in a thread of its own still serves.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Generator, Iterator
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
#: How many rows are read between two looks at the time.
_ROWS_AT_ONCE: Final = 20


@dataclass(frozen=True)
class Wanted:
    """Which events to find: of a service, of a CPU, from and until a time (Unix time), after and before an event."""

    service: str | None = None
    cpu: int | None = None
    since: float | None = None
    until: float | None = None
    after: int | None = None
    before: int | None = None


_BEFORE, _AFTER = COLUMNS.index("before"), COLUMNS.index("after")
_CPUS: Final = re.compile(r'"cpus": ?"([0-9,-]*)"')

#: All events.
ANY: Final = Wanted()

_CONDITIONS: Final = {
    "service": "service = :service",
    "since": "at >= :since",
    "until": "at <= :until",
    "after": "id > :after",
    "before": "id < :before",
}


class EventReader:
    """The events in a database that is open for reading."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        present = {row[1] for row in db.execute("PRAGMA table_info(event)")}
        columns = (name if name not in NOTED or name in present else "NULL" for name in COLUMNS)
        self._select = f"SELECT {', '.join(columns)} FROM event"  # noqa: S608

    def newest_first(self, wanted: Wanted = ANY) -> Iterator[Event]:
        """The events that are wanted, the newest first."""
        return self._found(wanted, "DESC")

    def oldest_first(self, wanted: Wanted = ANY) -> Iterator[Event]:
        """The events that are wanted, the oldest first."""
        return self._found(wanted, "ASC")

    def settings(self, digest: str) -> dict[str, Any] | None:
        """The settings that have this digest; None where they are not known any longer, or damaged."""
        try:
            row = self._db.execute("SELECT document FROM settings WHERE digest = ?", (digest,)).fetchone()
            document: object = json.loads(row[0]) if row else None
        except (sqlite3.Error, ValueError, TypeError, RecursionError):
            return None
        return cast("dict[str, Any]", document) if isinstance(document, dict) else None

    def _found(self, wanted: Wanted, order: str) -> Iterator[Event]:
        values = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
        conditions = " AND ".join(_CONDITIONS[name] for name in values)
        where = f" WHERE {conditions}" if conditions else ""
        rows = self._db.execute(f"{self._select}{where} ORDER BY id {order}", values)
        for row in _resting(rows):
            if wanted.cpu is None or _moves(row, wanted.cpu):
                yield event_of(row)


@contextlib.contextmanager
def open_events(path: Path) -> Generator[EventReader]:
    """The events of the database at a path, as they are at this moment.

    Raises StateError, also from the block.
    """
    check_regular(path)
    try:
        with contextlib.closing(sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)) as db:
            db.text_factory = text_or_bytes
            db.execute("BEGIN")
            yield EventReader(db)
    except sqlite3.Error as error:
        raise StateError(f"cannot be read: {error!s}") from error


def read_events(path: Path, limit: int, wanted: Wanted = ANY) -> list[Event]:
    """The last `limit` events that are wanted, oldest first.

    Raises StateError.
    """
    with open_events(path) as events:
        return [*islice(events.newest_first(wanted), limit)][::-1]


def _moves(row: tuple[object, ...], cpu: int) -> bool:
    """Whether a service gets or loses the CPU in an event; by a search in its texts, which is faster than decoding."""
    return _has(row[_BEFORE], cpu) is not _has(row[_AFTER], cpu)


def _has(record: object, cpu: int) -> bool:
    found = _CPUS.search(record) if isinstance(record, str) else None
    return found is not None and bool(_mask(found[1]) >> cpu & 1)


@lru_cache(1024)
def _mask(cpus: str) -> int:
    """The CPUs of a list as a mask; 0 for a damaged one."""
    try:
        return CpuSet.parse(cpus).mask
    except ValueError:
        return 0


def _resting(rows: sqlite3.Cursor) -> Iterator[tuple[object, ...]]:
    """The rows, with a rest after each piece of work."""
    began = time.monotonic()
    while piece := rows.fetchmany(_ROWS_AT_ONCE):
        yield from piece
        worked = time.monotonic() - began
        if worked > _WORK:
            time.sleep(min(worked, 5 * _WORK))
            began = time.monotonic()
