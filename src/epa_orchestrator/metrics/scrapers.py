# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scrapers: the connected clients of the metrics' port, so that a hostile one cannot stand in the way of others.

Few may be connected, each for a few seconds, and a new one replaces the oldest. Those whose request has come are
counted apart from those that are still silent, so a silent one never replaces one that waits for its answer.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from epa_orchestrator.metrics import http

#: How many clients may be silent: so many that a crowd of them does not replace one whose request comes in a moment.
_MOST_SILENT: Final = 64
#: How many clients may read their answer.
_MOST_READING: Final = 16
_CLIENT_SECONDS: Final = 5.0
#: How many clients are accepted in one turn.
_MOST_ACCEPTED: Final = 32


class Client:
    """One connection: what was received, what is left to send, and the group that it counts in."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.received = bytearray()
        self.unsent = memoryview(b"")
        self.deadline = time.monotonic() + _CLIENT_SECONDS
        self.group: list[Client] | None = None


class Scrapers:
    """The clients whose sockets are in a selector; `answer` makes the answer to a whole request."""

    def __init__(self, selector: selectors.BaseSelector, answer: Callable[[bytes], bytes]) -> None:
        self._selector = selector
        self._answer = answer
        #: The oldest client of each group comes first.
        self._silent: list[Client] = []
        self._reading: list[Client] = []

    def accept(self, listener: socket.socket) -> None:
        """Accept those who wait, and then answer those of them whose request has come.

        Raises OSError when this process may open no more files.
        """
        arrived: list[Client] = []
        try:
            for _ in range(_MOST_ACCEPTED):
                with contextlib.suppress(ConnectionError):  # it has gone
                    arrived.append(Client(listener.accept()[0]))
        except BlockingIOError:
            pass
        finally:
            for client in arrived:
                self.proceed(client)

    def proceed(self, client: Client) -> None:
        """Read once and, if the request is whole, write once."""
        if client.socket.fileno() < 0:  # dropped for another one in this turn
            return
        try:
            if not client.unsent and not self._has_asked(client):
                self._keep(client, self._silent, selectors.EVENT_READ)
                return
            client.unsent = client.unsent[client.socket.send(client.unsent, socket.MSG_DONTWAIT) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # it has gone
            client.unsent = memoryview(b"")
        if client.unsent:
            self._keep(client, self._reading, selectors.EVENT_WRITE)
        else:
            self._drop(client)

    def seconds_left(self) -> float | None:
        """Until the next deadline of a client; None without clients."""
        now = time.monotonic()
        return min((max(each.deadline - now, 0.0) for each in self._all()), default=None)

    def drop_late(self) -> None:
        """Drop those whose time is over."""
        now = time.monotonic()
        for client in self._all():
            if client.deadline <= now:
                self._drop(client)

    def close(self) -> None:
        """Drop all."""
        for client in self._all():
            self._drop(client)

    def _all(self) -> list[Client]:
        return [*self._silent, *self._reading]

    def _has_asked(self, client: Client) -> bool:
        """Whether the request is whole now, and `unsent` has its answer. Raises OSError when the client has gone."""
        try:
            piece = client.socket.recv(http.MOST_BYTES + 1, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        if not piece:
            raise ConnectionResetError
        client.received += piece
        if not http.is_whole(client.received):
            return False
        client.unsent = memoryview(self._answer(bytes(client.received)))
        return True

    def _keep(self, client: Client, group: list[Client], event: int) -> None:
        """Wait for an event of a client, which counts in this group from now on."""
        if client.group is group:
            return
        self._leave(client)
        if len(group) >= (_MOST_SILENT if group is self._silent else _MOST_READING):
            self._drop(group[0])
        group.append(client)
        client.group = group
        self._selector.register(client.socket, event, client)

    def _leave(self, client: Client) -> None:
        if client.group is not None:
            client.group.remove(client)
            client.group = None
            self._selector.unregister(client.socket)

    def _drop(self, client: Client) -> None:
        self._leave(client)
        if client.received:
            with contextlib.suppress(OSError):  # unread bytes would reset the connection before the answer is read
                client.socket.recv(1 << 16, socket.MSG_DONTWAIT)
        client.socket.close()
