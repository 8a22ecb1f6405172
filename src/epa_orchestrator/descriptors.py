# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Descriptors: keeps away the file descriptors that the other end of a socket passes (SCM_RIGHTS, unix(7)).

Receiving such a message, or closing a socket that still holds one, may close the passed file for the last time, and
that can take as long as the sender likes: SO_LINGER makes close(2) of a TCP socket wait. So connections refuse
descriptors where the kernel can (Linux 6.16). With older kernels this module peeks at a message before it receives it,
and closes a socket that holds descriptors in a separate thread.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

#: From asm-generic/socket.h, as Python's socket module lacks it. A connection inherits the option from its listener.
_SO_PASSRIGHTS: Final = 83
#: Options that add other data to each message: SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD (asm-generic/socket.h). A systemd
#: socket unit can set the first two.
_OTHER_DATA: Final = (socket.SO_PASSCRED, 34, 76)
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
#: A buffer for discarded bytes, larger than the content of a socket (net.core.wmem_default).
_DISCARDED: Final = bytearray(262_144)
#: Closing one socket may take this long (seconds) before a signal interrupts close(2).
_CLOSE_TIMEOUT: Final = 0.005


class PassedError(Exception):
    """The next message carries file descriptors; it is still in the socket."""


def refuse(connection: socket.socket) -> None:
    """Make the kernel refuse descriptors for this socket and the sockets that it accepts, if the kernel can."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def take(connection: socket.socket, most: int) -> bytes:
    """Receive at most `most` bytes, as recv(2).

    Raises OSError as recv(2) does, PassedError.
    """
    seen, _, flags, _ = connection.recvmsg(most, 0, _PEEK)
    if flags & socket.MSG_CTRUNC:
        _check_for_descriptors(connection)
    return connection.recv(len(seen)) if seen else b""


def discard(connection: socket.socket) -> int:
    """Drop the bytes that have arrived; returns their number, 0 at the end of the stream.

    Raises OSError as recv(2) does, PassedError.
    """
    seen, _, flags, _ = connection.recvmsg_into([_DISCARDED], 0, _PEEK)
    if flags & socket.MSG_CTRUNC:
        _check_for_descriptors(connection)
    return connection.recv_into(_DISCARDED, seen) if seen else 0


def _check_for_descriptors(connection: socket.socket) -> None:
    """Check whether the extra data of the next message is descriptors, or only data that a socket option adds.

    A connection inherits such options from its listener, so they are switched off before a second peek.

    Raises OSError, PassedError.
    """
    for option in _OTHER_DATA:
        with contextlib.suppress(OSError):  # this kernel has no such option
            connection.setsockopt(socket.SOL_SOCKET, option, 0)
    _, _, flags, _ = connection.recvmsg(1, 0, _PEEK)
    if flags & socket.MSG_CTRUNC:
        raise PassedError


class SlowCloser:
    """Closes sockets in a separate thread, which starts with the first socket.

    Call it in the event loop's thread; `call_later` is the loop's.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._sockets: SimpleQueue[socket.socket] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._submitted = 0
        self._closed = 0
        self._watching = False

    @property
    def left(self) -> int:
        """The number of sockets that are not closed yet."""
        return self._submitted - self._closed

    def close(self, connection: socket.socket) -> None:
        """Close a socket soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="slow closer", daemon=True)
            self._thread.start()
            # A signal interrupts close(2) only if it has a handler, even one that does nothing. Only the main thread
            # may set one: in other threads, as in some tests, nothing interrupts close(2).
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGURG, _do_nothing)
        if self.left:
            self._interrupt_close()
        self._submitted += 1
        self._sockets.put(connection)
        self._watch()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._call_later(_CLOSE_TIMEOUT, self._check_progress)

    def _check_progress(self) -> None:
        self._watching = False
        if self.left:
            self._interrupt_close()
            self._watch()

    def _interrupt_close(self) -> None:
        if self._thread is not None and self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, signal.SIGURG)

    def _run(self) -> None:
        while True:
            self._sockets.get().close()
            self._closed += 1


def end(connected: socket.socket, slow_closer: SlowCloser) -> None:
    """Close a socket so that the other end can read everything that was sent, and then the end of the stream.

    Bytes that arrived late are dropped first: the kernel reports a reset to a client whose bytes stay unread.
    """
    try:
        connected.shutdown(socket.SHUT_RDWR)
        discard(connected)
    except PassedError:
        slow_closer.close(connected)
        return
    except OSError:
        pass
    connected.close()


def _do_nothing(_number: int, _frame: object) -> None:
    """Handle SIGURG, whose arrival is enough."""
