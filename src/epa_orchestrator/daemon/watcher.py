# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watcher: one client that watches, from its first line until it leaves or reads too slowly.

It takes over the socket of a connection whose request was `watch`. Nothing waits for its client: what the socket has no
room for is kept up to a limit, and a client that is further behind is dropped.
"""

from __future__ import annotations

import socket
from collections import deque
from itertools import islice
from typing import Final

from epa_orchestrator import descriptors
from epa_orchestrator.daemon import peer_log
from epa_orchestrator.daemon.kept_answers import LetGo, nothing_kept
from epa_orchestrator.daemon.peers import Standing
from epa_orchestrator.daemon.shared import Shared
from epa_orchestrator.daemon.unread import is_gone, unread_bytes
from epa_orchestrator.descriptors import PassedError, end
from epa_orchestrator.peer import Peer

#: The size of the socket's buffer (bytes), which the kernel doubles for its own overhead.
_SOCKET_BYTES: Final = 65_536
#: A client gets no more lines, and is dropped, when it has this much (bytes) unread outside of the socket's buffer,
#: without the first line. The bytes are the same objects for all watchers.
_MOST_BEHIND: Final = 1 << 20
#: How many pieces one system call sends; the kernel takes at most 1024.
_PIECES_AT_ONCE: Final = 64
#: A client that sends more than this (bytes) after its request is dropped.
_MOST_RECEIVED: Final = 4096


class Watcher:
    """A client that watches. It counts as a connection of its user until it is closed."""

    def __init__(
        self,
        shared: Shared,
        accepted: socket.socket,
        peer: Peer,
        standing: Standing,
        first_line: bytes,
        let_go: LetGo = nothing_kept,
    ) -> None:
        self._shared = shared
        self._socket = accepted
        self._fd = accepted.fileno()
        self._peer = peer
        self._standing = standing
        self._unsent: deque[memoryview] = deque([memoryview(first_line)])
        #: How much (bytes) of the first line, and of all other lines, is not sent yet.
        self._first_line_left = len(first_line)
        #: To be called when the first line is sent, or will never be.
        self._let_go: LetGo | None = let_go
        self._behind = 0
        self._received = 0
        #: The bytes that the client had not read at the last check, and when it last read something.
        self._unread = 0
        self._last_progress = shared.loop.time()
        self._is_closed = self._sends_no_more = self._waits_for_room = False
        shared.connections[self] = None
        shared.quotas.add(self, standing, peer.uid)
        shared.orchestrator.watchers.add(self)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        shared.loop.add_reader(self._fd, self._ready)
        self.send()

    def tell(self, lines: bytes) -> None:
        """Add lines to what has to be sent; drop the client if it is too far behind."""
        if self._behind > _MOST_BEHIND:
            self.drop("reads too slowly")
            return
        self._unsent.append(memoryview(lines))
        self._behind += len(lines)

    def send(self) -> None:
        """Send what the client has room for, without waiting."""
        if not self._waits_for_room and not self._is_closed:
            self._send()

    def is_idle(self) -> bool:
        """Whether the client reads nothing of what has to be sent. One that has everything is not idle."""
        now = self._shared.loop.time()
        return self._has_read_nothing_for(self._shared.limits.write_timeout / 2, now)

    def give_way(self) -> None:
        """Close the connection for another one."""
        self.drop("reads too slowly and had to give way")

    def drop(self, reason: str) -> None:
        """Close the connection and log the reason, which continues the subject "a watcher"."""
        peer_log.note(*self._peer, "dropped: a watcher %s", reason)
        self.close()

    def close_if_silent(self) -> None:
        """Stay open: it is closed when all changes are told."""

    def expire(self, now: float) -> None:
        """Close the connection if the client has gone, or reads nothing."""
        if self._sends_no_more and is_gone(self._fd):
            self.close()
        elif self._has_read_nothing_for(self._shared.limits.write_timeout, now):
            self.drop("reads nothing")

    def close(self) -> None:
        """Close the socket so that the client reads what was sent and then the end of the stream."""
        if self._is_closed:
            return
        self._is_closed = True
        self._shared.loop.remove_reader(self._fd)
        self._shared.loop.remove_writer(self._fd)
        self._unsent.clear()
        self._drop_first_line()
        self._shared.orchestrator.watchers.remove(self)
        del self._shared.connections[self]
        self._shared.quotas.remove(self, self._standing, self._peer.uid)
        self._shared.quotas.end_watch(self._standing, self._peer.uid)
        end(self._socket, self._shared.slow_closer)

    def _ready(self) -> None:
        """Read or write: at once, or later for a user who may only read."""
        if self._standing is Standing.OTHER:
            self._shared.deferred.add(self._proceed)
        else:
            self._proceed()

    def _proceed(self) -> None:
        if not self._is_closed and not self._sends_no_more:
            self._discard()
        if not self._is_closed and self._waits_for_room:
            self._send()

    def _discard(self) -> None:
        """Drop what the client sends, and notice when it has gone."""
        try:
            received = descriptors.discard(self._socket)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, PassedError):
            self.close()
            return
        self._received += received
        if self._received > _MOST_RECEIVED:
            self.drop("sends more than its request")
        elif not received and is_gone(self._fd):
            self.close()
        elif not received:  # the client has shut down its sending side, and may still read
            self._sends_no_more = True
            self._shared.loop.remove_reader(self._fd)

    def _send(self) -> None:
        try:
            sent = self._socket.sendmsg(islice(self._unsent, _PIECES_AT_ONCE)) if self._unsent else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        self._note_sent(sent)
        if bool(self._unsent) != self._waits_for_room:
            self._waits_for_room = bool(self._unsent)
            if self._waits_for_room:
                self._shared.loop.add_writer(self._fd, self._ready)
                self._note_progress(self._shared.loop.time())
            else:
                self._shared.loop.remove_writer(self._fd)
        elif sent and self._unsent:
            self._note_progress(self._shared.loop.time())

    def _note_sent(self, sent: int) -> None:
        of_first_line = min(sent, self._first_line_left)
        self._first_line_left -= of_first_line
        if not self._first_line_left:
            self._drop_first_line()
        self._behind -= sent - of_first_line
        while sent:
            piece = self._unsent[0]
            if sent < len(piece):
                self._unsent[0] = piece[sent:]
                return
            sent -= len(piece)
            self._unsent.popleft()

    def _drop_first_line(self) -> None:
        """Count the first line as one that is kept no longer."""
        if self._let_go is not None:
            self._let_go()
            self._let_go = None

    def _has_read_nothing_for(self, seconds: float, now: float) -> bool:
        """Whether something has to be sent, and the client has read nothing for some seconds."""
        if not self._unsent:
            return False
        if unread_bytes(self._fd) < self._unread:
            self._note_progress(now)
        return now - self._last_progress >= seconds

    def _note_progress(self, now: float) -> None:
        self._unread = unread_bytes(self._fd)
        self._last_progress = now
