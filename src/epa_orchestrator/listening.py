"""Listening: the socket file, in a directory that other snaps may write.

Nothing in that directory is trusted: the file is made under another name and renamed into place, so that clients never
see one that nobody serves, and it is put back when something removes or replaces it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Final

from epa_orchestrator.errors import EpaError

#: Everybody may connect, because everybody may read; who may change claims is decided by the peer's credentials.
SOCKET_MODE: Final = 0o666
BACKLOG: Final = 4096
#: sun_path in unix(7), without its terminating zero.
_MAX_PATH_BYTES: Final = 107
_CONNECT_TIMEOUT: Final = 1.0
_UCRED_BYTES: Final = 12
#: Somebody listens, but who cannot be told.
_TOO_BUSY: Final = b""


class ListenError(EpaError):
    """The socket cannot be served."""


class SocketFile:
    """A listening socket and the file that leads to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._made = False

    def bind(self) -> socket.socket:
        """Listen at the path, in place of a stale socket file.

        Raises ListenError when another process serves it, or it cannot be made.
        """
        if len(os.fsencode(self.path)) + len(".new") > _MAX_PATH_BYTES:
            raise ListenError(f"The socket's path is too long for the kernel ({_MAX_PATH_BYTES} bytes): {self.path}")
        if is_served(self.path):
            raise ListenError(f"Another process already serves {self.path}: stop it first, or use another SNAP_DATA")
        return self.put_back()

    def put_back(self) -> socket.socket:
        """Listen at the path with a new socket, in place of whatever is there.

        Raises ListenError.
        """
        new = self.path.with_name(self.path.name + ".new")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            listener.bind(os.fspath(new))
            os.chmod(new, SOCKET_MODE)
            listener.listen(BACKLOG)
            status = os.stat(new)
            os.rename(new, self.path)
        except OSError as error:
            listener.close()
            raise ListenError(f"The socket {self.path} cannot be made: {error.strerror}") from error
        self._identity = status.st_dev, status.st_ino
        self._made = True
        return listener

    def adopt(self, listener: socket.socket) -> bool:
        """Take the file that is there as the one of a socket that was handed over, if it leads to that.

        It may not: the file of systemd's socket stays away when somebody has removed it.
        """
        if not _leads_to(self.path, listener):
            return False
        self._identity = self._current()
        return True

    def is_in_place(self) -> bool:
        """Whether the path still leads to our socket."""
        return self._current() == self._identity

    def remove(self) -> None:
        """Remove the file if we have made it and it has not become somebody else's."""
        if self._made and self.is_in_place():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _current(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def is_served(path: Path) -> bool:
    """Whether some process accepts connections at the path."""
    return _server_at(path) is not None


def _leads_to(path: Path, listener: socket.socket) -> bool:
    """Whether the process that listens at the path is the one that made the listener listen.

    That is as far as can be told: the kernel shows both ends who called listen(2) (`SO_PEERCRED`, unix(7)).
    """
    return _server_at(path) in (_TOO_BUSY, _listening_process(listener))


def _server_at(path: Path) -> bytes | None:
    """The credentials of the process that listens at the path, None when none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            # A full backlog (EAGAIN, or a time-out here) means that somebody listens.
            return _TOO_BUSY if isinstance(error, TimeoutError) or error.errno == errno.EAGAIN else None
        return _listening_process(probe)


def _listening_process(end: socket.socket) -> bytes:
    return end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED_BYTES)
