"""Database files: the names of a SQLite database's files, and whether others have replaced or written them.

Writes to a file that was moved, deleted or replaced succeed, but are lost; so are writes to a log that was emptied.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

#: What SQLite puts next to a database: its log and the index of that, and the journal of the mode without a log.
LOG: Final = "-wal"
INDEX: Final = "-shm"
JOURNAL: Final = "-journal"

#: Two changes within a tick of the kernel's clock may leave a directory the same time of change (this in ns).
_SETTLED: Final = 50_000_000

Identity = tuple[int, int] | None


class Files:
    """A database, its log and the index of that, as they are now."""

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
        seen = status.st_dev, status.st_ino, status.st_ctime_ns
        if seen == self._unchanged:
            return True
        if self._identities() != self._opened:
            return False
        if len(self._names) == 3 and time.time_ns() - status.st_ctime_ns > _SETTLED:
            self._unchanged = seen
        return True

    def _identities(self) -> tuple[Identity, ...]:
        return tuple([_identity(name) for name in self._names])


class Content:
    """What an open database and its log hold: the database by size and time of modification, the log by size.

    SQLite writes the database in a checkpoint only, and its log in commits too. `database` is a descriptor of the
    database, which stays the caller's. Raises OSError where there is no log.
    """

    def __init__(self, path: Path, database: int) -> None:
        self._database = database
        self._log = os.open(os.path.realpath(path) + LOG, os.O_RDONLY | os.O_CLOEXEC)
        self.note()

    def note(self) -> None:
        """Take the present content for one's own."""
        status = os.fstat(self._database)
        self._size, self._modified = status.st_size, status.st_mtime_ns
        self.note_log()

    def note_log(self) -> bool:
        """Take the present log for one's own, after a commit; whether nobody has written the database itself."""
        self._log_size = os.lseek(self._log, 0, os.SEEK_END)
        status = os.fstat(self._database)
        return status.st_mtime_ns == self._modified and status.st_size == self._size

    def is_noted(self) -> bool:
        """Whether nobody else has written since, as far as this can be seen in 2 µs."""
        status = os.fstat(self._database)
        return (
            status.st_mtime_ns == self._modified
            and status.st_size == self._size
            and os.lseek(self._log, 0, os.SEEK_END) == self._log_size
        )

    def close(self) -> None:
        """Close what was opened here."""
        os.close(self._log)


def with_suffix(path: Path, suffix: str) -> Path:
    """The file with this suffix that belongs to a database."""
    return path.with_name(path.name + suffix)


def _identity(name: str) -> Identity:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino
