# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Unblocked: writes to a shared file descriptor and never waits for its reader.

`O_NONBLOCK` would apply to the whole open file description, which the terminal or the program that started us may
share, so it is not set there.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections.abc import Callable
from typing import Final

#: The number of bytes that a ready pipe takes in one write without waiting (pipe(7)).
_PIECE_BYTES: Final = select.PIPE_BUF


class UnblockedWriter:
    """Writes as much as is possible now. Bytes that can never be read count as written."""

    def __init__(self, fd: int) -> None:
        self._socket: socket.socket | None = None
        #: A file descriptor with an open file description of its own.
        self._own_fd: int | None = None
        self._write_piece = self._writer_to(fd)

    def write(self, data: bytes | bytearray) -> int:
        """Write in pieces that end with a line if possible. Returns the number of bytes written."""
        done = 0
        while done < len(data):
            piece = self._piece(data, done)
            try:
                written = self._write_piece(piece)
            except BlockingIOError:
                return done
            except OSError:  # the reader has gone, or the disk is full
                return len(data)
            done += written
            if written < len(piece):
                return done
        return done

    def close(self) -> None:
        """Close everything that this writer has opened. The file descriptor itself stays open."""
        self._write_piece = _drop
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._own_fd is not None:
            os.close(self._own_fd)
            self._own_fd = None

    @staticmethod
    def _piece(data: bytes | bytearray, start: int) -> bytes:
        end = start + _PIECE_BYTES
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1 or end
        return bytes(data[start:end])

    def _writer_to(self, fd: int) -> Callable[[bytes], int]:
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            return _drop
        if stat.S_ISREG(mode):
            return lambda piece: os.write(fd, piece)
        if stat.S_ISSOCK(mode):
            connected = self._socket = socket.socket(fileno=os.dup(fd))
            return lambda piece: connected.send(piece, socket.MSG_DONTWAIT)
        with contextlib.suppress(OSError):
            # A pipe or terminal that is opened again has an open file description of its own.
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            own_fd = self._own_fd = os.open(f"/proc/self/fd/{fd}", flags)
            return lambda piece: os.write(own_fd, piece)
        return _when_ready(fd)


def _when_ready(fd: int) -> Callable[[bytes], int]:
    """Write only when the descriptor is ready. Another process that writes in between can make this wait."""
    ready = select.poll()
    ready.register(fd, select.POLLOUT)

    def write(piece: bytes) -> int:
        if not ready.poll(0):
            raise BlockingIOError
        return os.write(fd, piece)

    return write


def _drop(piece: bytes) -> int:
    return len(piece)
