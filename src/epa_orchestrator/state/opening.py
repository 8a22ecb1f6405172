# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Opening: creates the database, and opens it for writing, as the only process that does.

A database that cannot be read or does not verify is never changed, replaced or emptied.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from epa_orchestrator.allocation.claims import Change, ClaimChange, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.files import sync_directory
from epa_orchestrator.peer import Peer
from epa_orchestrator.state.database_files import INDEX, JOURNAL, LOG, with_suffix
from epa_orchestrator.state.errors import DISK_ERRORS, CommitError, InUse, StateError, reason
from epa_orchestrator.state.events import Note
from epa_orchestrator.state.loading import Loaded, load
from epa_orchestrator.state.schema import CREATED, SCHEMA_VERSION, create_tables, upgrade
from epa_orchestrator.state.store import Store

log = logging.getLogger(__name__)

#: How long (seconds) a start waits for another process that writes the database. Later a held lock is an error at once.
_START_PATIENCE: Final = 5.0

_IMPORTED: Final = Note(decided_by="The first start took this over from the older daemon's state, as it was there.")


def create(path: Path, ledger: Ledger, peer: Peer, at: float) -> None:
    """Create a database that holds `ledger`, whole or not at all.

    It is complete, synced and in its final journal mode before it gets its name, and never replaces a file. `at` is the
    present (Unix time).
    Raises StateError.
    """
    new = _unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(new)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _fill(new, ledger, peer, at)
        os.link(new, path)
        os.unlink(new)
        sync_directory(path.parent)
    except (*DISK_ERRORS, CommitError) as error:
        raise StateError(f"cannot be created: {reason(error)}") from error


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
        with contextlib.suppress(OSError):  # anything else that has this name does no harm here
            _remove_unfinished(_unfinished(path))
        opened = Store(db, path, checksum, lock)
        if not os.path.samestat(os.fstat(lock), os.stat(path)):
            raise StateError("was replaced by another file while it was opened")  # noqa: TRY301
    except (*DISK_ERRORS, StateError) as error:
        if db is not None:
            db.close()
        os.close(lock)
        if isinstance(error, StateError):
            raise
        raise StateError(f"cannot be written: {reason(error)}") from error
    return opened, loaded


def is_in_use(path: Path) -> bool:
    """Whether a daemon has the database open for writing; False where that cannot be found out."""
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


def _unfinished(path: Path) -> Path:
    """The name of the database until it is complete."""
    return path.with_name(path.name + ".new")


def _remove_unfinished(new: Path) -> None:
    """Remove the files of an interrupted first start: SQLite would apply a journal there to the new file."""
    for file in (with_suffix(new, JOURNAL), with_suffix(new, LOG), with_suffix(new, INDEX), new):
        file.unlink(missing_ok=True)


def _fill(new: Path, ledger: Ledger, peer: Peer, at: float) -> None:
    """Make a database out of an empty file, with nothing left in a log or journal."""
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        create_tables(db)
        db.execute("INSERT INTO meta VALUES (?, ?)", (CREATED, repr(at)))
        store = Store(db, new, 0)
        claims = Change(tuple(ClaimChange(None, claim) for claim in ledger.claims.values()))
        store.stage(claims, peer, "import", at, _IMPORTED)
        for service, counts in ledger.pages.items():
            for kind, count in counts.items():
                pages = Change(pages=PagesChange(service, kind, 0, count))
                store.stage(pages, peer, "import", at, _IMPORTED)
        if db.in_transaction:
            store.commit()
        if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise StateError("cannot be created: another process reads it")
    fd = os.open(new, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
            log.warning("other users could write the state database %s: its mode was %o", path, mode & 0o777)
            os.fchmod(fd, mode & 0o755)
    except BlockingIOError:
        os.close(fd)
        raise InUse("is in use by another daemon") from None
    except OSError as error:
        os.close(fd)
        raise StateError(f"cannot be locked: {error.strerror}") from error
    return fd


def _prepare(db: sqlite3.Connection, loaded: Loaded) -> int:
    """Set up a connection for writing the database that was loaded; returns the checksum over its rows.

    Raises StateError.
    """
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StateError("cannot be written: its directory does not allow a write-ahead log")
    db.execute("PRAGMA synchronous = FULL")
    # Only commits and checkpoints write the files, so that a store can see whether others have.
    db.execute("PRAGMA cache_spill = OFF")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("BEGIN IMMEDIATE")
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key = 'checksum'").fetchall())
    if meta != {"checksum": str(loaded.checksum)}:
        raise StateError("was changed by another process while it was opened")
    checksum = loaded.checksum
    if loaded.version < SCHEMA_VERSION:
        checksum = upgrade(db, loaded.version, loaded.ledger.claims.values(), checksum)
    db.execute("COMMIT")
    db.execute("PRAGMA busy_timeout = 0")
    return checksum
