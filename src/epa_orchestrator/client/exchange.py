"""Exchange: one request and its whole answer over a Unix socket, within one deadline."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from pathlib import Path
from typing import Final

from epa_orchestrator import descriptors

#: struct timeval of socket(7)'s time-outs.
_TIMEVAL: Final = struct.Struct("@ll")
_READ_SIZE: Final = 262_144
#: The longest time-out (seconds): Python's sockets take no more than 9e9.
_LONGEST: Final = 1e9


class TooLongError(Exception):
    """The answer is longer than the limit."""


class _Deadline:
    """A moment on the monotonic clock by which everything must be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + min(_LONGEST, seconds)

    def left(self) -> float:
        """The seconds that are left, more than 0.

        Raises TimeoutError when there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def exchange(path: Path, request: bytes, timeout: float, limit: int) -> bytes:
    """Connect, send the request, and read until the server closes, all within `timeout` seconds.

    Raises OSError when that fails, TimeoutError (which is one) when it takes too long, TooLongError for an answer of
    more than `limit` bytes.
    """
    deadline = _Deadline(timeout)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        descriptors.refuse(connection)
        _connect(connection, path, deadline)
        try:
            connection.settimeout(deadline.left())
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server that answers before it has read everything, such as a refusal, has closed; its answer is here.
            answer = _read_to_end(connection, deadline, limit)
            if not answer:
                raise error from None
            return answer
        return _read_to_end(connection, deadline, limit)


def _connect(connection: socket.socket, path: Path, deadline: _Deadline) -> None:
    """Connect; while the server's queue is full, wait among the others who want a place there.

    The kernel lets those in who wait in connect(2), first come first served. Who only tries again now and then, as a
    socket with a time-out of Python's does, is outrun by those who try all the time.
    """
    connection.setblocking(True)
    while True:
        left = deadline.left()
        seconds, micros = divmod(max(int(left * 1_000_000), 1), 1_000_000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(seconds, micros))
        try:
            connection.connect(os.fspath(path))
            connection.getpeername()  # after a signal, Python takes a socket that still waited for connected
        except BlockingIOError:  # the time is over, or nearly
            continue
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        else:
            return


def _read_to_end(connection: socket.socket, deadline: _Deadline, limit: int) -> bytes:
    """Everything until the server closes; a reset after the answer is an end too."""
    answer = bytearray()
    while True:
        connection.settimeout(deadline.left())
        try:
            part = connection.recv(_READ_SIZE)
        except ConnectionResetError:
            if not answer:
                raise
            part = b""
        if not part:
            return bytes(answer)
        answer += part
        if len(answer) > limit:
            raise TooLongError
