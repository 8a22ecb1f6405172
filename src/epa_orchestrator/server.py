"""Server: framing, limits and peers of the Unix socket; one request and one answer per connection.

Sockets are handled directly on the event loop's readiness callbacks. Most clients connect and write at once, so a
connection is read as soon as it is accepted, which answers a reading without a second turn of the loop. No client can
hold up another one: nothing here waits, every phase of a connection has a deadline, and when too many are open the one
that has kept us waiting longest makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from epa_orchestrator.listening import BACKLOG
from epa_orchestrator.orchestrator import Orchestrator
from epa_orchestrator.peers import Peer, may_change, peer_of
from epa_orchestrator.probing import Probes
from epa_orchestrator.protocol import MAX_REQUEST_BYTES, ErrorAnswer, ProtocolError, Reading, Request, parse
from epa_orchestrator.store import Origin

log = logging.getLogger(__name__)

_RECV_BYTES = 4096
_DISCARD_BYTES = 262_144
_ACCEPTS_PER_TURN = 64
_SWEEP_SECONDS = 0.25
_ACCEPT_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Limits:
    """Connections at once, and seconds: for a request to arrive, an answer to be read, a refused client to stop."""

    connections: int = 1024
    read_timeout: float = 5.0
    write_timeout: float = 10.0
    linger_timeout: float = 5.0
    stop_grace: float = 1.0
    commit_grace: float = 30.0


class _Phase(enum.Enum):
    READING = enum.auto()
    WAITING = enum.auto()
    WRITING = enum.auto()
    LINGERING = enum.auto()
    CLOSED = enum.auto()


class Server:
    """Serves an orchestrator on listening sockets."""

    def __init__(self, orchestrator: Orchestrator, limits: Limits | None = None) -> None:
        self.orchestrator = orchestrator
        self.limits = limits or Limits()
        self.loop = asyncio.get_running_loop()
        self.probes = Probes()
        self._listeners: list[socket.socket] = []
        self._connections: dict[_Connection, None] = {}
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from a listening, non-blocking socket."""
        self._listeners.append(listener)
        self.loop.add_reader(listener.fileno(), self._accept, listener)

    def retire(self, listener: socket.socket) -> None:
        """Serve who has already connected to a listener, and stop listening there."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self._accept(listener, BACKLOG)
            self.loop.remove_reader(listener.fileno())
            listener.close()

    async def stop(self) -> None:
        """Answer what is in flight, and close everything else. Takes at most the grace times of the limits."""
        for listener in list(self._listeners):
            self.retire(listener)
        for connection in list(self._connections):
            connection.close_if_silent()
        grace = self.loop.time() + self.limits.stop_grace
        commit_grace = self.loop.time() + self.limits.commit_grace
        while self._connections and self.loop.time() < commit_grace:
            if self.loop.time() >= grace and not self.orchestrator.busy:
                break
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.close()
        self._sweeper.cancel()

    def forget(self, connection: _Connection) -> None:
        """A connection has closed."""
        self._connections.pop(connection, None)

    def _accept(self, listener: socket.socket, most: int = _ACCEPTS_PER_TURN) -> None:
        for _ in range(most):
            if len(self._connections) >= self.limits.connections and not self._make_room():
                self._pause(listener)
                return
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of file descriptors or memory
                log.error("cannot accept connections: %s", error.strerror)
                if not self._make_room():
                    self._pause(listener)
                    return
                continue
            peer = peer_of(accepted)
            if self.probes.recognise(accepted, peer):
                continue
            accepted.setblocking(False)
            connection = _Connection(self, accepted, peer)
            self._connections[connection] = None
            connection.read()

    def _pause(self, listener: socket.socket) -> None:
        """Leave new clients in the backlog for a moment."""
        self.loop.remove_reader(listener.fileno())
        self.loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def _make_room(self) -> bool:
        """Close the connection whose client has kept us waiting longest; False when all wait for us."""
        for connection in self._connections:
            if connection.phase is not _Phase.WAITING:
                connection.fail("Too many connections: this one made no progress and had to make room")
                connection.close()
                return True
        return False

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self._connections):
            connection.expire(now)
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)


class _Connection:
    """One client: READING its request, WAITING for the commit, WRITING what it does not read, LINGERING after an error.

    Lingering means to discard what a refused client still sends, because closing at once would make its writes fail
    before it has read why.
    """

    __slots__ = (
        "_answer",
        "_deadline",
        "_fd",
        "_peer",
        "_received",
        "_server",
        "_socket",
        "_watched",
        "_writing",
        "phase",
    )

    def __init__(self, server: Server, accepted: socket.socket, peer: Peer) -> None:
        self._server = server
        self._socket = accepted
        self._fd = accepted.fileno()
        self._peer = peer
        self._received = b""
        self._answer = memoryview(b"")
        self._deadline = server.loop.time() + server.limits.read_timeout
        self._watched = False
        self._writing = False
        self.phase = _Phase.READING

    def read(self) -> None:
        """Take what has arrived, and serve the request when it is whole."""
        try:
            data = self._socket.recv(_RECV_BYTES)
        except (BlockingIOError, InterruptedError):
            self._watch(self.read)
            return
        except OSError:
            self.close()
            return
        if not data:
            self._hung_up()
            return
        self._received = self._received + data if self._received else data
        try:
            request = self._parse()
        except ProtocolError as error:
            self.fail(str(error))
            return
        if request is None:
            self._watch(self.read)
        else:
            self._serve(request)

    def _parse(self) -> Request | None:
        if len(self._received) > MAX_REQUEST_BYTES:
            raise ProtocolError(f"The request is larger than {MAX_REQUEST_BYTES} bytes")
        return parse(self._received)

    def _serve(self, request: Request) -> None:
        self._unwatch()
        self.phase = _Phase.WAITING
        orchestrator = self._server.orchestrator
        if isinstance(request, Reading) or may_change(self._peer, self._socket, orchestrator.settings):
            orchestrator.submit(request, Origin(*self._peer, request.action), self._reply)
        else:
            self.fail(
                f"User {self._peer.uid} may only read: claims are changed by root and by the users and groups in the"
                " settings allowed-uids and allowed-gids"
            )

    def _hung_up(self) -> None:
        if self._received:
            self.fail("The request ended before it was a whole JSON object")
        else:
            log.info("pid=%d uid=%d gid=%d hung up without a request", *self._peer)
        self.close()

    def fail(self, sentence: str) -> None:
        """Answer with an error."""
        if self.phase not in (_Phase.READING, _Phase.WAITING):
            return
        log.info("pid=%d uid=%d gid=%d refused: %s", *self._peer, sentence)
        self._send(ErrorAnswer(error=sentence).encode(), self._linger)

    def close_if_silent(self) -> None:
        """Close a connection on which no request has begun."""
        if self.phase is _Phase.READING and not self._received:
            self.read()
        if self.phase is _Phase.LINGERING or (self.phase is _Phase.READING and not self._received):
            self.close()

    def expire(self, now: float) -> None:
        """Give up on a client that has let its deadline pass."""
        if self.phase is _Phase.WAITING or now < self._deadline:
            return
        if self.phase is _Phase.READING:
            what = "only a part of a request" if self._received else "no request"
            self.fail(f"{what.capitalize()} arrived within {self._server.limits.read_timeout:g} seconds")
        self.close()

    def close(self) -> None:
        """Close the socket so that the client reads its answer and then the end of the stream.

        Without the shutdown, and taking what came late, the kernel would report a reset to a client that has sent
        more than we read.
        """
        if self.phase is _Phase.CLOSED:
            return
        self.phase = _Phase.CLOSED
        self._unwatch()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.recv(_RECV_BYTES)
        self._socket.close()
        self._server.forget(self)

    def _reply(self, answer: bytes) -> None:
        if self.phase is _Phase.WAITING:
            self._send(answer, self.close)

    def _send(self, answer: bytes, then: Callable[[], None]) -> None:
        """Send the answer in one write; what the client's buffer does not take follows as it reads."""
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
        self.phase = _Phase.WRITING
        self._answer = memoryview(answer)[sent:]
        self._deadline = self._server.loop.time() + self._server.limits.write_timeout
        self._unwatch()
        self._writing = True
        self._server.loop.add_writer(self._fd, self._write_on)

    def _write_on(self) -> None:
        try:
            sent = self._socket.send(self._answer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self._answer = self._answer[sent:]
        if not self._answer:
            self.close()

    def _linger(self) -> None:
        self.phase = _Phase.LINGERING
        self._received = b""
        self._deadline = self._server.loop.time() + self._server.limits.linger_timeout
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._unwatch()
        self._watch(self._discard)
        self._discard()

    def _discard(self) -> None:
        try:
            if not self._socket.recv(_DISCARD_BYTES):
                self.close()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()

    def _watch(self, callback: Callable[[], None]) -> None:
        if not self._watched:
            self._watched = True
            self._server.loop.add_reader(self._fd, callback)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._server.loop.remove_reader(self._fd)
        if self._writing:
            self._writing = False
            self._server.loop.remove_writer(self._fd)
