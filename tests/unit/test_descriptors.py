# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""File descriptors in a message are found, also when the socket adds credentials to every message."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from epa_orchestrator import descriptors
from epa_orchestrator.descriptors import PassedError

#: Options that a listener of systemd may have: SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD (asm-generic/socket.h).
OTHER_DATA = (16, 34, 76)


@pytest.fixture(params=[*OTHER_DATA, None])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and our end of a connection, which adds data to every message."""
    client, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with client, ours:
        if request.param is not None:
            with contextlib.suppress(OSError):  # a kernel before 6.5 knows no SO_PASSPIDFD
                ours.setsockopt(socket.SOL_SOCKET, request.param, 1)
        yield client, ours


def test_data_that_the_kernel_adds_is_no_descriptor(pair: tuple[socket.socket, socket.socket]) -> None:
    client, ours = pair
    client.send(b"one")
    assert descriptors.take(ours, 100) == b"one"
    client.send(b"two")
    assert descriptors.take(ours, 100) == b"two"


def test_bytes_with_added_data_are_discarded(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, ours = pair
    client.send(b"one")
    assert descriptors.discard(ours) == 3
    client.shutdown(socket.SHUT_WR)
    assert descriptors.discard(ours) == 0


def test_descriptor_is_found_and_stays_in_the_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    client, ours = pair
    passed = os.memfd_create("passed")
    try:
        socket.send_fds(client, [b"one"], [passed])
    finally:
        os.close(passed)
    for _ in range(2):
        with pytest.raises(PassedError):
            descriptors.take(ours, 100)
        with pytest.raises(PassedError):
            descriptors.discard(ours)
