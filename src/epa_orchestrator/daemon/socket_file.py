# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Socket file: makes, opens and removes the daemon's socket in a directory that other snaps may write.

Nothing in that directory is trusted; this module only renames and removes there. The socket is made in a private
directory of the same file system, gets its mode there, and is then renamed into place. So clients never see a socket
without a server, and a link that another snap put there is replaced, never followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Final

from epa_orchestrator import descriptors
from epa_orchestrator.errors import EpaError

#: Everybody may connect, because everybody may read. The credentials of a peer decide whether it may change claims.
SOCKET_MODE: Final = 0o666
BACKLOG: Final = 4096
#: The private directory, next to the socket's directory. Only the daemon's user may enter it.
PRIVATE_NAME: Final = ".socket"
#: The size of sun_path (unix(7)) without the terminating zero.
_MAX_PATH_BYTES: Final = 107
#: How many times an obstacle is moved aside: a hostile snap can put the next one there at once.
_ATTEMPTS: Final = 50
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: The extended attribute with the access control list (acl(5)), which can exclude users whatever the mode is.
_ACCESS_LIST: Final = "system.posix_acl_access"
#: Errors of open(2) and socket(2) that say nothing about the file: the process or the system has run out of something.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class ListenError(EpaError):
    """The daemon cannot listen at the socket file."""


