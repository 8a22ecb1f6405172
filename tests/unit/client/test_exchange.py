# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""An exchange reads a whole answer or ends within its deadline, whatever the server does."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from epa_orchestrator.client import Client, RefusedByDaemon, Unreachable
from tests.functional.harness import in_threads
from tests.unit.client.builders import (
    LISTING,
    FakeServer,
    unreachable,
)


@pytest.mark.parametrize("timeout", [1e10, 1e300, float("inf")])
def test_timeout_may_have_any_length(timeout: float, server: FakeServer) -> None:
    server.answer({"version": "1.0"})
    assert Client(server.path, timeout).ask({"x": 1}) == {"version": "1.0"}


def test_answer_in_pieces_is_read_to_its_end(client: Client, server: FakeServer) -> None:
    answer = json.dumps(LISTING).encode()

    def in_pieces(connection: socket.socket) -> None:
        for start in range(0, len(answer), 7):
            connection.sendall(answer[start : start + 7])

    server.handler = in_pieces
    assert client.list_allocations().allocations[0].allocated_cores == "2-3"


def test_long_answer_is_read_to_its_end(client: Client, server: FakeServer) -> None:
    allocations = [LISTING["allocations"][0] | {"service_name": f"{number:0255}"} for number in range(5000)]
    server.answer(LISTING | {"allocations": allocations})
    assert len(client.list_allocations().allocations) == 5000


def test_path_that_is_too_long(directory: Path) -> None:
    assert "cannot be reached: AF_UNIX path too long" in unreachable(Client(directory / ("x" * 200)))


def test_path_through_a_file(directory: Path) -> None:
    (directory / "file").touch()
    assert "cannot be reached: Not a directory" in unreachable(Client(directory / "file" / "below"))


def test_path_without_permission(server: FakeServer) -> None:
    own = os.geteuid()
    server.path.parent.chmod(0o700 if own == 0 else 0)
    os.seteuid(65534 if own == 0 else own)
    try:
        assert "cannot be reached: Permission denied" in unreachable(Client(server.path))
    finally:
        os.seteuid(own)
        server.path.parent.chmod(0o700)


def test_silent_server_times_out(server: FakeServer) -> None:
    done = threading.Event()
    server.handler = lambda connection: done.wait(20)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        assert unreachable(Client(server.path, timeout=0.25)).endswith("did not answer within 0.25 seconds")
    finally:
        done.set()


def test_server_that_stalls_in_its_answer_times_out(server: FakeServer) -> None:
    done = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(b'{"version": "1.0", ')
        done.wait(20)

    server.handler = stall
    try:
        assert unreachable(Client(server.path, timeout=0.25)).endswith("did not answer within 0.25 seconds")
    finally:
        done.set()


def test_server_that_trickles_its_answer_times_out(server: FakeServer) -> None:
    """A byte every 50 ms for up to 15 s: each read is in time, the whole is not."""
    sent = [0]

    def trickle(connection: socket.socket) -> None:
        for byte in json.dumps(LISTING).encode()[:300]:
            connection.sendall(bytes([byte]))
            sent[0] += 1
            time.sleep(0.05)

    server.handler = trickle
    assert unreachable(Client(server.path, timeout=0.5)).endswith("did not answer within 0.5 seconds")
    assert 2 < sent[0] < 100


def test_server_that_does_not_close_times_out(server: FakeServer) -> None:
    done = threading.Event()

    def keep_open(connection: socket.socket) -> None:
        connection.sendall(json.dumps(LISTING).encode())
        done.wait(20)

    server.handler = keep_open
    try:
        assert unreachable(Client(server.path, timeout=0.25)).endswith("did not answer within 0.25 seconds")
    finally:
        done.set()


def test_client_waits_for_room_in_a_full_queue(directory: Path) -> None:
    """On Linux a connect(2) that does not wait fails with EAGAIN while the queue is full."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(directory / "epa.sock"))
        listener.listen(1)
        listener.settimeout(10)
        for _ in range(2):
            early = waiting.enter_context(socket.socket(socket.AF_UNIX))
            early.connect(str(directory / "epa.sock"))
        with socket.socket(socket.AF_UNIX) as late:
            late.setblocking(False)
            assert late.connect_ex(str(directory / "epa.sock")) == errno.EAGAIN

        def serve() -> None:
            time.sleep(0.2)
            for _ in range(2):
                listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(json.dumps(LISTING).encode())

        with in_threads(serve):
            listing = Client(directory / "epa.sock", timeout=20).list_allocations()
    assert listing.total_allocations == 1


def test_full_queue_is_served_first_come_first_served(directory: Path) -> None:
    """Otherwise clients that retry more often would take every place."""
    path = directory / "epa.sock"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        listener.settimeout(10)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        names = [f"waiting {number}" for number in range(8)]
        came: list[str] = []
        for name in names:
            stack.enter_context(in_threads(lambda name=name: Client(path, timeout=20).ask({"name": name})))
            time.sleep(0.3)
        listener.accept()[0].close()
        for _ in names:
            connection, _ = listener.accept()
            with connection:
                came.append(json.loads(connection.recv(65_536))["name"])
                connection.sendall(b"{}")
            time.sleep(0.01)
    assert came == names


def test_queue_that_stays_full_times_out(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(directory / "epa.sock"))
        listener.listen(1)
        for _ in range(2):
            waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(directory / "epa.sock"))
        sentence = unreachable(Client(directory / "epa.sock", timeout=0.25))
    assert sentence.endswith("did not answer within 0.25 seconds")


def test_refusal_before_the_request_is_sent_is_read(directory: Path) -> None:
    """To a request that is too long the server answers, and closes without reading the rest."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "epa.sock"))
        listener.listen()
        listener.settimeout(10)

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b'{"version": "1.0", "error": "The request is too long"}')

        with in_threads(refuse), pytest.raises(RefusedByDaemon, match=r"^The request is too long$"):
            Client(directory / "epa.sock", timeout=20).allocate("a" * 4_000_000, 1)


def test_server_that_closes_before_it_answers_is_unreachable(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "epa.sock"))
        listener.listen()
        listener.settimeout(10)

        def close() -> None:
            listener.accept()[0].close()

        with in_threads(close), pytest.raises(Unreachable, match="cannot be reached: "):
            Client(directory / "epa.sock", timeout=20).allocate("a" * 4_000_000, 1)
