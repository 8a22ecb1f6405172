# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scrapers: silent clients replace each other, and never one whose request has come."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from epa_orchestrator.metrics import scrapers as module
from epa_orchestrator.metrics.scrapers import Scrapers

GET = b"GET /metrics HTTP/1.1\r\n\r\n"
BODY = b"x" * 8_000_000


class Port:
    """A port whose scrapers are served a turn at a time."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.open = contextlib.ExitStack()
        self.listener = self.open.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        self.listener.setblocking(False)
        self.selector = self.open.enter_context(selectors.PollSelector())
        self.scrapers = self.open.enter_context(contextlib.closing(Scrapers(self.selector, answer)))

    def connect(self, request: bytes = b"") -> socket.socket:
        client = self.open.enter_context(socket.create_connection(self.listener.getsockname(), timeout=10))
        client.sendall(request)
        return client

    def turn(self) -> None:
        ready = self.selector.select(0)
        self.scrapers.accept(self.listener)
        for key, _ in ready:
            self.scrapers.proceed(key.data)
        self.scrapers.drop_late()

    def turns(self) -> None:
        """As many turns as 512 connections take."""
        for _ in range(512 // module._MOST_ACCEPTED + 1):
            self.turn()


@pytest.fixture
def port() -> Iterator[Port]:
    found = Port(lambda _: BODY)
    with found.open:
        yield found


def received(client: socket.socket, port: Port) -> int:
    """How many bytes come until the connection ends, while turns go on."""
    client.setblocking(False)
    count, end = 0, time.monotonic() + 10
    while time.monotonic() < end:
        port.turn()
        with contextlib.suppress(BlockingIOError):
            piece = client.recv(1 << 20)
            if not piece:
                return count
            count += len(piece)
    raise TimeoutError


def is_dropped(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_silent_clients_never_replace_one_whose_request_has_come(port: Port) -> None:
    scraper = port.connect(GET)
    port.turn()
    for _ in range(100):
        port.connect()
    port.turns()
    assert received(scraper, port) == len(BODY)


def test_a_scraper_behind_silent_clients_is_answered_as_soon_as_it_is_accepted(port: Port) -> None:
    for _ in range(module._MOST_ACCEPTED - 1):
        port.connect()
    scraper = port.connect(GET)
    port.turn()
    scraper.setblocking(False)
    assert scraper.recv(1) == b"x"


def test_a_new_silent_client_replaces_the_oldest_one(port: Port) -> None:
    clients = [port.connect() for _ in range(module._MOST_SILENT + 1)]
    port.turns()
    assert [is_dropped(client) for client in clients] == [True] + [False] * module._MOST_SILENT


def test_a_new_reader_replaces_the_oldest_one(port: Port) -> None:
    clients = [port.connect(GET) for _ in range(module._MOST_READING + 1)]
    port.turn()
    assert len(port.scrapers._all()) == module._MOST_READING
    assert received(clients[-1], port) == len(BODY)


def test_a_silent_client_that_asks_leaves_its_place(port: Port) -> None:
    slow = port.connect(GET[:7])
    port.turn()
    slow.sendall(GET[7:])
    port.turn()
    for _ in range(100):
        port.connect()
    port.turns()
    assert received(slow, port) == len(BODY)


def test_clients_that_are_gone_take_no_place(port: Port) -> None:
    for _ in range(100):
        port.connect().close()
    port.turns()
    assert port.scrapers._all() == []


def test_clients_are_dropped_in_time(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLIENT_SECONDS", 0.05)
    clients = [port.connect(), port.connect(GET)]
    port.turn()
    left = port.scrapers.seconds_left()
    assert left is not None
    assert left <= 0.05
    time.sleep(0.06)
    port.turn()
    assert port.scrapers.seconds_left() is None
    assert is_dropped(clients[0])


def test_without_files_those_that_were_accepted_are_answered() -> None:
    port = Port(lambda _: b"whole")
    with port.open:
        client = port.connect(GET)
        real = port.listener

        class Short:
            """A listener of a process that may open one more file."""

            left = 1

            def accept(self) -> tuple[socket.socket, object]:
                if not self.left:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                self.left -= 1
                return real.accept()

        with pytest.raises(OSError, match="Too many open files"):
            port.scrapers.accept(Short())  # type: ignore[arg-type]  # all that is used of a socket
        assert client.recv(9) == b"whole"
