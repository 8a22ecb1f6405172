# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Store: the database while it is open for writing; it stages changes and commits them with one sync.

A change is durable when `commit` returns (write-ahead log, `synchronous=FULL`), and each one leaves an event with its
time, the peer that requested it, and the record before and after. A commit takes effect only on the state that this
store wrote last, and the files are checked before and after it. So the store never overwrites a change by another
process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from epa_orchestrator.allocation.claims import Change, ClaimChange, PagesChange
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.peer import Peer
from epa_orchestrator.state.database_files import Content, Files
from epa_orchestrator.state.errors import DISK_ERRORS, REPLACED, CommitError, DatabaseChanged, StateError, reason
from epa_orchestrator.state.events import NOTHING_NOTED, Note
from epa_orchestrator.state.history import Asked, History
from epa_orchestrator.state.loading import load
from epa_orchestrator.state.rows import (
    checksum,
    claim_records,
    claim_row,
    pages_json,
    pages_row,
    seen_texts,
    takings_of,
)
from epa_orchestrator.state.schema import CLAIM_COLUMNS, SCHEMA_VERSION

log = logging.getLogger(__name__)

#: After this number of pages in the log (estimated: four for a commit, and more for each change by its size) they are
#: moved into the database. SQLite's own checkpoints, within a commit, would look as if others had written the database.
_PAGES_PER_CHECKPOINT: Final = 1000
_PAGES_PER_COMMIT: Final = 4

#: SQLite's default.
_PAGE_BYTES: Final = 4096

_CHANGED: Final = "another process has changed the database"

