"""A message with file descriptors is told from one that only brings credentials, which systemd can ask for."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from epa_orchestrator import descriptors
from epa_orchestrator.descriptors import PassedError

#: What a listener that systemd made may have set: SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD of asm-generic/socket.h.
EXTRAS = (16, 34, 76)


@pytest.fixture(params=[*EXTRAS, None])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and our end, which brings something with every message."""
    client, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with client, ours:
        if request.param is not None:
            with contextlib.suppress(OSError):  # a kernel before 6.5 knows no SO_PASSPIDFD
                ours.setsockopt(socket.SOL_SOCKET, request.param, 1)
        yield client, ours


def test_what_the_kernel_adds_to_a_message_is_no_descriptor(pair: tuple[socket.socket, socket.socket]) -> None:
    client, ours = pair
    client.send(b"one")
    assert descriptors.take(ours, 100) == b"one"
    client.send(b"two")
    assert descriptors.take(ours, 100) == b"two"


def test_what_the_kernel_adds_does_not_keep_bytes_from_being_discarded(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, ours = pair
    client.send(b"one")
    assert descriptors.discard(ours) == 3
    client.shutdown(socket.SHUT_WR)
    assert descriptors.discard(ours) == 0


def test_a_descriptor_is_still_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
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