class SocketFile:
    """The file through which clients reach a listening socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._private = path.parent.with_name(PRIVATE_NAME)

    def bind(self) -> socket.socket:
        """Listen at the path. A stale socket file is replaced.

        Raises ListenError when another process serves the path, or the socket cannot be made.
        """
        try:
            served = is_served(self.path)
        except OSError as error:
            raise self._cannot_be_made(error) from error
        if served:
            raise ListenError(f"Another process already serves {self.path}: stop it first, or use another SNAP_DATA")
        return self.put_back()

    def put_back(self) -> socket.socket:
        """Listen at the path with a new socket, which replaces whatever is there.

        Raises ListenError.
        """
        name = _random_name()
        made_at = self._private / name
        if max(len(os.fsencode(path)) for path in (self.path, made_at)) > _MAX_PATH_BYTES:
            raise ListenError(f"The socket's path is too long for the kernel ({_MAX_PATH_BYTES} bytes): {self.path}")
        try:
            with self._shared_directory() as shared, self._private_directory() as private:
                listener = _listener_at(made_at)
                try:
                    _move_into_place(private, name, shared, self.path.name)
                except BaseException:
                    listener.close()
                    raise
        except OSError as error:
            raise self._cannot_be_made(error) from error
        return listener

    def open(self) -> int | None:
        """Open the socket at the path (O_PATH). None when there is no socket that everybody may connect to.

        Raises OSError only when the process or the system has run out of something.
        """
        opened = _open_socket(self.path)
        if opened is None:
            return None
        fd, mode = opened
        if mode != SOCKET_MODE or _has_access_list(fd):
            os.close(fd)
            return None
        return fd

    def remove(self, proven: int) -> None:
        """Remove the file if it is still the file of `proven`, a descriptor from `open` that leads to this daemon.

        The file is first moved into the private directory, where nobody can replace it between check and removal. A
        file of somebody else is moved back. As long as the descriptor is open, its inode number is not used again.
        """
        name = _random_name()
        with (
            contextlib.suppress(OSError, ListenError),
            self._shared_directory() as shared,
            self._private_directory() as private,
        ):
            os.rename(self.path.name, name, src_dir_fd=shared, dst_dir_fd=private)
            if os.path.samestat(os.stat(name, dir_fd=private, follow_symlinks=False), os.fstat(proven)):
                os.unlink(name, dir_fd=private)
            else:
                os.rename(name, self.path.name, src_dir_fd=private, dst_dir_fd=shared)

    @contextlib.contextmanager
    def _shared_directory(self) -> Generator[int]:
        """Open the directory that other snaps may write, or make it. A link in its place is an error."""
        directory = self.path.parent
        try:
            try:
                fd = os.open(directory, _DIRECTORY)
            except FileNotFoundError:
                directory.mkdir(parents=True)
                fd = os.open(directory, _DIRECTORY)
        except (NotADirectoryError, FileExistsError):
            raise ListenError(
                f"The socket's directory {directory} is a link or not a directory: replace it by a directory"
            ) from None
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _private_directory(self) -> Generator[int]:
        """Open the private directory, or make it. Files that a killed daemon left in it are removed."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._private, 0o700)
        status = os.lstat(self._private)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ListenError(f"{self._private} is not a directory of the daemon's user: remove it")
        # Another mode comes from a strange umask. To change it is safe: only the daemon's user can write the parent.
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.chmod(self._private, 0o700)
        fd = os.open(self._private, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name in os.listdir(fd):
                _remove(name, fd)
            yield fd
        finally:
            os.close(fd)

    def _cannot_be_made(self, error: OSError) -> ListenError:
        return ListenError(f"The socket {self.path} cannot be made: {error.strerror}")


def is_served(path: Path) -> bool:
    """Whether a process listens at the path itself. Links are not followed.

    Raises OSError only when the process or the system has run out of something.
    """
    opened = _open_socket(path)
    if opened is None:
        return False
    fd, _ = opened
    try:
        connection = connect(fd)
    except BlockingIOError:  # the backlog is full, so a process listens
        return True
    finally:
        os.close(fd)
    if connection is not None:
        connection.close()
    return connection is not None


def connect(fd: int) -> socket.socket | None:
    """Connect to the socket file of an O_PATH descriptor without waiting. None when nobody listens there.

    Raises BlockingIOError when the backlog is full, and OSError when the process or the system has run
    out of something.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    descriptors.refuse(connection)
    try:
        # This connects to the open file, whatever its name leads to now.
        connection.connect(f"/proc/self/fd/{fd}")
    except OSError as error:
        connection.close()
        if isinstance(error, BlockingIOError) or error.errno in _EXHAUSTED:
            raise
        return None
    return connection


def _open_socket(path: Path) -> tuple[int, int] | None:
    """A descriptor of the socket file at the path itself, and its permission bits. None when there is no socket."""
    try:
        shared = os.open(path.parent, _DIRECTORY)
        try:
            fd = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=shared)
        finally:
            os.close(shared)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        return None
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return fd, stat.S_IMODE(mode)
    os.close(fd)
    return None


def _has_access_list(fd: int) -> bool:
    """Whether the file of an O_PATH descriptor has an access control list."""
    try:
        return _ACCESS_LIST in os.listxattr(f"/proc/self/fd/{fd}")
    except OSError:  # the file system has none
        return False


def _listener_at(path: Path) -> socket.socket:
    """A listening socket at a path in the private directory, with its final mode."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.bind(os.fspath(path))
        with contextlib.suppress(OSError):  # usually there is none: it comes only from the directory's default list
            os.removexattr(path, _ACCESS_LIST)
        os.chmod(path, SOCKET_MODE)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _move_into_place(private: int, name: str, shared: int, final: str) -> None:
    """Rename the socket to its final name. A directory in its place cannot be replaced, so it is moved aside."""
    for _ in range(_ATTEMPTS):
        try:
            os.rename(name, final, src_dir_fd=private, dst_dir_fd=shared)
            return
        except IsADirectoryError:
            _move_aside(shared, final)
    os.rename(name, final, src_dir_fd=private, dst_dir_fd=shared)


def _move_aside(shared: int, name: str) -> None:
    """Rename an obstacle to a random name, and remove it if it is an empty directory. Content is never deleted."""
    aside = f"{name}.{secrets.token_hex(8)}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(name, aside, src_dir_fd=shared, dst_dir_fd=shared)
        with contextlib.suppress(OSError):
            os.rmdir(aside, dir_fd=shared)


def _random_name() -> str:
    """A short name, as it counts towards the length of the socket's path."""
    return secrets.token_hex(2)


def _remove(name: str, directory: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)
