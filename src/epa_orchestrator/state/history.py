# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""History: adds an event for each change, and drops the oldest events within limits. `reading` reads them back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from epa_orchestrator.allocation.settings_text import SettingsText
from epa_orchestrator.peer import Peer
from epa_orchestrator.state.events import NOTED, NOTHING_NOTED, Note

#: The oldest events are dropped, a few with each commit, when there are more, or when the database uses more bytes.
MAX_EVENTS: Final = 100_000
MAX_HISTORY_BYTES: Final = 32 * 1024 * 1024
#: How many commits pass between two checks of these limits.
COMMITS_PER_CHECK: Final = 16
#: At most this many events are dropped at once, or twice as many as were added since the last check, so that commits
#: stay short.
_MOST_DROPPED: Final = 1000

#: The columns with texts, by which the size of an event is estimated.
_TEXTS: Final = ("service", "before", "after", *NOTED)
_WRITTEN: Final = ("at", "pid", "uid", "gid", "action", *_TEXTS)
_INSERT: Final = f"INSERT INTO event ({', '.join(_WRITTEN)}) VALUES ({', '.join('?' * len(_WRITTEN))})"  # noqa: S608
_OLDEST: Final = f"SELECT {', '.join(_TEXTS)} FROM event ORDER BY id LIMIT ?"  # noqa: S608
_DELETE_UP_TO: Final = "DELETE FROM event WHERE id <= ?"

#: The settings that were in force until the last event so far now end with it, and others begin.
_END_SETTINGS: Final = "UPDATE settings SET last = ? WHERE last IS NULL AND digest != ?"
_BEGIN_SETTINGS: Final = (
    "INSERT INTO settings VALUES (?, ?, NULL) ON CONFLICT (digest) DO UPDATE SET last = NULL WHERE last IS NOT NULL"
)
_DROP_SETTINGS: Final = "DELETE FROM settings WHERE last < ?"


#: Stands for settings that are not known yet.
NO_SETTINGS: Final = SettingsText("", "")


class Asked(NamedTuple):
    """Who asked for a change, by which action, and when; `note` says more about it."""

    peer: Peer
    action: str
    at: float
    note: Note = NOTHING_NOTED


class History:
    """The events in a database that is open for writing; their ids have no gaps."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._first_id, self._last_id = 1, 0
        self._commits = self._new_events = self._new_bytes = 0
        self._settings = NO_SETTINGS
        self.find_ids()

    def find_ids(self) -> None:
        """Look up the first and the last event, which a transaction that was rolled back does not change."""
        self._first_id = self._db.execute("SELECT ifnull(min(id), 1) FROM event").fetchone()[0]
        self._last_id = self._db.execute("SELECT ifnull(max(id), 0) FROM event").fetchone()[0]
        self._settings = NO_SETTINGS

    def add(self, asked: Asked, service: str, before: str | None, after: str | None, decided_by: str | None) -> int:
        """Add an event in the open transaction; returns roughly how many bytes it takes."""
        peer, action, at, note = asked
        size = 0
        if note.settings is not None and note.settings.digest != self._settings.digest:
            size += self._use_settings(note.settings)
        digest = note.settings.digest if note.settings is not None else None
        texts = service, before, after, note.request, digest, decided_by, *note.names
        inserted = self._db.execute(_INSERT, (at, *peer, action, *texts))
        self._last_id = inserted.lastrowid or self._last_id
        size += _size(texts)
        self._new_events += 1
        self._new_bytes += size
        return size

    def _use_settings(self, settings: SettingsText) -> int:
        """Keep the settings that are in force from the next event on; returns roughly how many bytes they take."""
        self._db.execute(_END_SETTINGS, (self._last_id, settings.digest))
        self._db.execute(_BEGIN_SETTINGS, settings)
        self._settings = settings
        return 64 + len(settings.document)

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
            self._db.execute(_DROP_SETTINGS, (self._first_id,))

    def _count_oldest(self, size: int, most: int) -> int:
        """How many of the oldest events, at most `most`, take `size` bytes together."""
        count = 0
        for texts in self._db.execute(_OLDEST, (most,)):
            if size <= 0:
                break
            count += 1
            size -= _size(texts)
        return count


def _size(texts: Iterable[str | None]) -> int:
    """Roughly how many bytes an event with these texts takes in the database."""
    return 64 + sum(map(len, filter(None, texts)))
