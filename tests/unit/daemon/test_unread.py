# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Unread: what the other end of a socket has read, and whether it is there."""

from __future__ import annotations

import socket

from epa_orchestrator.daemon.unread import is_gone, unread_bytes


def test_bytes_count_until_they_are_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unread_bytes(ours.fileno()) == 0
        ours.send(b"x" * 100)
        assert unread_bytes(ours.fileno()) >= 100
        theirs.recv(100)
        assert unread_bytes(ours.fileno()) == 0


def test_a_client_that_sends_no_more_is_still_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.shutdown(socket.SHUT_WR)
        assert not is_gone(ours.fileno())
        theirs.close()
        assert is_gone(ours.fileno())
