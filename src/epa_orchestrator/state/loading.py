# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Loading: reads the database into a ledger, verifies it as a whole, and never changes it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from epa_orchestrator.allocation.claims import PageKind
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.state.database_files import JOURNAL, LOG, check_regular, read_only_uri, real_path, with_suffix
from epa_orchestrator.state.errors import DISK_ERRORS, StateError, reason
from epa_orchestrator.state.rows import Row, checksum, claim_of, seen_of
from epa_orchestrator.state.schema import APPLICATION_ID, CLAIM_COLUMNS, CREATED, SCHEMA_VERSION


class Loaded(NamedTuple):
    """The content of a database: the ledger, the checksum over its rows, where CPUs were last seen, its version.

    `created` is when it was created (Unix time), None for a database that does not know.
    """

    ledger: Ledger
    checksum: int
    seen: LastSeen
    version: int
    created: float | None = None


def load(path: Path) -> Loaded:
    """Read and verify the database as it is at one moment.

    Raises StateError.
    """
    check_regular(path)
    path = real_path(path)
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
    return _load_from(read_only_uri(path))


def load_copy(path: Path) -> Loaded:
    """As `load`, but from a copy, for a directory in which SQLite cannot make the files that reading needs.

    Raises StateError.
    """
    check_regular(path)
    path = real_path(path)
    try:
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory, path.name)
            for suffix in ("", LOG, JOURNAL):
                if with_suffix(path, suffix).exists():
                    shutil.copyfile(with_suffix(path, suffix), with_suffix(copy, suffix))
            return _load_from(copy.as_uri())
    except OSError as error:
        raise StateError(f"cannot be read: {error.strerror}") from error


def _load_from(uri: str) -> Loaded:
    """Read and verify everything in one transaction."""
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
            db.execute("BEGIN")
            return _read_verified(db)
    except DISK_ERRORS as error:
        raise StateError(f"cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise StateError(f"does not verify: {error}") from error


def _read_verified(db: sqlite3.Connection) -> Loaded:
    """Read and verify everything.

    Raises ValueError where the content does not verify.
    """
    version = _check_file(db)
    columns = CLAIM_COLUMNS[version]
    texts = (str,) * (columns.count(",") + 1)
    claims = list(_verified_rows(db, f"SELECT {columns}, checksum FROM claim", texts))  # noqa: S608
    types = (str, int, int, int)
    pages = list(_verified_rows(db, "SELECT service, node_id, size_kb, count, checksum FROM hugepages", types))
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
    ledger = Ledger.of([claim_of(row) for row in claims], counts, seen.known_cores(None))
    return Loaded(ledger, total, seen, version, _number(meta.get(CREATED)))


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _check_file(db: sqlite3.Connection) -> int:
    """Check that the file is whole and ours; returns its schema version.

    Raises ValueError.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise ValueError("it is not a database of this daemon")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in CLAIM_COLUMNS:
        raise ValueError(f"its schema version is {version}, this daemon knows {SCHEMA_VERSION}")
    damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise ValueError(" ".join(str(damage).split()))
    return version


def _verified_rows(db: sqlite3.Connection, query: str, types: tuple[type, ...]) -> Iterator[Row]:
    """The rows of a query without its last column, which is the checksum of the others.

    SQLite checks the types in our own tables, but not in a table that another program has made.
    """
    for *row, stored in db.execute(query):
        if not all(map(isinstance, row, types)):
            raise ValueError("a row holds a value of another type")
        if checksum(tuple(row)) != stored:
            raise ValueError("the checksum of a row is wrong")
        yield tuple(row)