#: A commit takes effect only on the state that was written last.
_SET_CHECKSUM: Final = "UPDATE meta SET value = ? WHERE key = 'checksum' AND value = ?"
_REPLACE_CLAIM: Final = f"REPLACE INTO claim ({CLAIM_COLUMNS[SCHEMA_VERSION]}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class Store:
    """The open database. `stage` any number of changes, then `commit` them with one sync.

    May be used from any thread, but from one at a time. `checksum` is the one over all rows, `lock` a file descriptor
    of the database, which this store closes. Without a lock, the store does not look for writes by others.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, checksum: int, lock: int | None = None) -> None:
        self._db = connection
        self.path = path
        self._checksum = checksum
        self._staged = checksum
        self._lock = lock
        self._files = Files(path)
        self._history = History(connection)
        self._content = Content(path, lock) if lock is not None else None
        self._committing = False
        self._log_pages = 0

    def stage(self, change: Change, peer: Peer, action: str, at: float, note: Note = NOTHING_NOTED) -> None:
        """Put a change into the open transaction, with events. It is neither durable nor visible to others yet.

        Raises CommitError, having undone all that was staged.
        """
        try:
            self._begin()
            asked, takings = Asked(peer, action, at, note), takings_of(change)
            for claim in change.claims:
                self._stage_claim(claim)
                before, after = claim_records(claim, takings)
                loses = takings is not None and claim.service in takings.losses
                self._stage_event(asked, claim.service, before, after, note.lost_by if loses else note.decided_by)
            if change.pages is not None:
                pages = change.pages
                self._stage_pages(pages)
                before, after = (pages_json(pages.kind, count) for count in (pages.before, pages.after))
                self._stage_event(asked, pages.service, before, after, note.decided_by)
        except Exception as error:
            raise self._undone(error) from error

    def stage_seen(self, seen: LastSeen) -> None:
        """Keep where each CPU was last seen, for those that are offline later.

        Raises CommitError, having undone all that was staged.
        """
        try:
            self._begin()
            self._db.executemany("REPLACE INTO meta VALUES (?, ?)", seen_texts(seen).items())
        except Exception as error:
            raise self._undone(error) from error

    def commit(self) -> None:
        """Make the staged changes durable. Blocks until the disk has them; may run in another thread.

        Raises CommitError, having undone them; DatabaseChanged when another process has changed or replaced the
        database, which after the commit leaves the changes in the replaced files.
        """
        try:
            self.verify()
            values = str(self._staged), str(self._checksum)
            if self._db.execute(_SET_CHECKSUM, values).rowcount != 1:
                raise DatabaseChanged(_CHANGED)  # noqa: TRY301
            self._history.drop_oldest()
            self._log_pages += _PAGES_PER_COMMIT
            self._committing = True
            self._db.execute("COMMIT")
            self._committing = False
            if self._content is not None and not self._content.remember_log():
                self._verify(self._staged)
            self._checksum = self._staged
        except Exception as error:
            raise self._undone(error) from error
        if not self.in_place():
            raise DatabaseChanged(REPLACED)
        if self._log_pages >= _PAGES_PER_CHECKPOINT:
            self._checkpoint()

    def undo(self) -> None:
        """Roll back the staged changes, after a failed sync too.

        When the sync failed, the frames of the transaction may be in the log with their commit mark, and a crash
        would bring the refused changes back. Another transaction, written over them, prevents that, synced or not, as
        long as it changes a page.
        """
        self._staged = self._checksum
        written, self._committing = self._committing, False
        self._roll_back()
        with contextlib.suppress(*DISK_ERRORS):
            if written:
                self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'undone'")
        self._roll_back()
        if written and self._content is not None:
            self._content.remember_log()

    def in_place(self) -> bool:
        """Whether the names of the files that this store opened still lead to them; for any thread."""
        return self._files.in_place()

    def untouched(self) -> bool:
        """Whether no other process has written the files, by a quick check; not during a commit."""
        return self._content is None or self._content.is_unchanged()

    def verify(self) -> None:
        """Check that the files still hold the state that this store wrote last, if others have written them.

        Raises DatabaseChanged.
        """
        if not self.untouched():
            self._verify(self._checksum)

    def tidy(self) -> bool:
        """Drop old events and move the log into the database file. For idle moments: it syncs.

        Returns whether there is more to drop.
        """
        if not self.in_place() or not self.untouched():
            return False
        try:
            self._history.drop_surplus()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._log_pages = 0
        except DISK_ERRORS as error:
            log.warning("the state database could not be tidied up: %s", reason(error))
            self._roll_back()
            return False
        finally:
            self._remember_content()
        return self._history.has_surplus

    def close(self) -> None:
        """Close the database; staged changes are lost."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if self._content is not None:
            self._content.close()
            self._content = None
        if self._lock is not None:
            # Only now: closing any descriptor of the file drops the locks that SQLite has on it (fcntl(2)).
            os.close(self._lock)
            self._lock = None

    def _undone(self, error: Exception) -> Exception:
        """Undo all that was staged; returns the CommitError with the reason, or the error itself when it is a bug."""
        self.undo()
        return CommitError(reason(error)) if isinstance(error, DISK_ERRORS) else error

    def _verify(self, checksum: int) -> None:
        """Read the files as the next start would. Raises DatabaseChanged unless the state in them has this checksum."""
        self._remember_content()
        try:
            found = load(self.path).checksum
        except StateError as error:
            raise DatabaseChanged(f"another process has written its files, and now it {error}") from error
        if found != checksum:
            raise DatabaseChanged(_CHANGED)

    def _checkpoint(self) -> None:
        """Move the log into the database, as far as readers allow."""
        self._log_pages = 0
        with contextlib.suppress(*DISK_ERRORS):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._remember_content()

    def _remember_content(self) -> None:
        if self._content is not None:
            self._content.remember()

    def _begin(self) -> None:
        if not self._db.in_transaction:
            if not self.in_place():  # nothing may get into a log that now belongs to another database
                raise DatabaseChanged(REPLACED)
            self._db.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        with contextlib.suppress(*DISK_ERRORS):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._history.find_ids()

    def _stage_claim(self, change: ClaimChange) -> None:
        before = self._db.execute("SELECT checksum FROM claim WHERE service = ?", (change.service,)).fetchone()
        if (before is None) != (change.before is None):
            raise DatabaseChanged(_CHANGED)
        after = claim_row(change.after) if change.after else None
        self._staged ^= (before[0] if before else 0) ^ checksum(after)
        if after is None:
            self._db.execute("DELETE FROM claim WHERE service = ?", (change.service,))
        else:
            self._db.execute(_REPLACE_CLAIM, (*after, checksum(after)))

    def _stage_pages(self, change: PagesChange) -> None:
        before, after = (pages_row(change.service, change.kind, count) for count in (change.before, change.after))
        self._staged ^= checksum(before) ^ checksum(after)
        if after is None:
            key = change.service, *change.kind
            self._db.execute("DELETE FROM hugepages WHERE service = ? AND node_id = ? AND size_kb = ?", key)
        else:
            self._db.execute("REPLACE INTO hugepages VALUES (?, ?, ?, ?, ?)", (*after, checksum(after)))

    def _stage_event(
        self, asked: Asked, service: str, before: str | None, after: str | None, decided_by: str | None
    ) -> None:
        size = self._history.add(asked, service, before, after, decided_by)
        self._log_pages += 1 + 2 * size // _PAGE_BYTES  # it is in the event, and half of it in the claim
