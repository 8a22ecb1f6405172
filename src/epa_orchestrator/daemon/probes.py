# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Probes: connections of the daemon to its own socket, which show where the socket file leads.

Neither an inode number nor the credentials of a connected socket show that: the kernel reuses inode numbers, and the
process that called listen(2) may have other listeners (systemd has many). A probe sends a random number to the server
that listens at the file. It has arrived at us when our own server accepts a connection of our own process that begins
with that number. A foreign server can read the number, but it cannot connect as our process.
"""

from __future__ import annotations

import os
import secrets
import socket
from typing import Final

from epa_orchestrator.daemon.socket_file import connect
from epa_orchestrator.descriptors import SlowCloser, end
from epa_orchestrator.peer import Peer

_NONCE_BYTES: Final = 16
#: The last probes are remembered after they were closed: one that leaves a long backlog late is not logged as a client.
_MAX_REMEMBERED: Final = 64


class Probe:
    """One connection of the daemon to a socket file. `arrived_at` is the address of our listener that accepted it."""

    def __init__(self, connection: socket.socket, nonce: bytes, slow_closer: SlowCloser) -> None:
        self.arrived_at: str | None = None
        self._slow_closer = slow_closer
        self._connection = connection
        connection.send(nonce)

    def close(self) -> None:
        """Close the connection. A foreign server may have passed descriptors to it."""
        end(self._connection, self._slow_closer)


class Probes:
    """Sends the probes of a server, and recognises them among the connections that it accepts."""

    def __init__(self, slow_closer: SlowCloser) -> None:
        self._slow_closer = slow_closer
        self._pid = os.getpid()
        self._sent: dict[bytes, Probe] = {}

    def send(self, fd: int) -> Probe | None:
        """Connect to the socket file of an O_PATH descriptor without waiting; None when nobody listens there.

        Raises BlockingIOError when the backlog is full, and OSError when the process or the system has run out of
        something.
        """
        connection = connect(fd)
        if connection is None:
            return None
        nonce = secrets.token_bytes(_NONCE_BYTES)
        try:
            probe = Probe(connection, nonce, self._slow_closer)
        except BrokenPipeError:  # the listener has gone
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        while len(self._sent) >= _MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._sent[nonce] = probe
        return probe

    def recognise(self, accepted: socket.socket, peer: Peer) -> bool:
        """Whether an accepted connection is one of our probes, which is then closed. Takes no bytes from others."""
        if peer.pid != self._pid:
            return False
        try:
            first_bytes = accepted.recv(_NONCE_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        probe = self._sent.pop(first_bytes, None)
        if probe is None:
            return False
        probe.arrived_at = accepted.getsockname()
        accepted.close()
        return True
