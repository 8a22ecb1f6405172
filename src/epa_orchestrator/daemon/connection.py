# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Connection: one client of the socket, from its first byte to the end of its answer, and how long each step may take.

Each client sends one request. One that watches goes on as a `watcher`. The connection works on the event loop's
readiness callbacks, without asyncio's streams. No client can delay another one: nothing here waits, every phase has a
deadline, and each callback does a few reads and writes at most.
"""

from __future__ import annotations

import contextlib
import enum
import socket
from collections.abc import Callable
from typing import Final

from epa_orchestrator import descriptors
from epa_orchestrator.daemon import peer_log
from epa_orchestrator.daemon.kept_answers import LetGo, nothing_kept
from epa_orchestrator.daemon.peers import Standing, may_change
from epa_orchestrator.daemon.replies import Reply
from epa_orchestrator.daemon.shared import Shared
from epa_orchestrator.daemon.unread import is_gone, unread_bytes
from epa_orchestrator.daemon.watcher import Watcher
from epa_orchestrator.descriptors import PassedError, end
from epa_orchestrator.metrics.counts import NO_ACTION, Rule, counts
from epa_orchestrator.peer import UNNAMED, Peer
from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.fields import ProtocolError
from epa_orchestrator.protocol.framing import IncomingRequest
from epa_orchestrator.protocol.readings import Reading, Watch
from epa_orchestrator.protocol.requests import Request

_RECV_BYTES: Final = 4096
#: A connection without a byte for this time (seconds) may be closed to make room for another one.
_IDLE_SECONDS: Final = 1.0


class _Phase(enum.Enum):
    #: A request is being received.
    READING = enum.auto()
    #: The request is whole, and its answer not there yet.
    WAITING = enum.auto()
    #: A part of the answer is sent.
    WRITING = enum.auto()
    #: After an error, input is discarded: if the socket were closed at once, the writes of a client that still sends
    #: would fail before it reads the error.
    LINGERING = enum.auto()
    CLOSED = enum.auto()


class Connection:
    """One client, in one phase after the other."""

    _phase = _Phase.READING
    #: The unsent rest of the answer, and the number of bytes that the client had not read at the last check.
    _answer = memoryview(b"")
    _unread = 0
    #: Ends the count of the answer as one that is kept.
    _let_go: LetGo = staticmethod(nothing_kept)
    #: Whether this connection counts as a waiting change.
    _is_waiting_change = False
    #: Whether this connection counts as one that watches.
    _counts_as_watch = False
    _watches_input = False
    _watches_output = False

    def __init__(self, shared: Shared, accepted: socket.socket, peer: Peer, standing: Standing) -> None:
        now = shared.loop.time()
        self._shared = shared
        self._socket = accepted
        self._fd = accepted.fileno()
        self._peer = peer
        self._standing = standing
        self._request = IncomingRequest()
        self._deadline = now + shared.limits.read_timeout
        #: The time when a byte was last received from the client, or read by it.
        self._last_progress = now
        shared.connections[self] = None
        shared.quotas.add(self, standing, peer.uid)

    def ready(self) -> None:
        """Read or write once: at once, or later for a user who may only read."""
        if self._standing is Standing.OTHER:
            self._shared.deferred.add(self._proceed)
        else:
            self._proceed()

    def _proceed(self) -> None:
        if self._phase is _Phase.READING:
            self._read()
        elif self._phase is _Phase.WRITING:
            self._write_on()
        elif self._phase is _Phase.LINGERING:
            self._discard()

    def _read(self) -> None:
        """Receive once, and serve the request when it is whole."""
        try:
            piece = self._receive()
        except (BlockingIOError, InterruptedError):
            self._watch_input()
            return
        except PassedError:
            self._fail("File descriptors came with the request: send it without any", "invalid")
            return
        except OSError:
            self.close()
            return
        if not piece:
            self._end_of_stream()
            return
        self._last_progress = self._shared.loop.time()
        try:
            request = self._request.feed(piece)
        except ProtocolError as error:
            self._fail(str(error), "invalid")
            return
        if request is None:
            self._watch_input()
        else:
            self._serve(request)

    def _receive(self) -> bytes:
        if self._standing is Standing.OWN:
            return self._socket.recv(_RECV_BYTES)
        return descriptors.take(self._socket, _RECV_BYTES)

    def is_idle(self) -> bool:
        """Whether the client makes no progress. A client that waits for its commit or reads its answer is not idle."""
        now = self._shared.loop.time()
        if self._phase is _Phase.WRITING:
            self._check_whether_it_reads(now)
            return now - self._last_progress >= self._shared.limits.write_timeout / 2
        return self._phase is not _Phase.WAITING and now - self._last_progress >= _IDLE_SECONDS

    def give_way(self) -> None:
        """Close this idle connection, with an error for its client."""
        if self._phase is _Phase.READING:
            self._fail("Too many connections: this one made no progress and had to make room", "quota")
        self.close()

    def close_if_silent(self) -> None:
        """Close this connection if no request has begun on it."""
        if self._phase is _Phase.READING and not self._request:
            self._read()
        if self._phase is _Phase.LINGERING or (self._phase is _Phase.READING and not self._request):
            self.close()

    def expire(self, now: float) -> None:
        """Close the connection if its deadline has passed."""
        if self._phase is _Phase.WRITING:
            self._check_whether_it_reads(now)
        if now < self._deadline or self._phase in (_Phase.WAITING, _Phase.CLOSED):
            return
        if self._phase is not _Phase.LINGERING:
            counts.timeouts += 1
        if self._phase is _Phase.READING:
            received = "Only a part of a request" if self._request else "No request"
            self._fail_unfinished(f"{received} arrived within {self._shared.limits.read_timeout:g} seconds", "timeout")
        self.close()

    def close(self) -> None:
        """Close the socket so that the client reads its answer and then the end of the stream."""
        if self._phase is _Phase.CLOSED:
            return
        self._phase = _Phase.CLOSED
        self._unwatch()
        self._end_change()
        self._let_go()
        if self._counts_as_watch:
            self._shared.quotas.end_watch(self._standing, self._peer.uid)
        end(self._socket, self._shared.slow_closer)
        self._leave()

    def _leave(self) -> None:
        """Count as an open connection no more."""
        del self._shared.connections[self]
        self._shared.quotas.remove(self, self._standing, self._peer.uid)

    def _serve(self, request: Request) -> None:
        self._unwatch()
        if isinstance(request, Watch):
            refusal = self._begin_watch()
        else:
            refusal = None if isinstance(request, Reading) else self._begin_change()
        if refusal is not None:
            self._fail(*refusal, request.action)
            return
        self._phase = _Phase.WAITING
        reply = self._timed(request, self._reply)
        if isinstance(request, Watch):
            self._shared.orchestrator.watch(request, self._peer, reply, self._timed(request, self._become_watcher))
            return
        names = UNNAMED if isinstance(request, Reading) else self._shared.names.names_of(self._socket, self._peer)
        self._shared.orchestrator.submit(request, self._peer, reply, names, self._is_gone)

    def _is_gone(self) -> bool:
        return self._phase is _Phase.CLOSED or is_gone(self._fd)

    def _timed(self, request: Request, reply: Reply) -> Reply:
        """The reply that also notes how long it took: the request was whole at the time of the last progress."""
        return counts.timed(request.action, self._last_progress, reply) if counts.on else reply

    def _begin_watch(self) -> tuple[str, Rule] | None:
        """Count a connection that watches; the error if there are too many."""
        if not self._shared.quotas.begin_watch(self._standing, self._peer.uid):
            sentence = f"Too many connections of user {self._peer.uid} watch: close some of them, or try again later"
            return sentence, "quota"
        self._counts_as_watch = True
        return None

    def _become_watcher(self, first_line: bytes) -> None:
        """Hand the socket over to a watcher, which lives on in place of this connection. Raises TooMuchUnread."""
        if self._phase is _Phase.WAITING:
            let_go = self._shared.kept_answers.keep(first_line, self._standing, self._peer.uid)
            self._phase = _Phase.CLOSED
            self._leave()
            Watcher(self._shared, self._socket, self._peer, self._standing, first_line, let_go)

    def _begin_change(self) -> tuple[str, Rule] | None:
        """Count a change that waits for its commit; the error if the user may not change claims, or too many wait."""
        settings = self._shared.orchestrator.settings
        if self._standing is not Standing.OWN and not may_change(self._peer, self._socket, settings):
            sentence = (
                f"User {self._peer.uid} may only read: claims are changed by root and by the users and groups in the"
                " settings allowed-uids and allowed-gids"
            )
            return sentence, "permission"
        if not self._shared.quotas.begin_change(self._standing):
            return "Too many changes wait to be stored: try again in a moment", "quota"
        self._is_waiting_change = True
        return None

    def _end_change(self) -> None:
        if self._is_waiting_change:
            self._is_waiting_change = False
            self._shared.quotas.end_change(self._standing)

    def _reply(self, answer: bytes) -> None:
        """Send the answer. Raises TooMuchUnread, but not for a change, whose client has to learn of it."""
        if self._phase is _Phase.WAITING:
            if not self._is_waiting_change:
                self._let_go = self._shared.kept_answers.keep(answer, self._standing, self._peer.uid)
            self._end_change()
            self._send(answer, self.close)

    def _end_of_stream(self) -> None:
        if self._request:
            self._fail_unfinished("The request ended before it was a whole JSON object", "invalid")
        else:
            peer_log.note(*self._peer, "closed the connection without a request")
        self.close()

    def _fail_unfinished(self, sentence: str, rule: Rule) -> None:
        """Answer an incomplete request with the mistake in it, or with this sentence when it has none."""
        try:
            if self._request:
                self._request.check()
        except ProtocolError as error:
            sentence = str(error)
        self._fail(sentence, rule)

    def _fail(self, sentence: str, rule: Rule, action: str = NO_ACTION) -> None:
        """Answer with an error. No other answer was sent before."""
        peer_log.note(*self._peer, "refused: %s", sentence)
        if counts.on:
            counts.refused(action, rule)
        self._send(ErrorAnswer(error=sentence).encode(), self._linger)

    def _send(self, answer: bytes, then: Callable[[], None]) -> None:
        """Send the answer in one write. A rest that does not fit follows as the client reads."""
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
        self._watches_output = True
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

    def _check_whether_it_reads(self, now: float) -> None:
        """Note progress if the client has read something, even if there is no room yet for the next write."""
        if unread_bytes(self._fd) < self._unread:
            self._note_progress(now)

    def _note_progress(self, now: float) -> None:
        self._unread = unread_bytes(self._fd)
        self._last_progress = now
        self._deadline = now + self._shared.limits.write_timeout

    def _linger(self) -> None:
        self._phase = _Phase.LINGERING
        self._request = IncomingRequest()
        self._last_progress = self._shared.loop.time()
        self._deadline = self._last_progress + self._shared.limits.linger_timeout
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._unwatch()
        self._watch_input()
        self._discard()

    def _discard(self) -> None:
        try:
            if not descriptors.discard(self._socket):
                self.close()
            self._last_progress = self._shared.loop.time()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, PassedError):
            self.close()

    def _watch_input(self) -> None:
        if not self._watches_input:
            self._watches_input = True
            self._shared.loop.add_reader(self._fd, self.ready)

    def _unwatch(self) -> None:
        if self._watches_input:
            self._watches_input = False
            self._shared.loop.remove_reader(self._fd)
        if self._watches_output:
            self._watches_output = False
            self._shared.loop.remove_writer(self._fd)
