# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The costs of bytes and connections in CPU time of the daemon; the tests print the figures (pytest -rP)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Generator, Iterator
from typing import Final

import pytest

from tests.functional.harness import (
    PATIENCE,
    Daemon,
    Reused,
    connect,
    cpu_seconds,
    decode,
    encode,
    error_of,
    open_files,
    read_to_end,
    wait_until,
)

from .flooders import Flooder, let_others_reach

#: The most CPU time (seconds) of each; on an idle machine about a third of it was measured.
BYTE: Final = 40e-6
CONNECTION: Final = 400e-6
BYTE_OF_A_LONG_REQUEST: Final = 0.2e-6

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
LISTING: Final = encode("list_allocations", {})


@pytest.fixture(scope="module")
def reused() -> Iterator[Reused]:
    with Reused() as shared:
        yield shared


@pytest.fixture
def daemon(reused: Reused) -> Iterator[Daemon]:
    with reused.lent() as lent:
        yield lent


@contextlib.contextmanager
def budget(daemon: Daemon, what: str, number: int, each: float) -> Generator[None]:
    """Check that the body costs the daemon at most `each` CPU time (s) for each of `number` things, and two ticks."""
    before = cpu_seconds(daemon.pid)
    yield
    spent = cpu_seconds(daemon.pid) - before
    print(f"{what}: {spent / number * 1e6:.2f} µs of at most {each * 1e6:.2f}, {number} of them in {spent:.2f} s")
    assert spent <= number * each + 2 * TICK, f"{what}: {spent / number * 1e6:.2f} µs instead of {each * 1e6:.2f}"


def unread(client: socket.socket) -> int:
    """Bytes that the daemon has not read yet, as the kernel counts them (SIOCOUTQ)."""
    (left,) = struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, struct.pack("i", 0)))
    return left


def wait_until_read(client: socket.socket) -> None:
    """Each byte is sent as soon as the one before it is read."""
    deadline = time.monotonic() + PATIENCE
    while unread(client):
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.parametrize("length", [99, 30_000, 60_000])
@pytest.mark.parametrize("unit", [b'"a",', b"[],", b"1,"], ids=["strings", "arrays", "numbers"])
def test_single_byte_stays_within_its_budget(daemon: Daemon, unit: bytes, length: int, long: bool) -> None:
    # Few for each connection, so that a machine with much other work sends them within the read timeout.
    connections, count = (100, 300) if long else (20, 150)
    before_it = length * BYTE_OF_A_LONG_REQUEST / count
    with budget(daemon, f"a byte behind {length}", count * connections, BYTE + before_it):
        for _ in range(connections):
            with connect(daemon.socket_path) as client:
                client.sendall(b'{"action": "list_allocations", "x": [' + unit * (length // len(unit)) + b'"')
                for _ in range(count):
                    wait_until_read(client)
                    client.send(b"a")
                client.sendall(b'"]}')
                assert "error" not in decode(read_to_end(client))


@pytest.mark.parametrize(
    "body",
    [b'"' + b"a" * 65_000 + b'"', b'"' + b'\\"' * 32_000 + b'"', b"[" + b"[]," * 20_000 + b"1]", b" " * 65_000 + b"1"],
    ids=["string", "escapes", "arrays", "blanks"],
)
def test_byte_of_a_long_request_stays_within_its_budget(daemon: Daemon, body: bytes) -> None:
    request = b'{"action": "list_allocations", "x": ' + body + b"}"
    count = 20
    with budget(daemon, "a byte of a long request", count * len(request), BYTE_OF_A_LONG_REQUEST):
        for _ in range(count):
            assert "error" not in decode(daemon.request(request))


def test_connection_without_a_request_stays_within_its_budget(daemon: Daemon) -> None:
    count = 1_000
    with budget(daemon, "a connection without a request", count, CONNECTION):
        for _ in range(count):
            with connect(daemon.socket_path) as client:
                client.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == b""


def test_refused_request_stays_within_its_budget(daemon: Daemon) -> None:
    count = 1_000
    with budget(daemon, "a refused request", count, CONNECTION):
        for _ in range(count):
            error_of(decode(daemon.request(b"no JSON")))


def test_reading_stays_within_its_budget(daemon: Daemon) -> None:
    count = 1_000
    with budget(daemon, "a reading", count, CONNECTION):
        for _ in range(count):
            daemon.request(LISTING)


def test_waiting_connections_stay_within_their_budget(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(connect(daemon.socket_path)).send(b"{")
        wait_until(lambda: open_files(daemon.pid) > 500, "all are accepted")
        with budget(daemon, "a silent connection for 2 seconds", 500, CONNECTION / 4):
            time.sleep(2)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("kind", ["hasty", "idle"])
def test_flooding_connection_stays_within_its_budget(kind: str) -> None:
    with Daemon() as daemon:
        daemon.start()
        let_others_reach(daemon)
        before = cpu_seconds(daemon.pid)
        with Flooder(daemon, kind) as flooder:
            time.sleep(3)
        spent = cpu_seconds(daemon.pid) - before
    assert flooder.opened > 500
    each = spent / flooder.opened
    print(f"a connection of a flood, {kind}: {each * 1e6:.1f} µs of at most {CONNECTION / 2 * 1e6:.1f}")
    assert each < CONNECTION / 2
