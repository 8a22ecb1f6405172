# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Server: accepts connections within quotas, and asks the open ones regularly whether their time is over.

Most clients connect and write at once, so a connection of a user who may change claims is read as soon as it is
accepted: a reading is answered in the same turn of the loop. A client over its quota is refused at once, because in the
backlog it would delay root's connections. Accepting and sweeping end their turn after a few milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Final

from epa_orchestrator import descriptors
from epa_orchestrator.daemon import peer_log
from epa_orchestrator.daemon.connection import Connection
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.peers import Standing, peer_of, standing_of
from epa_orchestrator.daemon.probes import Probes
from epa_orchestrator.daemon.shared import Client, ConnectionLimits, Shared
from epa_orchestrator.daemon.socket_file import BACKLOG
from epa_orchestrator.descriptors import end
from epa_orchestrator.metrics.counts import counts
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.answers import ErrorAnswer

log = logging.getLogger(__name__)

#: How long accepting or sweeping may hold the event loop.
_TURN_SECONDS: Final = 0.003
_SWEEP_SECONDS: Final = 0.25
_ACCEPT_PAUSE_SECONDS: Final = 0.1
#: The shortest time between two log lines about failures to accept.
_ERROR_LINE_SECONDS: Final = 1.0


class Server:
    """Serves an orchestrator on listening sockets."""

    def __init__(self, orchestrator: Orchestrator, limits: ConnectionLimits | None = None) -> None:
        self.orchestrator = orchestrator
        self.limits = limits or ConnectionLimits()
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._shared = Shared(orchestrator, self.limits)
        self.probes = Probes(self._shared.slow_closer)
        self._listeners: list[socket.socket] = []
        self._retiring: set[socket.socket] = set()
        self._last_error_line = 0.0
        self._sweeper: asyncio.Handle = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    @property
    def open_connections(self) -> int:
        """The number of clients that are connected."""
        return len(self._shared.connections)

    @property
    def descriptors_left(self) -> int:
        """The number of connections with passed descriptors that are not closed yet."""
        return self._shared.slow_closer.left

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from a listening, non-blocking socket."""
        descriptors.refuse(listener)
        self._listeners.append(listener)
        self.loop.add_reader(listener.fileno(), self._accept, listener)

    def retire(self, listener: socket.socket) -> None:
        """Serve the clients that have already connected to a listener, and then close it."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self.loop.remove_reader(listener.fileno())
            self._retiring.add(listener)
            self._accept_last(listener, BACKLOG)

    async def stop(self) -> None:
        """Answer the requests in flight, and close everything else, within the grace times of the limits."""
        grace = self.loop.time() + self.limits.stop_grace
        commit_grace = self.loop.time() + self.limits.commit_grace
        for listener in list(self._listeners):
            self.retire(listener)
        while self._retiring and self.loop.time() < grace:
            await asyncio.sleep(0)
        for connection in list(self._shared.connections):
            connection.close_if_silent()
        while self._has_requests and self.loop.time() < commit_grace:
            if self.loop.time() >= grace and not self.orchestrator.busy:
                break
            await asyncio.sleep(0.01)
        self.orchestrator.watchers.send_all()
        for connection in list(self._shared.connections):
            connection.close()
        self._sweeper.cancel()
        self._shared.names.close()

    @property
    def _has_requests(self) -> bool:
        """Whether there are clients that do not just watch."""
        return len(self._shared.connections) > len(self.orchestrator.watchers)

    def _accept(self, listener: socket.socket) -> None:
        turn_ends = monotonic() + _TURN_SECONDS
        while (accepted := self._next_client(listener)) is not None:
            self._serve(accepted)
            if monotonic() >= turn_ends:
                return

    def _accept_last(self, listener: socket.socket, limit: int) -> None:
        """Serve at most `limit` clients from the backlog of a retiring listener, and close it."""
        turn_ends = monotonic() + _TURN_SECONDS
        while limit and (accepted := self._next_client(listener)) is not None:
            self._serve(accepted)
            limit -= 1
            if monotonic() >= turn_ends:
                self.loop.call_soon(self._accept_last, listener, limit)
                return
        self._retiring.remove(listener)
        listener.close()

    def _next_client(self, listener: socket.socket) -> socket.socket | None:
        """Accept a connection from the backlog; None when there is none, or it cannot be accepted now."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        except OSError as error:  # out of file descriptors or memory
            self._log_failure(error)
            idle = self._shared.quotas.idle_of_any_user()
            if idle is None:
                self._pause(listener)
            else:
                idle.give_way()
            return None
        return accepted

    def _serve(self, accepted: socket.socket) -> None:
        """Serve a client, or refuse it when its user is over the quota."""
        peer = peer_of(accepted)
        if peer.pid == self._pid and self.probes.recognise(accepted, peer):
            return
        standing = standing_of(peer, accepted, self.orchestrator.settings)
        if self._has_room(standing, peer.uid):
            accepted.setblocking(False)
            Connection(self._shared, accepted, peer, standing).ready()
        else:
            self._refuse(accepted, peer)

    def _refuse(self, accepted: socket.socket, peer: Peer) -> None:
        """Answer that its user has too many connections, and close, at the least cost."""
        peer_log.note(*peer, "refused: too many connections")
        counts.refused_connections += 1
        with contextlib.suppress(OSError):  # the client has gone
            accepted.send(_too_many_connections(peer.uid), socket.MSG_DONTWAIT)
        end(accepted, self._shared.slow_closer)

    def _has_room(self, standing: Standing, uid: int) -> bool:
        """Whether a user may have one more connection. Closes an idle one if necessary."""
        quotas = self._shared.quotas
        if quotas.has_room(standing, uid):
            return True
        idle = quotas.idle_to_replace(standing, uid)
        if idle is None:
            return False
        idle.give_way()
        return True

    def _log_failure(self, error: OSError) -> None:
        now = self.loop.time()
        if now - self._last_error_line >= _ERROR_LINE_SECONDS:
            self._last_error_line = now
            log.error("cannot accept connections: %s", error.strerror)

    def _pause(self, listener: socket.socket) -> None:
        """Leave new clients in the backlog for a short time."""
        if listener in self._listeners:
            self.loop.remove_reader(listener.fileno())
            self.loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def _sweep(self) -> None:
        self._sweep_on(iter(list(self._shared.connections)))

    def _sweep_on(self, connections: Iterator[Client]) -> None:
        """Close the connections that have passed their deadline, some in each turn."""
        turn_ends = monotonic() + _TURN_SECONDS
        now = self.loop.time()
        for connection in connections:
            connection.expire(now)
            if monotonic() >= turn_ends:
                self._sweeper = self.loop.call_soon(self._sweep_on, connections)
                return
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)


@functools.lru_cache(maxsize=64)
def _too_many_connections(uid: int) -> bytes:
    sentence = f"Too many connections are open for user {uid}: close some of them, or try again later"
    return ErrorAnswer(error=sentence).encode()
