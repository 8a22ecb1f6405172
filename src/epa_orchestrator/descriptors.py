"""Descriptors: file descriptors that a client passes to us (SCM_RIGHTS, unix(7)), which nobody here wants.

Whoever takes such a message out of a socket, or closes the socket with the message still in it, may be the last one to
close the file, and that can take as long as the client likes: SO_LINGER makes closing a TCP socket wait. So connections
refuse descriptors where the kernel can (6.16), and elsewhere a message is looked at before it is taken, and a socket
with descriptors in it is closed in a thread of its own.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

#: Not in Python's socket module; asm-generic/socket.h. An accepted connection inherits it from its listener.
_SO_PASSRIGHTS: Final = 83
#: What else a socket may hand out with its bytes: credentials, a security label, a pidfd. systemd sets the first two
#: for a unit that says so. The last two numbers are not in Python's socket module; asm-generic/socket.h.
_EXTRAS: Final = (socket.SO_PASSCRED, 34, 76)
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
#: Where bytes go that nobody wants; larger than what a socket holds (net.core.wmem_default).
_DISCARDED: Final = bytearray(262_144)
#: How long (seconds) closing one socket may take before a signal ends the wait.
_PATIENCE: Final = 0.005


class PassedError(Exception):
    """The next message has file descriptors with it; it is still in the socket."""


def refuse(connection: socket.socket) -> None:
    """Let nobody pass descriptors to this socket, or to those that it accepts, where the kernel knows how."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def take(connection: socket.socket, most: int) -> bytes:
    """What has arrived, as recv(2).

    Raises OSError as that does, PassedError.
    """
    seen, _, flags, _ = connection.recvmsg(most, 0, _PEEK)
    if flags & socket.MSG_CTRUNC:
        _check_for_descriptors(connection)
    return connection.recv(len(seen)) if seen else b""


def discard(connection: socket.socket) -> int:
    """Take everything that has arrived; how many bytes that were, 0 at the end.

    Raises OSError as recv(2) does, PassedError.
    """
    seen, _, flags, _ = connection.recvmsg_into([_DISCARDED], 0, _PEEK)
    if flags & socket.MSG_CTRUNC:
        _check_for_descriptors(connection)
    return connection.recv_into(_DISCARDED, seen) if seen else 0


def _check_for_descriptors(connection: socket.socket) -> None:
    """Check what the next message has with it, which a peek found; every message has more when the socket asks for it.

    A connection has that from its listener, and keeps it when the listener's options change later.

    Raises OSError, PassedError.
    """
    for extra in _EXTRAS:
        with contextlib.suppress(OSError):  # unknown to this kernel
            connection.setsockopt(socket.SOL_SOCKET, extra, 0)
    _, _, flags, _ = connection.recvmsg(1, 0, _PEEK)
    if flags & socket.MSG_CTRUNC:
        raise PassedError


class SlowCloser:
    """Closes sockets in a thread of its own, which starts with the first one. Use it in the event loop's thread.

    `call_later` is the event loop's.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._sockets: SimpleQueue[socket.socket] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._given = 0
        self._closed = 0
        self._watching = False

    @property
    def left(self) -> int:
        """How many sockets are not closed yet."""
        return self._given - self._closed

    def close(self, connection: socket.socket) -> None:
        """Close a socket soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="slow closer", daemon=True)
            self._thread.start()
            with contextlib.suppress(ValueError):  # not the main thread, as in some tests: then closing takes its time
                # The handler has nothing to do: that a signal arrives ends the wait of a close(2).
                signal.signal(signal.SIGURG, _do_nothing)
        if self.left:
            self._hurry()
        self._given += 1
        self._sockets.put(connection)
        self._watch()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._call_later(_PATIENCE, self._look)

    def _look(self) -> None:
        self._watching = False
        if self.left:
            self._hurry()
            self._watch()

    def _hurry(self) -> None:
        if self._thread is not None and self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, signal.SIGURG)

    def _run(self) -> None:
        while True:
            self._sockets.get().close()
            self._closed += 1


def end(connected: socket.socket, slow_closer: SlowCloser) -> None:
    """Close a socket so that its other end reads what was sent, and then the end of the stream.

    Without the shutdown, and taking what came late, the kernel would report a reset to a client that has sent more than
    we read.
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
    """Handle a signal that only has to arrive."""
