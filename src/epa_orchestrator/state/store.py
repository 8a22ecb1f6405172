"""Store: the ledger on disk, in SQLite, outside the directory that other snaps may write.

A change is durable when `commit` returns (write-ahead log, `synchronous=FULL`), and each one leaves an event that says
when, who, and what before and after. A commit takes effect only on the state that this store last wrote, and `in_place`
tells whether its files have been replaced. So the store never writes over a change by another process.

A database that cannot be read or does not verify is never changed, replaced or emptied: it is opened read-only until
it has verified.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, cast

from epa_orchestrator.allocation.claims import Change, ClaimChange, PageKind, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.errors import EpaError
from epa_orchestrator.files import sync_directory
from epa_orchestrator.hardware.machine import Seen
from epa_orchestrator.peer import Peer
from epa_orchestrator.state.database_files import INDEX, JOURNAL, LOG, Content, Files, with_suffix
from epa_orchestrator.state.event_rows import Row as EventRow
from epa_orchestrator.state.event_rows import read_row, text_or_bytes
from epa_orchestrator.state.rows import (
    Row,
    checksum,
    claim_json,
    claim_of,
    claim_row,
    pages_json,
    pages_row,
    seen_of,
    seen_texts,
)

log = logging.getLogger(__name__)

FILE_NAME: Final = "state.db"
SCHEMA_VERSION: Final = 3
#: Marks the file as ours ("EPAO"); see PRAGMA application_id.
_APPLICATION_ID: Final = 0x4550414F

#: The oldest events are dropped, a few with each commit, when there are more, or when the database uses more bytes.
MAX_EVENTS: Final = 100_000
MAX_HISTORY_BYTES: Final = 32 * 1024 * 1024
#: How many commits pass between two looks at the size of the database.
_COMMITS_PER_LOOK: Final = 16
#: At most this many events are dropped at once, or twice as many as were added since the last look: commits stay short.
_MOST_DROPPED: Final = 1000

#: After so many pages in the log (estimated: four for a commit, and more for each change by its size) they are moved
#: into the database.
#: SQLite's own checkpoints, within a commit, would look as if others had written the database.
_PAGES_PER_CHECKPOINT: Final = 1000

#: SQLite's default.
_PAGE_BYTES: Final = 4096

#: How long (seconds) a start waits for another process that writes the database. Later a held lock is an error at once.
_START_PATIENCE: Final = 5.0

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE claim (service TEXT PRIMARY KEY, pool TEXT NOT NULL, cpus TEXT NOT NULL, explicit TEXT NOT NULL,
                    policy TEXT NOT NULL, placement TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE hugepages (service TEXT NOT NULL, node_id INTEGER NOT NULL, size_kb INTEGER NOT NULL,
                        count INTEGER NOT NULL, checksum INTEGER NOT NULL,
                        PRIMARY KEY (service, node_id, size_kb)) STRICT, WITHOUT ROWID;
CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL NOT NULL, pid INTEGER NOT NULL, uid INTEGER NOT NULL,
                    gid INTEGER NOT NULL, action TEXT NOT NULL, service TEXT NOT NULL,
                    before TEXT, after TEXT) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('checksum', '0'), ('undone', '0');
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""  # noqa: S608

#: By schema version: the columns of a claim, under its checksum. A database of an older version is brought up to date.
_CLAIM_COLUMNS: Final = {
    1: "service, pool, cpus, explicit, policy",
    2: "service, pool, cpus, explicit, policy, placement",
    3: "service, pool, cpus, explicit, policy, placement",
}
_REPLACE_CLAIM: Final = f"REPLACE INTO claim ({_CLAIM_COLUMNS[3]}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


#: Errors of the disk, and the lack of memory for its content.
_EXPECTED: Final = (sqlite3.Error, OSError, MemoryError)

#: A commit takes effect only on the state that was written last.
_SET_CHECKSUM: Final = "UPDATE meta SET value = ? WHERE key = 'checksum' AND value = ?"


class StateError(EpaError):
    """The database cannot be used; the message says why, without the file's name."""


class InUse(StateError):
    """Another process has the database open for writing, as only a daemon has."""


class CommitError(EpaError):
    """Changes could not be made durable and were undone; the message says why."""


class Overtaken(CommitError):
    """The database is no longer what this store wrote last, so the store writes nothing more."""


@dataclass(frozen=True)
class Event:
    """One line of the history; `before` and `after` are JSON objects, None for nothing.

    `damaged` names the columns whose content cannot be read; their values here are placeholders.
    """

    id: int
    at: float
    peer: Peer
    action: str
    service: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    damaged: tuple[str, ...] = ()


