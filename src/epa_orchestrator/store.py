"""Store: the ledger on disk, in SQLite, outside the directory that other snaps may write.

A change is durable when `commit` returns (write-ahead log, `synchronous=FULL`), and each one leaves an event that says
when, who, and what before and after. Rows carry checksums, and so does the set of them, because SQLite itself does not
notice a byte that was changed inside a value.

A database that cannot be read or does not verify is never changed, replaced or emptied: it is opened read-only until
it has verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, cast, get_args

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.event_rows import Row, read_row, text_or_bytes
from epa_orchestrator.ledger import Change, Claim, ClaimChange, Ledger, PageKind, PagesChange
from epa_orchestrator.policy import NO_WISHES, parse_policy, parse_wishes
from epa_orchestrator.pools import PoolName
from epa_orchestrator.settings import Policy

FILE_NAME: Final = "state.db"
SCHEMA_VERSION: Final = 2
#: Marks the file as ours ("EPAO"); see PRAGMA application_id.
_APPLICATION_ID: Final = 0x4550414F
#: Older events are dropped: enough for years, small enough for any disk (about 30 MB).
MAX_EVENTS: Final = 100_000

_SCHEMA: Final = f"""
CREATE TABLE claim (service TEXT PRIMARY KEY, pool TEXT NOT NULL, cpus TEXT NOT NULL, explicit TEXT NOT NULL,
                    policy TEXT NOT NULL, placement TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE hugepages (service TEXT NOT NULL, node_id INTEGER NOT NULL, size_kb INTEGER NOT NULL,
                        count INTEGER NOT NULL, checksum INTEGER NOT NULL,
                        PRIMARY KEY (service, node_id, size_kb)) STRICT, WITHOUT ROWID;
CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL NOT NULL, pid INTEGER NOT NULL, uid INTEGER NOT NULL,
                    gid INTEGER NOT NULL, action TEXT NOT NULL, service TEXT NOT NULL,
                    before TEXT, after TEXT) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

#: By schema version: the columns of a claim, under its checksum. A database of an older version is brought up to date.
_CLAIM_COLUMNS: Final = {
    1: "service, pool, cpus, explicit, policy",
    2: "service, pool, cpus, explicit, policy, placement",
}
_REPLACE_CLAIM: Final = f"REPLACE INTO claim ({_CLAIM_COLUMNS[2]}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class StateError(EpaError):
    """The database cannot be used; the message says why, without the file's name."""


class CommitError(EpaError):
    """Changes could not be made durable and were undone; the message says why."""


class Origin(NamedTuple):
    """Who caused a change, and how: the peer's process, user and group, and the request's action."""

    pid: int
    uid: int
    gid: int
    action: str


@dataclass(frozen=True)
class Event:
    """One line of the history; `before` and `after` are JSON objects, None for nothing.

    `damaged` names the columns whose content cannot be read; they have a value that says nothing.
    """

    id: int
    at: float
    origin: Origin
    service: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    damaged: tuple[str, ...] = ()


