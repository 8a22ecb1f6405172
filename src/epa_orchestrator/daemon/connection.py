"""Connection: one client of the socket, from its first byte to the end of its answer; one request each.

Sockets are handled directly on the event loop's readiness callbacks. No client can hold up another one: nothing here
waits, every phase has a deadline, and no callback does more than one read or write. The connections of users who may
only read share a small part of each turn, so that the backlog, where root may wait, is emptied first.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from epa_orchestrator import descriptors
from epa_orchestrator.daemon import peer_log
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.peers import Standing, may_change
from epa_orchestrator.daemon.quotas import Quotas
from epa_orchestrator.descriptors import PassedError, SlowCloser, end
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.framing import IncomingRequest
from epa_orchestrator.protocol.requests import ProtocolError, Reading, Request

_RECV_BYTES: Final = 4096
#: After this time (seconds) without a byte a connection may have to make room for another one.
IDLE_SECONDS: Final = 1.0
#: The part of a turn (seconds) that the connections of users who may only read share.
_DEFERRED_SECONDS: Final = 0.001
#: Takes the bytes that are discarded; larger than what a socket holds (net.core.wmem_default).
_DISCARDED: Final = bytearray(262_144)
_INT: Final = struct.Struct("i")


@dataclass(frozen=True)
class Limits:
    """The number of connections, and times in seconds: to receive a request, to wait for a reader, to discard input."""

    connections: int = 2048
    read_timeout: float = 5.0
    write_timeout: float = 10.0
    linger_timeout: float = 5.0
    stop_grace: float = 1.0
    commit_grace: float = 30.0


class Shared:
    """The state that all connections share, and the connections themselves."""

    def __init__(self, orchestrator: Orchestrator, limits: Limits) -> None:
        self.orchestrator = orchestrator
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.quotas: Quotas[Connection] = Quotas(limits.connections)
        self.connections: dict[Connection, None] = {}
        self.slow_closer = SlowCloser(self.loop.call_later)
        self.waiting_changes = dict.fromkeys(Standing, 0)
        self._deferred: deque[Connection] = deque()
        self._scheduled = False

    def queue(self, connection: Connection) -> None:
        """Let a connection proceed after those that were queued before it."""
        self._deferred.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._run_deferred)

    def _run_deferred(self) -> None:
        turn_ends = monotonic() + _DEFERRED_SECONDS
        try:
            while self._deferred and monotonic() < turn_ends:
                self._deferred.popleft().proceed()
        finally:
            self._scheduled = bool(self._deferred)
            if self._scheduled:
                self.loop.call_soon(self._run_deferred)


class _Phase(enum.Enum):
    READING = enum.auto()
    WAITING = enum.auto()
    WRITING = enum.auto()
    LINGERING = enum.auto()
    CLOSED = enum.auto()


class Connection:
    """One client: READING a request, WAITING for the commit, WRITING the rest of the answer, LINGERING after an error.

    Lingering means to discard what a refused client still sends, because its writes would fail if the socket were
    closed at once, before it has read why.
    """

    _phase = _Phase.READING
    #: The unsent rest of the answer, and how many bytes the client had not read at the last look.
    _answer = memoryview(b"")
    _unread = 0
    #: Whether this connection counts as a waiting change.
    _is_waiting_change = False
    _queued = False
    _watched = False
    _writing = False

    def __init__(self, shared: Shared, accepted: socket.socket, peer: Peer, standing: Standing) -> None:
        now = shared.loop.time()
        self._shared = shared
        self._socket = accepted
        self._fd = accepted.fileno()
        self._peer = peer
        self._standing = standing
        self._request = IncomingRequest()
        self._deadline = now + shared.limits.read_timeout
        #: When a byte was last received or read by the client.
        self._moved = now
        shared.connections[self] = None
        shared.quotas.add(self, standing, peer.uid)

    def ready(self) -> None:
        """Proceed, at once or after the others in the queue."""
        if self._standing is not Standing.OTHER:
            self.proceed()
        elif not self._queued:
            self._queued = True
            self._shared.queue(self)

    def proceed(self) -> None:
        """Read or write once."""
        self._queued = False
        if self._phase is _Phase.READING:
            self._read()
        elif self._phase is _Phase.WRITING:
            self._write_on()
        elif self._phase is _Phase.LINGERING:
            self._discard()

    def _read(self) -> None:
        """Take what has arrived, and serve the request when it is whole."""
        try:
            piece = self._receive()
        except (BlockingIOError, InterruptedError):
            self._watch()
            return
        except PassedError:
            self._fail("File descriptors came with the request: send it without any")
            return
        except OSError:
            self.close()
            return
        if not piece:
            self._end_of_stream()
            return
        self._moved = self._shared.loop.time()
        try:
            request = self._request.feed(piece)
        except ProtocolError as error:
            self._fail(str(error))
            return
        if request is None:
            self._watch()
        else:
            self._serve(request)

    def _receive(self) -> bytes:
        if self._standing is Standing.OWN:
            return self._socket.recv(_RECV_BYTES)
        return descriptors.take(self._socket, _RECV_BYTES)

    def is_idle(self) -> bool:
        """Whether the client makes no progress; never true while it waits for its commit or reads its answer."""
        now = self._shared.loop.time()
        if self._phase is _Phase.WRITING:
            self._look_whether_it_reads(now)
            return now - self._moved >= self._shared.limits.write_timeout / 2
        return self._phase is not _Phase.WAITING and now - self._moved >= IDLE_SECONDS

    def make_room(self) -> None:
        """Close a connection that is idle, and tell its client why."""
        if self._phase is _Phase.READING:
            self._fail("Too many connections: this one made no progress and had to make room")
        self.close()

    def close_if_silent(self) -> None:
        """Close a connection on which no request has begun."""
        if self._phase is _Phase.READING and not self._request:
            self._read()
        if self._phase is _Phase.LINGERING or (self._phase is _Phase.READING and not self._request):
            self.close()

    def expire(self, now: float) -> None:
        """Close the connection if its deadline has passed."""
        if self._phase is _Phase.WRITING:
            self._look_whether_it_reads(now)
        if now < self._deadline or self._phase in (_Phase.WAITING, _Phase.CLOSED):
            return
        if self._phase is _Phase.READING:
            what = "Only a part of a request" if self._request else "No request"
            self._fail_unfinished(f"{what} arrived within {self._shared.limits.read_timeout:g} seconds")
        self.close()

    def close(self) -> None:
        """Close the socket so that the client reads its answer and then the end of the stream."""
        if self._phase is _Phase.CLOSED:
            return
        self._phase = _Phase.CLOSED
        self._unwatch()
        self._stop_waiting()
        end(self._socket, self._shared.slow_closer)
        del self._shared.connections[self]
        self._shared.quotas.remove(self, self._standing, self._peer.uid)

    def _serve(self, request: Request) -> None:
        self._unwatch()
        orchestrator, standing = self._shared.orchestrator, self._standing
        if not isinstance(request, Reading):
            if standing is not Standing.OWN and not may_change(self._peer, self._socket, orchestrator.settings):
                self._fail(
                    f"User {self._peer.uid} may only read: claims are changed by root and by the users and groups in"
                    " the settings allowed-uids and allowed-gids"
                )
                return
            if self._shared.waiting_changes[standing] >= self._shared.quotas.shares[standing].waiting:
                self._fail("Too many changes wait to be stored: try again in a moment")
                return
            self._shared.waiting_changes[standing] += 1
            self._is_waiting_change = True
        self._phase = _Phase.WAITING
        orchestrator.submit(request, self._peer, self._reply)

    def _stop_waiting(self) -> None:
        if self._is_waiting_change:
            self._is_waiting_change = False
            self._shared.waiting_changes[self._standing] -= 1

    def _reply(self, answer: bytes) -> None:
        if self._phase is _Phase.WAITING:
            self._stop_waiting()
            self._send(answer, self.close)

    def _end_of_stream(self) -> None:
        if self._request:
            self._fail_unfinished("The request ended before it was a whole JSON object")
        else:
            peer_log.note(*self._peer, "hung up without a request")
        self.close()

    def _fail_unfinished(self, sentence: str) -> None:
        """Answer an incomplete request with the mistake in it, or with the sentence when it has none."""
        try:
            if self._request:
                self._request.check()
        except ProtocolError as error:
            sentence = str(error)
        self._fail(sentence)

    def _fail(self, sentence: str) -> None:
        """Answer with an error, before any other answer."""
        peer_log.note(*self._peer, "refused: %s", sentence)
        self._send(ErrorAnswer(error=sentence).encode(), self._linger)

    def _send(self, answer: bytes, then: Callable[[], None]) -> None:
        """Send the answer in one write; the rest follows as the client reads."""
        try:
            sent = self._socket.send(answer)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        if sent == len(answer):
            then()
            return
        self._phase = _Phase.WRITING
        self._answer = memoryview(answer)[sent:]
        self._note_progress(self._shared.loop.time())
        self._unwatch()
        self._writing = True
        self._shared.loop.add_writer(self._fd, self.ready)

    def _write_on(self) -> None:
        try:
            sent = self._socket.send(self._answer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self._answer = self._answer[sent:]
        if self._answer:
            self._note_progress(self._shared.loop.time())
        else:
            self.close()

    def _look_whether_it_reads(self, now: float) -> None:
        """Record progress when the client has read something, even if there is no room yet for the next write."""
        if _unread_bytes(self._fd) < self._unread:
            self._note_progress(now)

    def _note_progress(self, now: float) -> None:
        self._unread = _unread_bytes(self._fd)
        self._moved = now
        self._deadline = now + self._shared.limits.write_timeout

    def _linger(self) -> None:
        self._phase = _Phase.LINGERING
        self._request = IncomingRequest()
        self._moved = self._shared.loop.time()
        self._deadline = self._moved + self._shared.limits.linger_timeout
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._unwatch()
        self._watch()
        self._discard()

    def _discard(self) -> None:
        try:
            if not descriptors.discard(self._socket):
                self.close()
            self._moved = self._shared.loop.time()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, PassedError):
            self.close()

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._shared.loop.add_reader(self._fd, self.ready)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._shared.loop.remove_reader(self._fd)
        if self._writing:
            self._writing = False
            self._shared.loop.remove_writer(self._fd)


def _unread_bytes(fd: int) -> int:
    """How many bytes the peer has not read yet, by the kernel's count with its overhead (SIOCOUTQ, unix(7))."""
    (unread,) = _INT.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, _INT.pack(0)))
    return unread
