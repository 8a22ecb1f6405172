# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Exporter: serves on loopback, survives hostile clients, and says when its port is taken."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from epa_orchestrator.metrics import exporter as module
from epa_orchestrator.metrics import scrapers
from epa_orchestrator.metrics.exporter import HOST, Exporter

Reports = queue.SimpleQueue[str | None]
GET = b"GET /metrics HTTP/1.1\r\n\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def exporting(port: int, render: Callable[[], bytes] = lambda: b"epa 1\n") -> Generator[Reports]:
    reports: Reports = queue.SimpleQueue()
    exporter = Exporter(port, lambda: (render, "text/plain"), lambda _, problem: reports.put(problem))
    exporter.start()
    try:
        yield reports
    finally:
        exporter.stop()
        exporter.join(10)
        assert not exporter._thread.is_alive()


@contextlib.contextmanager
def serving(render: Callable[[], bytes] = lambda: b"epa 1\n") -> Generator[int]:
    port = free_port()
    with exporting(port, render) as reports:
        assert reports.get(timeout=10) is None
        yield port


def get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        return answer.read()


def ask(port: int, request: bytes) -> bytes:
    with socket.create_connection((HOST, port), timeout=10) as client:
        client.sendall(request)
        found = b""
        while piece := client.recv(65536):
            found += piece
        return found


def test_metrics_are_served() -> None:
    with serving() as port:
        assert get(port) == b"epa 1\n"
        assert get(port) == b"epa 1\n"


def test_only_loopback_is_served() -> None:
    with serving() as port:
        lines = Path("/proc/net/tcp").read_text("ascii").splitlines()
        listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
        assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_long_answer_comes_whole() -> None:
    body = os.urandom(4_000_000)
    with serving(lambda: body) as port:
        assert get(port) == body


def test_request_may_come_in_pieces() -> None:
    with serving() as port, socket.create_connection((HOST, port), timeout=10) as client:
        for byte in GET:
            client.sendall(bytes([byte]))
            time.sleep(0.001)
        assert client.recv(65536).endswith(b"epa 1\n")


def test_silent_clients_keep_nobody_out() -> None:
    with serving() as port, contextlib.ExitStack() as silent:
        for _ in range(40):
            silent.enter_context(socket.create_connection((HOST, port), timeout=10))
        begin = time.monotonic()
        assert get(port) == b"epa 1\n"
        assert time.monotonic() - begin < scrapers._CLIENT_SECONDS


def test_a_crowd_of_silent_clients_delays_no_scraper() -> None:
    """As many as wait in the kernel's queue at most, a few of them gone already."""
    with serving() as port, contextlib.ExitStack() as silent:
        for number in range(900):
            client = silent.enter_context(socket.create_connection((HOST, port), timeout=10))
            if number % 3 == 0:
                client.close()
        begin = time.monotonic()
        assert get(port) == b"epa 1\n"
        assert time.monotonic() - begin < 1


def test_each_turn_makes_the_text_again() -> None:
    texts = iter((b"1", b"2"))
    with serving(lambda: next(texts)) as port:
        assert (get(port), get(port)) == (b"1", b"2")


def test_a_crowd_of_clients_has_one_thread() -> None:
    threads = threading.active_count()
    with serving() as port, contextlib.ExitStack() as silent:
        for _ in range(40):
            silent.enter_context(socket.create_connection((HOST, port), timeout=10))
        get(port)
        assert threading.active_count() == threads + 1


def test_client_that_sends_nothing_is_dropped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEFER_SECONDS", 1)
    monkeypatch.setattr(scrapers, "_CLIENT_SECONDS", 0.1)
    with serving() as port, socket.create_connection((HOST, port), timeout=10) as client:
        assert client.recv(1) == b""


def test_client_that_does_not_read_is_dropped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapers, "_CLIENT_SECONDS", 0.2)
    with serving(lambda: bytes(50_000_000)) as port, socket.create_connection((HOST, port), timeout=10) as client:
        client.sendall(GET)
        time.sleep(0.5)
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(1 << 20):
                received += len(piece)
        assert received < 50_000_000


def test_error_while_rendering_shows_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> bytes:
        raise ZeroDivisionError("secret")

    with serving(fail) as port, caplog.at_level(logging.ERROR):
        answer = ask(port, GET)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in answer
        assert b"Traceback" not in answer
        ask(port, GET)
    assert len(caplog.records) == 1


def test_rubbish_gets_an_error_and_the_next_client_its_metrics() -> None:
    with serving() as port:
        assert ask(port, b"\x00" * 9000).startswith(b"HTTP/1.1 431 ")
        assert get(port) == b"epa 1\n"


def test_port_in_use_is_reported_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with exporting(port) as reports:
            sentence = reports.get(timeout=10)
            assert sentence is not None
            assert f"port {port} of 127.0.0.1 (metrics-port) cannot be opened: another process uses it" in sentence
            other.close()
            while reports.get(timeout=10) is not None:
                pass
            assert get(port) == b"epa 1\n"


def test_next_exporter_takes_the_same_port() -> None:
    port, reports = free_port(), Reports()
    first = Exporter(port, lambda: (lambda: b"1", "x"), lambda _, problem: reports.put(problem))
    first.start()
    assert reports.get(timeout=10) is None
    first.stop()
    second = Exporter(port, lambda: (lambda: b"2", "x"), lambda _, problem: reports.put(problem), first)
    second.start()
    assert reports.get(timeout=10) is None
    assert get(port) == b"2"
    second.stop()
    second.join(10)


def test_thread_rests_longer_than_it_works() -> None:
    """However many scrapes come, the event loop has the interpreter most of the time."""

    def work() -> bytes:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return b"x"

    with serving(work) as port:
        begin = time.monotonic()
        for _ in range(5):
            get(port)
        assert time.monotonic() - begin > 4 * 0.02 * (1 + module._REST_FACTOR)
