# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Lock: lets one daemon use a state directory, and lets other processes find that daemon.

It is a record lock of fcntl(2): the kernel names its holder, where a file could name a wrong process. The lock is lost
when its file is removed; then the lock on the database itself still stops a second daemon (see `opening`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Final

from epa_orchestrator.errors import EpaError

_FILE_NAME: Final = "lock"
#: struct flock of fcntl(2): type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("hhqqi4x")


class Locked(EpaError):
    """Another daemon uses the state directory, or the daemon that uses it cannot be signalled."""

    @classmethod
    def by_daemon(cls, directory: Path) -> Locked:
        """The error of a second daemon."""
        return cls(f"Another daemon already uses the state in {directory}: stop it first")


@contextlib.contextmanager
def sole_daemon(directory: Path) -> Generator[str | None]:
    """Hold the lock of the state directory, so that no second daemon writes the same state.

    Yields None, or the reason why there is no lock; without a lock nothing may be written. Raises Locked.
    """
    try:
        make_private(directory)
    except OSError as error:
        yield f"cannot be created: {error.strerror}"
        return
    try:
        fd = _open(directory)
    except OSError as error:
        yield f"cannot be locked: {directory / _FILE_NAME}: {error.strerror}"
        return
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked.by_daemon(directory) from None
        except OSError as error:
            yield f"cannot be locked: {directory / _FILE_NAME}: {error.strerror}"
            return
        yield None
    finally:
        os.close(fd)


def make_private(directory: Path) -> None:
    """Make the directory, for this user only, and its parents; an existing directory stays as it is.

    Raises OSError.
    """
    try:
        _make_private(directory)
    except FileNotFoundError:
        directory.parent.mkdir(parents=True, exist_ok=True)
        _make_private(directory)  # no third try: in /proc, for example, the directory cannot be made


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise
    else:
        directory.chmod(0o700)  # regardless of the umask


def daemon_pid(directory: Path) -> int | None:
    """The process id of the daemon that holds the directory's lock, None when there is none.

    Raises OSError, and Locked when the daemon runs in another PID namespace, where no process id leads to it.
    """
    try:
        fd = os.open(directory / _FILE_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        whole_file = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, whole_file))
    finally:
        os.close(fd)
    if kind == fcntl.F_UNLCK:
        return None
    if pid <= 0:  # fcntl(2): the holder is in another PID namespace; kill(2) would take 0 for our process group
        raise Locked(f"The daemon that uses the state in {directory} runs in another PID namespace: restart it there")
    return pid


def _open(directory: Path) -> int:
    """Open the lock's file; it is made if it is missing. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(directory / _FILE_NAME, flags, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "it is not a regular file")
    return fd