class Store:
    """The open database. `stage` any number of changes, then `commit` them with one sync."""

    def __init__(self, connection: sqlite3.Connection, path: Path, checksum: int) -> None:
        self._db = connection
        self.path = path
        self._checksum = checksum
        self._staged = checksum

    def stage(self, change: Change, origin: Origin, at: float) -> None:
        """Put a change into the open transaction. It is neither durable nor visible to others yet.

        Raises CommitError, having undone all that was staged.
        """
        try:
            self._begin()
            for claim in change.claims:
                self._stage_claim(claim)
                self._stage_event(origin, at, claim.service, _claim_json(claim.before), _claim_json(claim.after))
            if change.pages is not None:
                pages = change.pages
                self._stage_pages(pages)
                before, after = (_pages_json(pages.kind, count) for count in (pages.before, pages.after))
                self._stage_event(origin, at, pages.service, before, after)
        except sqlite3.Error as error:
            self._undo()
            raise CommitError(str(error)) from error

    def stage_nodes(self, nodes: Mapping[int, CpuSet]) -> None:
        """Keep which CPUs each NUMA node has, so that a claim can be released by node when the node is gone.

        Raises CommitError, having undone all that was staged.
        """
        text = json.dumps({node: str(cpus) for node, cpus in nodes.items()})
        try:
            self._begin()
            self._db.execute("REPLACE INTO meta VALUES ('nodes', ?)", (text,))
        except sqlite3.Error as error:
            self._undo()
            raise CommitError(str(error)) from error

    def commit(self) -> None:
        """Make what was staged durable. Blocks until the disk has it; may run in another thread.

        Raises CommitError, having undone it.
        """
        try:
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(self._staged),))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise CommitError(str(error)) from error
        self._checksum = self._staged

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def _undo(self) -> None:
        """Roll back what was staged, after a failed sync too.

        When the sync failed, the frames of the transaction may be in the log with their commit mark, and a crash
        would bring back what was refused. Writing another transaction over them prevents that, synced or not, if only
        it really changes a page.
        """
        self._staged = self._checksum
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'undone'")
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def tidy(self) -> None:
        """Drop the oldest events and move the log into the database file. For idle moments: it syncs."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (MAX_EVENTS,))
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the database; what was not committed is gone."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _stage_claim(self, change: ClaimChange) -> None:
        before, after = (_claim_row(claim) if claim else None for claim in (change.before, change.after))
        self._staged ^= _checksum(before) ^ _checksum(after)
        if after is None:
            self._db.execute("DELETE FROM claim WHERE service = ?", (change.service,))
        else:
            self._db.execute(_REPLACE_CLAIM, (*after, _checksum(after)))

    def _stage_pages(self, change: PagesChange) -> None:
        key = (change.service, *change.kind)
        before, after = ((*key, count) if count else None for count in (change.before, change.after))
        self._staged ^= _checksum(before) ^ _checksum(after)
        if after is None:
            self._db.execute("DELETE FROM hugepages WHERE service = ? AND node_id = ? AND size_kb = ?", key)
        else:
            self._db.execute("REPLACE INTO hugepages VALUES (?, ?, ?, ?, ?)", (*after, _checksum(after)))

    def _stage_event(self, origin: Origin, at: float, service: str, before: str | None, after: str | None) -> None:
        self._db.execute(
            "INSERT INTO event (at, pid, uid, gid, action, service, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (at, *origin, service, before, after),
        )


class Loaded(NamedTuple):
    """What a database holds: the ledger, the checksum over it, and the CPUs of each NUMA node when last seen.

    `version` is that of its schema.
    """

    ledger: Ledger
    checksum: int
    nodes: dict[int, CpuSet]
    version: int


def exists(path: Path) -> bool:
    """Whether there is a database, or at least a trace of one that must not be written over."""
    return path.exists() or _log(path).exists()


def create(path: Path, ledger: Ledger, origin: Origin, at: float) -> None:
    """Make a new database that holds `ledger`, whole or not at all: it gets its name when it is complete and synced.

    Raises StateError.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = EXTRA")
            db.executescript(_SCHEMA)
            db.execute("INSERT INTO meta VALUES ('checksum', '0'), ('undone', '0')")
            store = Store(db, new, 0)
            store.stage(Change(tuple(ClaimChange(None, claim) for claim in ledger.claims.values())), origin, at)
            for service, counts in ledger.pages.items():
                for kind, count in counts.items():
                    store.stage(Change(pages=PagesChange(service, kind, 0, count)), origin, at)
            if db.in_transaction:
                store.commit()
        os.rename(new, path)
        _sync_directory(path.parent)
    except (OSError, sqlite3.Error, CommitError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StateError(f"cannot be created: {reason}") from error


def open_store(path: Path) -> tuple[Store, Loaded]:
    """Verify the database, then open it for writing.

    Raises StateError, having changed nothing; `load_copy` may still be able to read it.
    """
    loaded = load(path)
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        checksum = _upgrade(db, loaded) if loaded.version < SCHEMA_VERSION else loaded.checksum
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        raise StateError(f"cannot be written: {error!s}") from error
    if mode != "wal":
        raise StateError("cannot be written: its directory does not allow a write-ahead log")
    return Store(db, path, checksum), loaded


def _upgrade(db: sqlite3.Connection, loaded: Loaded) -> int:
    """Bring the database from schema 1 to 2 in the open transaction; returns the checksum over it."""
    db.execute("ALTER TABLE claim ADD COLUMN placement TEXT NOT NULL DEFAULT ''")
    checksum = loaded.checksum
    for claim in loaded.ledger.claims.values():
        row = _claim_row(claim)
        checksum ^= _checksum(row[:-1]) ^ _checksum(row)
        db.execute("UPDATE claim SET checksum = ? WHERE service = ?", (_checksum(row), claim.service))
    db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(checksum),))
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return checksum


