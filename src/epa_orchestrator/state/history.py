# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""History: adds an event for each change, drops the oldest events within limits, and reads the events back."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from epa_orchestrator.peer import Peer
from epa_orchestrator.state.database_files import check_regular, read_only_uri
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.events import COLUMNS, Event, event_of, text_or_bytes

#: The oldest events are dropped, a few with each commit, when there are more, or when the database uses more bytes.
MAX_EVENTS: Final = 100_000
MAX_HISTORY_BYTES: Final = 32 * 1024 * 1024
#: How many commits pass between two checks of these limits.
COMMITS_PER_CHECK: Final = 16
#: At most this many events are dropped at once, or twice as many as were added since the last check, so that commits
#: stay short.
_MOST_DROPPED: Final = 1000

_INSERT: Final = "INSERT INTO event (at, pid, uid, gid, action, service, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE_UP_TO: Final = "DELETE FROM event WHERE id <= ?"
_READ: Final = (
    f"SELECT {', '.join(COLUMNS)} FROM event WHERE :service IS NULL OR service = :service ORDER BY id DESC LIMIT :limit"  # noqa: S608
)


class History:
    """The events in a database that is open for writing; their ids have no gaps."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._first_id, self._last_id = 1, 0
        self._commits = self._new_events = self._new_bytes = 0
        self.find_ids()

    def find_ids(self) -> None:
        """Look up the first and the last event, which a transaction that was rolled back does not change."""
        self._first_id = self._db.execute("SELECT ifnull(min(id), 1) FROM event").fetchone()[0]
        self._last_id = self._db.execute("SELECT ifnull(max(id), 0) FROM event").fetchone()[0]

    def add(self, peer: Peer, action: str, at: float, service: str, before: str | None, after: str | None) -> int:
        """Add an event in the open transaction; returns roughly how many bytes it takes."""
        inserted = self._db.execute(_INSERT, (at, *peer, action, service, before, after))
        self._last_id = inserted.lastrowid or self._last_id
        size = _size(service, before, after)
        self._new_events += 1
        self._new_bytes += size
        return size

    def drop_oldest(self) -> None:
        """Drop a few of the oldest events when a limit is exceeded. Each commit's transaction calls it once.

        It drops more than were added since the last check, so that a history that is too large shrinks.
        """
        self._commits += 1
        if self._commits % COMMITS_PER_CHECK:
            return
        most = 2 * self._new_events + COMMITS_PER_CHECK
        count = min(self._surplus(), most)
        if self.used_bytes() > MAX_HISTORY_BYTES:
            older = self._last_id - self._first_id + 1 - self._new_events
            count = max(count, self._count_oldest(2 * self._new_bytes, min(max(most, _MOST_DROPPED), older)))
        self._new_events = self._new_bytes = 0
        self._drop(count)

    def drop_surplus(self) -> None:
        """Drop events over MAX_EVENTS, a limited number at once."""
        self._drop(min(self._surplus(), _MOST_DROPPED))

    @property
    def has_surplus(self) -> bool:
        """Whether there are more than MAX_EVENTS."""
        return self._surplus() > 0

    def used_bytes(self) -> int:
        """The size (bytes) of the pages of the database that are in use."""
        count, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return (count - free) * size

    def _surplus(self) -> int:
        return self._last_id - self._first_id + 1 - MAX_EVENTS

    def _drop(self, count: int) -> None:
        if count > 0:
            self._db.execute(_DELETE_UP_TO, (self._first_id - 1 + count,))
            self._first_id += count

    def _count_oldest(self, size: int, most: int) -> int:
        """How many of the oldest events, at most `most`, take `size` bytes together."""
        oldest = "SELECT service, before, after FROM event ORDER BY id LIMIT ?"
        count = 0
        for row in self._db.execute(oldest, (most,)):
            if size <= 0:
                break
            count += 1
            size -= _size(*row)
        return count


def read_events(path: Path, service: str | None, limit: int) -> list[Event]:
    """The last `limit` events (of one service), oldest first.

    Raises StateError.
    """
    check_regular(path)
    try:
        with contextlib.closing(sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)) as db:
            db.text_factory = text_or_bytes
            rows = db.execute(_READ, {"service": service, "limit": limit}).fetchall()
    except sqlite3.Error as error:
        raise StateError(f"cannot be read: {error!s}") from error
    return [event_of(row) for row in reversed(rows)]


def _size(service: str, before: str | None, after: str | None) -> int:
    """Roughly how many bytes an event takes in the database."""
    return 64 + len(service) + len(before or "") + len(after or "")
