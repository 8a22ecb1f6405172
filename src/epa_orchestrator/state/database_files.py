# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Database files: the names of a SQLite database's files, and whether others have replaced or written them.

Writes to a file that was moved, deleted or replaced succeed, but are lost; so are writes to a log that was emptied.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from epa_orchestrator.state.errors import StateError

FILE_NAME: Final = "state.db"

#: What SQLite puts next to a database: its log and the index of that, and the journal of the mode without a log.
LOG: Final = "-wal"
INDEX: Final = "-shm"
JOURNAL: Final = "-journal"

#: The file with the baselines of claims' noise, which the daemon keeps next to the database, and what it writes first.
NOISE: Final = "noise.json"
NOISE_PART: Final = "noise.json.part"

#: Two changes within a tick of the kernel's clock may leave a directory the same time of change (this in ns).
_SETTLED: Final = 50_000_000

Identity = tuple[int, int] | None


class Files:
    """The identities (device and inode) that the database, its log and the index of that have now."""

    def __init__(self, path: Path) -> None:
        # SQLite follows links to the database, and keeps its log next to the real file.
        real = os.path.realpath(path)
        self._names = real, real + LOG, real + INDEX, *({os.fspath(path)} - {real})
        self._opened = self._identities()
        self._directory = os.path.dirname(real)
        self._unchanged: tuple[int, int, int] | None = None

    def in_place(self) -> bool:
        """Whether the names still lead to the same files.

        Names change only when their directory does, so usually one look at the directory is enough: 2 µs instead of 8
        for each commit. That does not work where the database's name is a link into another directory. The time of
        change (ctime) counts, because a program that unpacks a backup sets back the time of modification.
        """
        try:
            status = os.stat(self._directory)
        except OSError:
            return False
        directory = status.st_dev, status.st_ino, status.st_ctime_ns
        if directory == self._unchanged:
            return True
        if self._identities() != self._opened:
            return False
        has_settled = time.time_ns() - status.st_ctime_ns > _SETTLED
        if len(self._names) == 3 and has_settled:
            self._unchanged = directory
        return True

    def _identities(self) -> tuple[Identity, ...]:
        return tuple([_identity(name) for name in self._names])


class Content:
    """How an open database and its log were last known: the database by size and modification time, the log by size.

    SQLite writes the database in a checkpoint only, and its log in commits too. `database` is a descriptor of the
    database, which stays the caller's. Raises OSError where there is no log.
    """

    def __init__(self, path: Path, database: int) -> None:
        self._database = database
        self._log = os.open(os.path.realpath(path) + LOG, os.O_RDONLY | os.O_CLOEXEC)
        self.remember()

    def remember(self) -> None:
        """Remember how the database and its log are now."""
        status = os.fstat(self._database)
        self._size, self._modified = status.st_size, status.st_mtime_ns
        self.remember_log()

    def remember_log(self) -> bool:
        """Remember how the log is now, after a commit. Returns whether the database is as remembered."""
        self._log_size = os.lseek(self._log, 0, os.SEEK_END)
        status = os.fstat(self._database)
        return status.st_mtime_ns == self._modified and status.st_size == self._size

    def is_unchanged(self) -> bool:
        """Whether both are as remembered: a quick sign (2 µs) that no other process has written them."""
        status = os.fstat(self._database)
        return (
            status.st_mtime_ns == self._modified
            and status.st_size == self._size
            and os.lseek(self._log, 0, os.SEEK_END) == self._log_size
        )

    def close(self) -> None:
        """Close the log's descriptor."""
        os.close(self._log)


def with_suffix(path: Path, suffix: str) -> Path:
    """The file with this suffix that belongs to a database."""
    return path.with_name(path.name + suffix)


def exists(path: Path) -> bool:
    """Whether there is a database, or at least a trace of one that must not be overwritten."""
    return any(os.path.lexists(file) for file in (path, with_suffix(path, LOG), with_suffix(path, JOURNAL)))


def real_path(path: Path) -> Path:
    """The file that the path leads to: SQLite keeps its log and journal next to that, not next to a link."""
    return Path(os.path.realpath(path))


def check_regular(path: Path) -> None:
    """Check that none of a database's files is a FIFO or device, whose reader might wait or read without end.

    Raises StateError.
    """
    for file in (path, *(with_suffix(real_path(path), suffix) for suffix in (LOG, INDEX, JOURNAL))):
        if os.path.exists(file) and not os.path.isfile(file):
            raise StateError(f"cannot be read: {file.name} is not a regular file")


def read_only_uri(path: Path) -> str:
    """The URI by which SQLite opens a database for reading only."""
    return f"{path.absolute().as_uri()}?mode=ro"


def _identity(name: str) -> Identity:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino
