"""Lock: one daemon for each state directory, and how another process finds it.

A record lock of fcntl(2), because the kernel tells who holds it, without a file that could name somebody else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Final

from epa_orchestrator.errors import EpaError

_FILE_NAME: Final = "lock"
#: struct flock of fcntl(2): type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("hhqqi4x")


class Locked(EpaError):
    """Another daemon uses the state directory."""


@contextlib.contextmanager
def sole_daemon(directory: Path) -> Generator[str | None]:
    """Hold the lock of the state directory, so that no second daemon writes the same state.

    Yields None, or why the directory cannot be written. Raises Locked.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(directory / _FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        yield f"cannot be created: {error.strerror}"
        return
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Locked(f"Another daemon already uses the state in {directory}: stop it first") from None
        yield None
    finally:
        os.close(fd)


def daemon_pid(directory: Path) -> int | None:
    """The process id of the daemon that holds the directory's lock, None when there is none."""
    try:
        fd = os.open(directory / _FILE_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else pid
    finally:
        os.close(fd)