class Store:
    """The open database. `stage` any number of changes, then `commit` them with one sync.

    May be used from any thread, but from one at a time. `lock` is a file descriptor that this store closes.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, checksum: int, lock: int | None = None) -> None:
        self._db = connection
        self.path = path
        self._checksum = checksum
        self._staged = checksum
        self._lock = lock
        self._files = Files(path)
        self._committing = False
        self._oldest: int = connection.execute("SELECT ifnull(min(id), 1) FROM event").fetchone()[0]
        self._newest: int = connection.execute("SELECT ifnull(max(id), 0) FROM event").fetchone()[0]
        self._commits = self._new_events = self._new_bytes = 0
        self._content = Content(path, lock) if lock is not None else None
        self._log_pages = 0

    def stage(self, change: Change, peer: Peer, action: str, at: float) -> None:
        """Put a change into the open transaction. It is neither durable nor visible to others yet.

        Raises CommitError, having undone all that was staged.
        """
        try:
            self._begin()
            for claim in change.claims:
                self._stage_claim(claim)
                self._stage_event(peer, action, at, claim.service, claim_json(claim.before), claim_json(claim.after))
            if change.pages is not None:
                pages = change.pages
                self._stage_pages(pages)
                before, after = (pages_json(pages.kind, count) for count in (pages.before, pages.after))
                self._stage_event(peer, action, at, pages.service, before, after)
        except Exception as error:
            raise self._undone(error) from error

    def stage_seen(self, seen: Seen) -> None:
        """Keep where each CPU was last seen, for those that are offline later.

        Raises CommitError, having undone all that was staged.
        """
        try:
            self._begin()
            self._db.executemany("REPLACE INTO meta VALUES (?, ?)", seen_texts(seen).items())
        except Exception as error:
            raise self._undone(error) from error

    def commit(self) -> None:
        """Make what was staged durable. Blocks until the disk has it; may run in another thread.

        Raises CommitError, having undone it. Raises Overtaken when it went into files that others have replaced.
        """
        try:
            content = self._content
            if content is not None and not content.is_noted():
                self._verify(content, self._checksum)
            values = str(self._staged), str(self._checksum)
            if self._db.execute(_SET_CHECKSUM, values).rowcount != 1:
                raise Overtaken("another process has changed the database")  # noqa: TRY301
            oldest = self._drop_oldest()
            self._committing = True
            self._db.execute("COMMIT")
            self._committing = False
            if content is not None and not content.note_log():
                self._verify(content, self._staged)
            self._checksum, self._oldest = self._staged, oldest
        except Exception as error:
            raise self._undone(error) from error
        if not self.in_place():
            raise replaced()
        if self._log_pages >= _PAGES_PER_CHECKPOINT:
            self._checkpoint()

    def undo(self) -> None:
        """Roll back what was staged, after a failed sync too.

        When the sync failed, the frames of the transaction may be in the log with their commit mark, and a crash
        would bring back what was refused. Another transaction, written over them, prevents that, synced or not, as
        long as it changes a page.
        """
        self._staged = self._checksum
        written, self._committing = self._committing, False
        self._roll_back()
        with contextlib.suppress(*_EXPECTED):
            if written:
                self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'undone'")
        self._roll_back()
        if written and self._content is not None:
            self._content.note_log()

    def in_place(self) -> bool:
        """Whether the files that this store opened still lie where they were; any thread may ask."""
        return self._files.in_place()

    def untouched(self) -> bool:
        """Whether nobody else has written its files, as far as can be seen; not to be asked during a commit."""
        return self._content is None or self._content.is_noted()

    def verify(self) -> None:
        """After others have written its files: whether these still hold what this store wrote last.

        Raises Overtaken.
        """
        if self._content is not None and not self._content.is_noted():
            self._verify(self._content, self._checksum)

    def tidy(self) -> bool:
        """Drop old events and move the log into the database file. For idle moments: it syncs.

        Returns whether there is more to drop.
        """
        if not self.in_place() or not self.untouched():
            return False
        try:
            most = min(self._newest - MAX_EVENTS, self._oldest - 1 + _MOST_DROPPED)
            if most >= self._oldest:
                self._db.execute("DELETE FROM event WHERE id <= ?", (most,))
                self._oldest = most + 1
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._log_pages = 0
        except _EXPECTED as error:
            log.warning("the state database could not be tidied up: %s", _reason(error))
            self._roll_back()
            return False
        finally:
            self._note_content()
        return self._newest - MAX_EVENTS >= self._oldest

    def close(self) -> None:
        """Close the database; what was not committed is gone."""
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
        """Undo all that was staged; the CommitError that says why, or the error itself when it is a bug."""
        self.undo()
        return CommitError(_reason(error)) if isinstance(error, _EXPECTED) else error

    def _verify(self, content: Content, checksum: int) -> None:
        """Read the files as the next start would. Raises Overtaken unless they hold the state with this checksum."""
        content.note()
        try:
            found = load(self.path).checksum
        except StateError as error:
            raise Overtaken(f"another process has written its files, and now it {error}") from error
        if found != checksum:
            raise Overtaken("another process has changed the database")

    def _checkpoint(self) -> None:
        """Move the log into the database, as far as readers allow."""
        self._log_pages = 0
        with contextlib.suppress(*_EXPECTED):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._note_content()

    def _note_content(self) -> None:
        if self._content is not None:
            self._content.note()

    def _begin(self) -> None:
        if not self._db.in_transaction:
            if not self.in_place():  # nothing may get into a log that now belongs to another database
                raise replaced()
            self._db.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        with contextlib.suppress(*_EXPECTED):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._newest = self._db.execute("SELECT ifnull(max(id), 0) FROM event").fetchone()[0]

    def _stage_claim(self, change: ClaimChange) -> None:
        before = self._db.execute("SELECT checksum FROM claim WHERE service = ?", (change.service,)).fetchone()
        if (before is None) != (change.before is None):
            raise Overtaken("another process has changed the database")
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
        self, peer: Peer, action: str, at: float, service: str, before: str | None, after: str | None
    ) -> None:
        inserted = self._db.execute(
            "INSERT INTO event (at, pid, uid, gid, action, service, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (at, *peer, action, service, before, after),
        )
        self._newest = inserted.lastrowid or self._newest
        self._new_events += 1
        size = _event_bytes(service, before, after)
        self._log_pages += 1 + 2 * size // _PAGE_BYTES  # it is in the event, and half of it in the claim
        self._new_bytes += size

    def _drop_oldest(self) -> int:
        """Drop a few of the oldest events when there are too many; the id of the oldest that is left.

        It drops more than were added since the last look, so that a history that is too large shrinks.
        """
        self._commits += 1
        self._log_pages += 4
        if self._commits % _COMMITS_PER_LOOK:
            return self._oldest
        most = 2 * self._new_events + _COMMITS_PER_LOOK
        drop = min(self._newest - MAX_EVENTS - self._oldest + 1, most)
        if self._used_bytes() > MAX_HISTORY_BYTES:
            older = self._newest - self._oldest + 1 - self._new_events
            drop = max(drop, self._events_of(2 * self._new_bytes, min(max(most, _MOST_DROPPED), older)))
        self._new_events = self._new_bytes = 0
        if drop <= 0:
            return self._oldest
        last = self._oldest - 1 + drop
        self._db.execute("DELETE FROM event WHERE id <= ?", (last,))
        return last + 1

    def _used_bytes(self) -> int:
        """The size (bytes) of the pages of the database that are in use."""
        count, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return (count - free) * size

    def _events_of(self, wanted: int, most: int) -> int:
        """How many of the oldest events, at most `most`, have `wanted` bytes together."""
        oldest = "SELECT service, before, after FROM event ORDER BY id LIMIT ?"
        number = 0
        for row in self._db.execute(oldest, (most,)):
            if wanted <= 0:
                break
            number += 1
            wanted -= _event_bytes(*row)
        return number


class Loaded(NamedTuple):
    """What a database holds: the ledger, the checksum over it, where CPUs were last seen, and its schema's version."""

    ledger: Ledger
    checksum: int
    seen: Seen
    version: int


def replaced() -> Overtaken:
    """The error of a store whose files are no longer in place."""
    return Overtaken("the database is no longer the file that this daemon opened")


def exists(path: Path) -> bool:
    """Whether there is a database, or at least a trace of one that must not be written over."""
    return any(os.path.lexists(file) for file in (path, with_suffix(path, LOG), with_suffix(path, JOURNAL)))


def is_in_use(path: Path) -> bool:
    """Whether a daemon has the database open for writing, as far as can be seen."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def create(path: Path, ledger: Ledger, peer: Peer, at: float) -> None:
    """Make a new database that holds `ledger`, whole or not at all.

    It is complete, synced and in its final journal mode before it gets its name, and never replaces a file.
    Raises StateError.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_half_made(new)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _fill(new, ledger, peer, at)
        os.link(new, path)
        os.unlink(new)
        sync_directory(path.parent)
    except (*_EXPECTED, CommitError) as error:
        raise StateError(f"cannot be created: {_reason(error)}") from error


def _fill(new: Path, ledger: Ledger, peer: Peer, at: float) -> None:
    """Make a database out of an empty file, with nothing left in a log or journal."""
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        store = Store(db, new, 0)
        store.stage(Change(tuple(ClaimChange(None, claim) for claim in ledger.claims.values())), peer, "import", at)
        for service, counts in ledger.pages.items():
            for kind, count in counts.items():
                store.stage(Change(pages=PagesChange(service, kind, 0, count)), peer, "import", at)
        if db.in_transaction:
            store.commit()
        if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise StateError("cannot be created: another process reads it")
    fd = os.open(new, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_half_made(new: Path) -> None:
    """Remove what an interrupted first start left: SQLite would apply a journal there to the new file."""
    for file in (with_suffix(new, JOURNAL), with_suffix(new, LOG), with_suffix(new, INDEX), new):
        file.unlink(missing_ok=True)


def open_store(path: Path) -> tuple[Store, Loaded]:
    """Verify the database, then open it for writing, as the only process that does.

    Raises StateError, having changed nothing; `load_copy` may still be able to read it. Raises InUse.
    """
    lock = _lock(path)
    db: sqlite3.Connection | None = None
    try:
        loaded = load(path)
        uri = f"{path.absolute().as_uri()}?mode=rw"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_START_PATIENCE, check_same_thread=False)
        checksum = _prepare(db, loaded)
        with contextlib.suppress(OSError):  # what else has that name does no harm here
            _remove_half_made(path.with_name(path.name + ".new"))
        opened = Store(db, path, checksum, lock)
        if not os.path.samestat(os.fstat(lock), os.stat(path)):
            raise StateError("was replaced by another file while it was opened")  # noqa: TRY301
    except (*_EXPECTED, StateError) as error:
        if db is not None:
            db.close()
        os.close(lock)
        if isinstance(error, StateError):
            raise
        raise StateError(f"cannot be written: {_reason(error)}") from error
    return opened, loaded


def _lock(path: Path) -> int:
    """Lock the database file itself, because the daemon's lock file can be removed; the descriptor holds the lock.

    It is flock(2), because SQLite uses the record locks of the file.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        load(path)  # when it cannot be read either, that error says more
        raise StateError(f"cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mode = os.fstat(fd).st_mode
        if mode & 0o022:
            log.warning("others could write the state database %s: its mode was %o", path, mode & 0o777)
            os.fchmod(fd, mode & 0o755)
    except BlockingIOError:
        os.close(fd)
        raise InUse("is in use by another daemon") from None
    except OSError as error:
        os.close(fd)
        raise StateError(f"cannot be locked: {error.strerror}") from error
    return fd


def _prepare(db: sqlite3.Connection, loaded: Loaded) -> int:
    """Set up a connection for writing what was loaded; returns the checksum over it.

    Raises StateError.
    """
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StateError("cannot be written: its directory does not allow a write-ahead log")
    db.execute("PRAGMA synchronous = FULL")
    # Commits and checkpoints write the files, and nothing else: so a store can tell whether others have.
    db.execute("PRAGMA cache_spill = OFF")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("BEGIN IMMEDIATE")
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key = 'checksum'").fetchall())
    if meta != {"checksum": str(loaded.checksum)}:
        raise StateError("was changed by another process while it was opened")
    checksum = _upgrade(db, loaded) if loaded.version < SCHEMA_VERSION else loaded.checksum
    db.execute("COMMIT")
    db.execute("PRAGMA busy_timeout = 0")
    return checksum


def _upgrade(db: sqlite3.Connection, loaded: Loaded) -> int:
    """Bring the database to this schema in the open transaction; returns the checksum over it.

    Schema 3 has the columns of 2, and `alone` instead of `withheld` in the placements that are written from now on.
    """
    total = loaded.checksum
    if loaded.version == 1:
        db.execute("ALTER TABLE claim ADD COLUMN placement TEXT NOT NULL DEFAULT ''")
        for claim in loaded.ledger.claims.values():
            row = claim_row(claim)
            total ^= checksum(row[:-1]) ^ checksum(row)
            db.execute("UPDATE claim SET checksum = ? WHERE service = ?", (checksum(row), claim.service))
        db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(total),))
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return total


def load(path: Path) -> Loaded:
    """Read and verify the database without changing it, as it is at one moment.

    Raises StateError.
    """
    _check_are_files(path)
    path = _real(path)
    try:
        size = path.stat().st_size
        journal = with_suffix(path, JOURNAL)
        interrupted = journal.exists() and journal.stat().st_size > 0
    except OSError as error:
        raise StateError(f"cannot be read: {error.strerror}") from error
    if size == 0:
        raise StateError("is empty, although it once held the claims")
    if interrupted:
        return load_copy(path)  # SQLite undoes the interrupted transaction in the copy
    return _load_from(f"{path.absolute().as_uri()}?mode=ro")


def _real(path: Path) -> Path:
    """The file that the path leads to: SQLite keeps its log and journal next to that, not next to a link."""
    return Path(os.path.realpath(path))


def load_copy(path: Path) -> Loaded:
    """As `load`, but of a copy, for a directory in which SQLite cannot make the files that reading needs.

    Raises StateError.
    """
    _check_are_files(path)
    path = _real(path)
    try:
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory, path.name)
            for suffix in ("", LOG, JOURNAL):
                if with_suffix(path, suffix).exists():
                    shutil.copyfile(with_suffix(path, suffix), with_suffix(copy, suffix))
            return _load_from(copy.as_uri())
    except OSError as error:
        raise StateError(f"cannot be read: {error.strerror}") from error


def read_events(path: Path, service: str | None, limit: int) -> list[Event]:
    """The newest `limit` events (of one service), oldest first.

    Raises StateError.
    """
    query = "SELECT id, at, pid, uid, gid, action, service, before, after FROM event"
    _check_are_files(path)
    try:
        with contextlib.closing(_read_only(path)) as db:
            db.text_factory = text_or_bytes
            rows = db.execute(
                f"{query} WHERE :service IS NULL OR service = :service ORDER BY id DESC LIMIT :limit",
                {"service": service, "limit": limit},
            ).fetchall()
    except sqlite3.Error as error:
        raise StateError(f"cannot be read: {error!s}") from error
    return [_event(read_row(row)) for row in reversed(rows)]


def _event(row: EventRow) -> Event:
    return Event(
        row.id, row.at, Peer(row.pid, row.uid, row.gid), row.action, row.service, row.before, row.after, row.damaged
    )


def _load_from(uri: str) -> Loaded:
    """Read and verify everything in one transaction."""
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
            db.execute("BEGIN")
            return _load(db)
    except _EXPECTED as error:
        raise StateError(f"cannot be read: {_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise StateError(f"does not verify: {error}") from error


def _load(db: sqlite3.Connection) -> Loaded:
    """Read and verify everything.

    Raises ValueError where the content does not verify.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise ValueError("it is not a database of this daemon")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in _CLAIM_COLUMNS:
        raise ValueError(f"its schema version is {version}, this daemon knows {SCHEMA_VERSION}")
    damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise ValueError(" ".join(str(damage).split()))
    texts = (str,) * (_CLAIM_COLUMNS[version].count(",") + 1)
    claims = list(_verified(db, f"SELECT {_CLAIM_COLUMNS[version]}, checksum FROM claim", texts))  # noqa: S608
    columns = (str, int, int, int)
    pages = list(_verified(db, "SELECT service, node_id, size_kb, count, checksum FROM hugepages", columns))
    total = 0
    for row in (*claims, *pages):
        total ^= checksum(row)
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if meta.get("checksum") != str(total):
        raise ValueError("the checksum over its rows is wrong")
    counts: dict[str, dict[PageKind, int]] = {}
    for service, node_id, size_kb, count in cast("list[tuple[str, int, int, int]]", pages):
        counts.setdefault(service, {})[node_id, size_kb] = count
    seen = seen_of(meta)
    return Loaded(Ledger.of([claim_of(row) for row in claims], counts, seen.cores), total, seen, version)


def _verified(db: sqlite3.Connection, query: str, types: tuple[type, ...]) -> Iterator[Row]:
    """The rows of a query whose last column is the checksum of the others, without it.

    A table that others have made may hold other types than ours, which SQLite checks.
    """
    for *row, stored in db.execute(query):
        if not all(map(isinstance, row, types)):
            raise ValueError("a row holds a value of another type")
        if checksum(tuple(row)) != stored:
            raise ValueError("the checksum of a row is wrong")
        yield tuple(row)


def _reason(error: Exception) -> str:
    """What went wrong, in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or "out of memory"


def _event_bytes(service: str, before: str | None, after: str | None) -> int:
    """Roughly how many bytes an event takes in the database."""
    return 64 + len(service) + len(before or "") + len(after or "")


def _check_are_files(path: Path) -> None:
    """Check that none of a database's files is a FIFO or device, whose reader might wait or read without end.

    Raises StateError.
    """
    for file in (path, *(with_suffix(_real(path), suffix) for suffix in (LOG, INDEX, JOURNAL))):
        if os.path.exists(file) and not os.path.isfile(file):
            raise StateError(f"cannot be read: {file.name} is not a regular file")


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
