# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watching: the client passes on checked events, and ends with a sentence whatever a server sends."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from epa_orchestrator.client import Client, DaemonError, RefusedByDaemon, Unreachable, WatchEnded
from epa_orchestrator.protocol.watching import ClaimEvent, HugepagesEvent, MachineEvent, StateEvent
from tests.unit.client.builders import LISTING, FakeServer, sentence_of

STATE: dict[str, Any] = LISTING | {"event": "state", "hugepages": {}}
(CLAIM,) = LISTING["allocations"]
GONE: dict[str, Any] = {"event": "claim", "service_name": "a", "before": CLAIM, "after": None, "taken_from": {}}
PAGES = {"event": "hugepages", "service_name": "a", "node_id": 0, "size_kb": 2048, "before": 0, "after": 1}
MACHINE: dict[str, Any] = {
    "event": "machine",
    "online_cpus": "0-7",
    "isolated_cpus": "2-7",
    "pools": {
        "isolated": {
            "total_available_cpus": 6,
            "remaining_available_cpus": 6,
            "cpu_pool": LISTING["cpu_pool"],
            "outdated_placements": [],
        }
    },
}


def lines(*documents: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def mistake(client: Client) -> str:
    """The sentence after some events."""
    with pytest.raises(DaemonError) as caught, client.watch() as events:
        for _ in events:
            pass
    assert not isinstance(caught.value, WatchEnded)
    return sentence_of(caught.value, client)


def test_gives_every_event(client: Client, server: FakeServer) -> None:
    server.answer(lines(STATE, GONE, PAGES, MACHINE))
    with client.watch() as events:
        kinds = [type(next(events)) for _ in range(4)]
    assert kinds == [StateEvent, ClaimEvent, HugepagesEvent, MachineEvent]
    assert json.loads(server.received[0]) == {"version": "1.0", "action": "watch", "pool": "isolated"}


def test_gives_events_that_come_in_pieces(client: Client, server: FakeServer) -> None:
    def send_slowly(connection: socket.socket) -> None:
        for byte in lines(STATE, GONE):
            connection.send(bytes([byte]))

    server.handler = send_slowly
    with client.watch() as events:
        next(events)
        assert events.document == STATE
        assert next(events) == ClaimEvent.model_validate(GONE)


def test_leaves_out_events_that_it_does_not_know(client: Client, server: FakeServer) -> None:
    server.answer(lines(STATE, {"event": "later", "x": [1]}, {"no": "event"}, GONE))
    with client.watch() as events:
        next(events)
        assert isinstance(next(events), ClaimEvent)


def test_ends_with_an_error_when_the_daemon_ends_it(client: Client, server: FakeServer) -> None:
    server.answer(lines(STATE) + lines(GONE)[:20])  # the last line is cut off
    with client.watch() as events:
        next(events)
        with pytest.raises(WatchEnded) as caught:
            next(events)
        with pytest.raises(StopIteration):
            next(events)
    assert "has ended the watch" in sentence_of(caught.value, client)


def test_ends_without_an_error_when_the_client_closes_it(client: Client, server: FakeServer) -> None:
    server.answer(lines(STATE, GONE))
    events = client.watch()
    next(events)
    events.close()
    assert list(events) == []


def test_tells_whether_more_comes(client: Client, server: FakeServer) -> None:
    more = threading.Event()

    def send(connection: socket.socket) -> None:
        connection.sendall(lines(STATE))
        more.wait(20)
        connection.sendall(lines(GONE))

    server.handler = send
    with client.watch() as events:
        next(events)
        assert not events.has_more(0.05)
        more.set()
        assert events.has_more(20)


def test_waits_for_a_change_as_long_as_it_takes(server: FakeServer) -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(lines(STATE))
        threading.Event().wait(0.6)
        connection.sendall(lines(GONE))

    server.handler = send
    with Client(server.path, timeout=0.3).watch() as events:
        next(events)
        assert isinstance(next(events), ClaimEvent)


@pytest.mark.parametrize("sent", [b"", lines(STATE) + b'{"event'])
def test_a_line_that_has_begun_has_a_time(server: FakeServer, sent: bytes) -> None:
    done = threading.Event()

    def send(connection: socket.socket) -> None:
        connection.sendall(sent)
        done.wait(20)

    server.handler = send
    with pytest.raises(Unreachable, match=r"did not answer within 0\.3 seconds"):
        for _ in Client(server.path, timeout=0.3).watch():
            pass
    done.set()


def test_a_refusal_is_raised(client: Client, server: FakeServer) -> None:
    server.answer({"version": "1.0", "error": "Unknown action: watch"})  # an older daemon
    with pytest.raises(RefusedByDaemon, match="Unknown action: watch"):
        next(client.watch())


def test_no_daemon(client: Client, server: FakeServer) -> None:
    server.path.unlink()
    with pytest.raises(Unreachable, match="No daemon serves"):
        next(client.watch())


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"garbage\n", "did not answer with a JSON object"),
        (b"\xff\xfe\n", "did not answer with a JSON object"),
        (lines(LISTING), "event: field required"),
        (lines(STATE | {"pool": "general"}), "it is about pool general, not isolated"),
        (lines(STATE | {"hugepages": {"\x1b[2J": []}}), "service_name holds control characters"),
        (lines(STATE) + b"[]\n", "did not answer with a JSON object"),
        (lines(STATE, GONE | {"before": None}), "neither there before nor after"),
        (lines(STATE, GONE | {"taken_from": {"b": "x"}}), "taken_from is not a CPU list: 'x'"),
        (lines(STATE, GONE | {"taken_by": "\x1b[2J"}), "taken_by holds control characters"),
        (lines(STATE, PAGES | {"after": -5}), "after is out of range"),
        (lines(STATE, MACHINE | {"online_cpus": "7-1"}), "a range that runs backwards"),
        (lines(STATE, MACHINE | {"pools": {"other": {}}}), "pools.other"),
    ],
)
def test_a_mistake_ends_the_watch(client: Client, server: FakeServer, sent: bytes, sentence: str) -> None:
    server.answer(sent)
    assert sentence in mistake(client)


def endless(piece: bytes) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(lines(STATE))
        while True:
            connection.sendall(piece)

    return send


@pytest.mark.parametrize("piece", [b" " * 65_536, b"[" * 65_536, b'"' * 65_536])
def test_an_endless_line_ends_the_watch(
    client: Client, server: FakeServer, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epa_orchestrator.client.client._MAX_ANSWER_BYTES", 1 << 20)
    server.handler = endless(piece)
    assert "sends a line of more than 1048576 bytes" in mistake(client)
