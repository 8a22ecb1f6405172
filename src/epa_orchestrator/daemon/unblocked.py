"""Unblocked: writes to a shared file descriptor without ever waiting for its reader.

`O_NONBLOCK` belongs to the open file description, which the terminal or the starting program may share, so it is never
set there.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections.abc import Callable
from typing import Final

#: How many bytes a pipe that is ready takes in one write without waiting (pipe(7)).
_PIECE_BYTES: Final = select.PIPE_BUF


class UnblockedWriter:
    """Writes as much as is possible at once; bytes that nobody can ever read count as written."""

    def __init__(self, fd: int) -> None:
        self._socket: socket.socket | None = None
        #: A file descriptor with its own description.
        self._own: int | None = None
        self._write_piece = self._writer_to(fd)

    def write(self, data: bytes | bytearray) -> int:
        """Write in pieces that end with a line where possible; how many bytes have been written."""
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
        """Close what this writer has opened; the file descriptor itself stays open."""
        self._write_piece = _nowhere
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._own is not None:
            os.close(self._own)
            self._own = None

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
            return _nowhere
        if stat.S_ISREG(mode):
            return lambda piece: os.write(fd, piece)
        if stat.S_ISSOCK(mode):
            connected = self._socket = socket.socket(fileno=os.dup(fd))
            return lambda piece: connected.send(piece, socket.MSG_DONTWAIT)
        with contextlib.suppress(OSError):
            # A pipe or a terminal, opened once more, has a file description of its own.
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            own = self._own = os.open(f"/proc/self/fd/{fd}", flags)
            return lambda piece: os.write(own, piece)
        return _when_ready(fd)


def _when_ready(fd: int) -> Callable[[bytes], int]:
    """Ask whether the descriptor is ready before each write; a write of another process in between can make it wait."""
    ready = select.poll()
    ready.register(fd, select.POLLOUT)

    def write(piece: bytes) -> int:
        if not ready.poll(0):
            raise BlockingIOError
        return os.write(fd, piece)

    return write


def _nowhere(piece: bytes) -> int:
    return len(piece)
