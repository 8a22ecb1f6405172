# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""One exchange over a Unix socket: a request and its whole answer within one deadline, or the lines that follow it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from pathlib import Path
from typing import Final

from epa_orchestrator import descriptors

#: struct timeval, which SO_SNDTIMEO takes (socket(7)).
_TIMEVAL: Final = struct.Struct("@ll")
_READ_SIZE: Final = 262_144
#: The longest timeout (seconds): Python's sockets accept at most 9e9.
_LONGEST_TIMEOUT: Final = 1e9


class TooLongError(Exception):
    """The answer is longer than the limit."""


class _Deadline:
    """The moment on the monotonic clock at which an exchange has taken too long."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + min(_LONGEST_TIMEOUT, seconds)

    def left(self) -> float:
        """The seconds that remain, always more than 0.

        Raises TimeoutError when none remain.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def exchange(path: Path, request: bytes, timeout: float, limit: int) -> bytes:
    """Connect, send the request, and read until the server closes, all within `timeout` seconds.

    Raises OSError when that fails (TimeoutError when it takes too long), and TooLongError for an answer of more than
    `limit` bytes.
    """
    deadline = _Deadline(timeout)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        descriptors.refuse(connection)
        _connect(connection, path, deadline)
        try:
            connection.settimeout(deadline.left())
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError) as error:
            # The server has closed before it read the whole request, as when it refuses one. Its answer may be here.
            answer = _read_to_end(connection, deadline, limit)
            if not answer:
                raise error from None
            return answer
        return _read_to_end(connection, deadline, limit)


class Lines:
    """The lines that a server sends on one connection, until it closes."""

    def __init__(self, path: Path, request: bytes, timeout: float, limit: int) -> None:
        """Connect and send the request. The first line is due `timeout` seconds from now.

        Raises OSError when that fails.
        """
        self._timeout = timeout
        self._limit = limit
        self._received: bytearray = bytearray()
        #: How much of it has been searched for the end of a line.
        self._searched = 0
        self._deadline: _Deadline | None = _Deadline(timeout)
        self._is_first = True
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            descriptors.refuse(self._connection)
            _connect(self._connection, path, self._deadline)
            self._connection.settimeout(self._deadline.left())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer may be here all the same
                self._connection.sendall(request)
        except BaseException:
            self.close()
            raise

    def read(self) -> bytes | None:
        """The next line without its end; None at the end of the stream, where a line that was cut off is dropped.

        A first line needs no end. Waits for a line to begin, and then `timeout` seconds for the rest of it.

        Raises OSError (TimeoutError when a line takes too long), and TooLongError for one of more than `limit` bytes.
        """
        while (end := self._received.find(b"\n", self._searched)) < 0:
            self._searched = len(self._received)
            if self._searched > self._limit:
                raise TooLongError
            if self._received and self._deadline is None:
                self._deadline = _Deadline(self._timeout)
            part = self._receive()
            if not part:
                rest = bytes(self._received)
                self._received.clear()
                return rest if rest and self._is_first else None
            self._received += part
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        self._searched, self._deadline, self._is_first = 0, None, False
        return line

    def has_more(self, seconds: float) -> bool:
        """Whether a line, a part of one, or the end of the stream comes within some seconds."""
        return bool(self._received) or bool(select.select([self._connection], [], [], seconds)[0])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _receive(self) -> bytes:
        self._connection.settimeout(None if self._deadline is None else self._deadline.left())
        try:
            return self._connection.recv(_READ_SIZE)
        except ConnectionResetError:
            return b""


def _connect(connection: socket.socket, path: Path, deadline: _Deadline) -> None:
    """Connect; while the server's queue is full, wait in connect(2), which the kernel serves first come, first served.

    A Python socket with a timeout would not wait there: connect(2) fails at once, and clients that retry more often
    would take every free place.
    """
    connection.setblocking(True)
    while True:
        left = deadline.left()
        seconds, micros = divmod(max(int(left * 1_000_000), 1), 1_000_000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(seconds, micros))
        try:
            connection.connect(os.fspath(path))
            connection.getpeername()  # a signal can make Python return from connect() too early: ENOTCONN then
        except BlockingIOError:  # SO_SNDTIMEO has ended the wait
            continue
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        else:
            return


def _read_to_end(connection: socket.socket, deadline: _Deadline, limit: int) -> bytes:
    """The bytes until the server closes; a reset after some of them counts as the end too."""
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