def load(path: Path) -> Loaded:
    """Read and verify the database without changing it.

    Raises StateError.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise StateError(f"cannot be read: {error.strerror}") from error
    if size == 0:
        raise StateError("is empty, although it once held the claims")
    try:
        with contextlib.closing(_read_only(path)) as db:
            return _load(db)
    except sqlite3.Error as error:
        raise StateError(f"cannot be read: {error!s}") from error
    except ValueError as error:
        raise StateError(f"does not verify: {error}") from error


def load_copy(path: Path) -> Loaded:
    """As `load`, but of a copy, for a directory in which SQLite cannot make the files that reading needs.

    Raises StateError.
    """
    try:
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory, path.name)
            for original, duplicate in ((path, copy), (_log(path), _log(copy))):
                if original.exists():
                    shutil.copyfile(original, duplicate)
            return load(copy)
    except OSError as error:
        raise StateError(f"cannot be read: {error.strerror}") from error


def read_events(path: Path, service: str | None, limit: int) -> list[Event]:
    """The newest `limit` events (of one service), oldest first.

    Raises StateError.
    """
    query = "SELECT id, at, pid, uid, gid, action, service, before, after FROM event"
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


def _event(row: Row) -> Event:
    origin = Origin(row.pid, row.uid, row.gid, row.action)
    return Event(row.id, row.at, origin, row.service, row.before, row.after, row.damaged)


def _load(db: sqlite3.Connection) -> Loaded:
    """Raises ValueError where the content does not verify."""
    if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise ValueError("it is not a database of this daemon")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in _CLAIM_COLUMNS:
        raise ValueError(f"its schema version is {version}, this daemon knows {SCHEMA_VERSION}")
    damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise ValueError(str(damage))
    claims = list(_verified(db, f"SELECT {_CLAIM_COLUMNS[version]}, checksum FROM claim"))  # noqa: S608
    pages = list(_verified(db, "SELECT service, node_id, size_kb, count, checksum FROM hugepages"))
    checksum = 0
    for row in (*claims, *pages):
        checksum ^= _checksum(row)
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if meta.get("checksum") != str(checksum):
        raise ValueError("the checksum over its rows is wrong")
    counts: dict[str, dict[PageKind, int]] = {}
    for service, node_id, size_kb, count in cast("list[tuple[str, int, int, int]]", pages):
        counts.setdefault(service, {})[node_id, size_kb] = count
    nodes = {int(node): CpuSet.parse(cpus) for node, cpus in json.loads(meta.get("nodes", "{}")).items()}
    return Loaded(Ledger.of([_claim(row) for row in claims], counts), checksum, nodes, version)


def _verified(db: sqlite3.Connection, query: str) -> Iterator[tuple[object, ...]]:
    """The rows of a query whose last column is the checksum of the others, without it."""
    for *row, checksum in db.execute(query):
        if _checksum(tuple(row)) != checksum:
            raise ValueError("the checksum of a row is wrong")
        yield tuple(row)


def _claim(row: tuple[object, ...]) -> Claim:
    service, pool, cpus, explicit, policy, *rest = cast("tuple[str, PoolName, str, str, Policy, str]", row)
    if pool not in get_args(PoolName) or policy not in get_args(Policy):
        raise ValueError(f"the claim of service '{service}' names an unknown pool or policy")
    how: dict[str, Any] = json.loads(rest[0]) if rest and rest[0] else {}
    if not all(isinstance(part, kind) for part, kind in _placement_parts(how)):
        raise ValueError(f"the claim of service '{service}' says in another form how it was placed")
    return Claim(
        service,
        pool,
        CpuSet.parse(cpus),
        CpuSet.parse(explicit),
        policy,
        withheld=CpuSet.parse(how.get("withheld", "")),
        placed_by=parse_policy(how.get("policy", {})),
        wishes=parse_wishes(how.get("wishes", {})),
    )


def _claim_row(claim: Claim) -> tuple[object, ...]:
    return claim.service, claim.pool, str(claim.cpus), str(claim.explicit), claim.policy, _placement(claim)


def _placement_parts(how: object) -> Iterator[tuple[object, type]]:
    """What the record of a placement is made of, each with its type."""
    yield how, dict
    if isinstance(how, dict):
        document = cast("dict[str, object]", how)
        yield document.get("withheld", ""), str
        yield document.get("policy", {}), dict
        yield document.get("wishes", {}), dict


def _placement(claim: Claim) -> str:
    """How the claim was placed, as far as that is not the default, in JSON; "" when it is."""
    how: dict[str, object] = {"withheld": str(claim.withheld)} if claim.withheld else {}
    if policy := claim.placed_by.changed():
        how["policy"] = policy
    if claim.wishes != NO_WISHES:
        how["wishes"] = {name: wish for name, wish in claim.wishes._asdict().items() if wish is not None}
    return json.dumps(how) if how else ""


def _checksum(row: tuple[object, ...] | None) -> int:
    """55 bits over the values of a row, 0 for no row; the checksum of a set of rows is the XOR of theirs."""
    if row is None:
        return 0
    text = "\x1f".join(map(str, row)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") >> 1


def _claim_json(claim: Claim | None) -> str | None:
    if claim is None:
        return None
    # None of these texts holds anything that JSON escapes, and this is an eighth of what json.dumps takes.
    withheld = f',"withheld":"{claim.withheld}"' if claim.withheld else ""
    return (
        f'{{"pool":"{claim.pool}","cpus":"{claim.cpus}","explicit":"{claim.explicit}","policy":"{claim.policy}"'
        f"{withheld}}}"
    )


def _pages_json(kind: PageKind, count: int) -> str | None:
    return f'{{"node_id":{kind[0]},"size_kb":{kind[1]},"hugepages":{count}}}' if count else None


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
