"""Exchange: one request and its whole answer over a Unix socket, within one deadline."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Final

#: How long (seconds) to wait before connecting again to a socket whose queue is full: at first, and at most.
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.1
_READ_SIZE: Final = 262_144


class TooLongError(Exception):
    """The answer is longer than the limit."""


class _Deadline:
    """A moment on the monotonic clock by which everything must be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

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
    """Connect; while the server's queue is full, which connect(2) answers with EAGAIN, try again."""
    pause = _FIRST_PAUSE
    while True:
        connection.settimeout(deadline.left())
        try:
            connection.connect(os.fspath(path))
        except BlockingIOError:
            time.sleep(min(pause, deadline.left()))
            pause = min(2 * pause, _LONGEST_PAUSE)
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
