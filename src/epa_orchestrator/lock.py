"""Lock: one daemon for each state directory, and how another process finds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

from epa_orchestrator.errors import EpaError

_FILE_NAME: Final = "lock"


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
        if not _lock(fd):
            raise Locked(f"Another daemon already uses the state in {directory}: stop it first")
        _write_pid(fd)
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
        if _lock(fd):
            return None
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write_pid(fd: int) -> None:
    """Say who holds the lock; on a full disk nobody is told, which only costs a reload without a restart."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
