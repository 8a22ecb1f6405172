# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Servers that answer late, in pieces, with nonsense or not at all cannot hold the library up, or mislead it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from charms.epa_orchestrator.v0 import epa
from tests.functional.harness import open_files

LISTING: dict[str, Any] = {
    "version": "1.0",
    "supported_cpu_features": ["watch"],
    "pool": "isolated",
    "total_allocations": 0,
    "total_available_cpus": 4,
    "remaining_available_cpus": 4,
    "allocations": [],
}
GRANT = {
    "version": "1.0",
    "service_name": "a",
    "num_of_cores": 2,
    "cores_allocated": 2,
    "allocated_cores": "2-3",
    "total_available_cpus": 4,
    "remaining_available_cpus": 2,
}

#: What a server does with a connection, after it has read the request.
Serve = Callable[[socket.socket], None]


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="epa-"))
    yield path
    shutil.rmtree(path)


@contextlib.contextmanager
def serving(directory: Path, *turns: Serve) -> Generator[epa.Client]:
    """A client, with a server that serves one connection in each of these ways."""
    path = directory / "epa.sock"
    failures: list[BaseException] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)

        def serve() -> None:
            for turn in turns:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.settimeout(30)
                    assert connection.recv(65_536)
                    turn(connection)

        def run() -> None:
            try:
                serve()
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        before = open_files(os.getpid())
        yield epa.Client(path, timeout=1)
        thread.join(30)
        assert failures == []
        assert open_files(os.getpid()) <= before, "the client has left a connection open"
    path.unlink()


def sends(content: bytes | dict[str, Any]) -> Serve:
    """Send this, and close."""
    return lambda connection: connection.sendall(
        content if isinstance(content, bytes) else json.dumps(content).encode()
    )


def waits(connection: socket.socket) -> None:
    """Answer nothing, until the client gives up."""
    connection.recv(1)


def drips(connection: socket.socket) -> None:
    """Send a byte every 0.2 s: each one comes in time, but the whole answer does not."""
    for byte in json.dumps(LISTING).encode():
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


@pytest.mark.parametrize("serve", [waits, drips])
def test_timeout_is_for_the_whole_exchange(directory: Path, serve: Serve) -> None:
    with serving(directory, serve) as client:
        begin = time.monotonic()
        with pytest.raises(epa.TimedOut, match="did not answer in time"):
            client.listing()
        assert 0.9 < time.monotonic() - begin < 2


def test_full_queue_of_a_server_times_out(directory: Path) -> None:
    path = directory / "epa.sock"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(path))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(path))
        begin = time.monotonic()
        with pytest.raises(epa.TimedOut):
            epa.Client(path, timeout=0.5).listing()
        assert time.monotonic() - begin < 2


def test_answer_in_many_pieces_is_read_to_its_end(directory: Path) -> None:
    claims = [{"service_name": f"s{n}", "allocated_cores": str(n)} for n in range(2000)]
    content = json.dumps(LISTING | {"allocations": claims}).encode()

    def serve(connection: socket.socket) -> None:
        for start in range(0, len(content), 5000):
            connection.sendall(content[start : start + 5000])
            time.sleep(0.01)

    with serving(directory, serve) as client:
        assert len(client.listing().claims) == 2000


def endless(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(b"{" + b" " * (17 * 1024 * 1024))


def test_huge_answer_is_given_up(directory: Path) -> None:
    with serving(directory, endless) as client:
        client.timeout = 30
        with pytest.raises(epa.InvalidAnswer, match="more than 16777216 bytes"):
            client.listing()


NONSENSE: dict[str, bytes | dict[str, Any]] = {
    "a word": b"hello",
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": b'{"version": "\xff"}',
    "deep nesting": b"[" * 100_000,
    "a long number": b'{"version": ' + b"9" * 5000 + b"}",
    "two answers": json.dumps(LISTING).encode() * 2,
    "an empty object": {},
    "another version": LISTING | {"version": "2.0"},
    "no version": {name: value for name, value in LISTING.items() if name != "version"},
    "claims that are a text": LISTING | {"allocations": "none"},
    "claims that are numbers": LISTING | {"allocations": [5]},
    "a count that is a list": LISTING | {"total_available_cpus": []},
    "CPUs that are a number": LISTING | {"allocations": [{"service_name": "a", "allocated_cores": 5}]},
    "a count that is infinite": LISTING | {"total_available_cpus": float("inf")},
    "a count that is a fraction": LISTING | {"total_available_cpus": 4.7},
    "a count that is a text": LISTING | {"total_available_cpus": "4"},
    "a count that is true": LISTING | {"remaining_available_cpus": True},
    "features that are a text": LISTING | {"supported_cpu_features": "watch"},
    "features that are an object": LISTING | {"supported_cpu_features": {"dry-run": False}},
    "warnings that are a text": LISTING | {"warnings": "abc"},
    "a state error that is no text": LISTING | {"state_error": 5},
    "the claims of another pool": LISTING | {"pool": "general"},
    "an event": {"event": "state"} | {name: value for name, value in LISTING.items() if name != "version"},
    "a name that is a list": LISTING | {"allocations": [{"service_name": ["a"], "allocated_cores": "1"}]},
    "a policy that is a list": LISTING
    | {"allocations": [{"service_name": "a", "allocated_cores": "1", "preemption_policy": ["x"]}]},
    "an explicit claim that is a text": LISTING
    | {"allocations": [{"service_name": "a", "allocated_cores": "1", "is_explicit": "no"}]},
    "CPUs backwards": LISTING | {"allocations": [{"service_name": "a", "allocated_cores": "5-3"}]},
    "too many CPUs": LISTING | {"allocations": [{"service_name": "a", "allocated_cores": "0-99999"}]},
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_invalid_answer(directory: Path, content: bytes | dict[str, Any]) -> None:
    with serving(directory, sends(content)) as client, pytest.raises(epa.InvalidAnswer) as caught:
        client.listing()
    sentence = str(caught.value)
    assert sentence.startswith(f"The server at {client.path} gave an answer that this library does not understand (")
    assert sentence.isprintable()
    assert not caught.value.outcome_unknown


OTHERS: dict[str, dict[str, Any]] = {
    "another service": {"service_name": "b"},
    "another pool": {"pool": "general"},
    "fewer CPUs": {"allocated_cores": "2"},
    "a dry run": {"dry_run": True},
    "a dry run as text": {"dry_run": "false"},
    "another node": {"numa_node": 1, "cores_allocated": "2-3"},
    "no node": {"cores_allocated": "2-3"},
    "another policy": {"preemption_policy": "legacy"},
    "no policy": {"preemption_policy": None},
    "taken CPUs that are a list": {"taken": []},
}
#: What the request of these has, but for its 2 CPUs.
WISHES: dict[str, dict[str, Any]] = {
    "a dry run as text": {"dry_run": True},
    "another node": {"numa_node": 0},
    "no node": {"numa_node": 0},
    "another policy": {"preemption_policy": "non-preemptive"},
    "no policy": {"preemption_policy": "non-preemptive"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_answer_to_another_request_is_invalid_and_leaves_the_change_unknown(directory: Path, name: str) -> None:
    wishes = WISHES.get(name, {})
    listing = LISTING | {"supported_cpu_features": ["dry-run", "non-preemptive-allocations"]}
    features = [sends(listing)] if {"dry_run", "preemption_policy"} & set(wishes) else []
    with serving(directory, *features, sends(GRANT | OTHERS[name])) as client:
        with pytest.raises(epa.InvalidAnswer) as caught:
            client.allocate("a", 2, **wishes)
        assert caught.value.outcome_unknown


@pytest.mark.parametrize("size", [{"percent": 50}, {"default_size": True}], ids=str)
def test_grant_of_no_cpus_is_invalid(directory: Path, size: dict[str, Any]) -> None:
    """A program that is bound to no CPUs would run on all of them."""
    empty = sends(GRANT | {"allocated_cores": ""})
    with serving(directory, empty) as client, pytest.raises(epa.InvalidAnswer, match=r"\(ValueError: no CPUs\)"):
        client.allocate("a", **size)


RECORD = {
    "version": "1.0",
    "service_name": "a",
    "hugepages_requested": 4,
    "allocation_successful": True,
    "message": "",
    "node_id": 0,
    "size_kb": 2048,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"allocation_successful": False},
        {"allocation_successful": None},
        {"service_name": "b"},
        {"node_id": 1},
        {"size_kb": 4},
        {"hugepages_requested": 3},
    ],
    ids=str,
)
def test_hugepages_are_recorded_only_if_the_answer_says_so(directory: Path, changes: dict[str, Any]) -> None:
    with serving(directory, sends(RECORD), sends(RECORD | changes)) as client:
        client.record_hugepages("a", 0, 2048, 4)
        with pytest.raises(epa.InvalidAnswer) as caught:
            client.record_hugepages("a", 0, 2048, 4)
        assert caught.value.outcome_unknown


BOMBS: dict[str, dict[str, Any]] = {
    "a long list": {"allocations": [{"service_name": "a", "allocated_cores": ",".join(["0-65535"] * 1_000_000)}]},
    "many lists": {"allocations": [{"service_name": "a", "allocated_cores": "0-65535"}] * 10_000},
}


@pytest.mark.parametrize("changes", BOMBS.values(), ids=BOMBS)
def test_cpu_lists_cost_no_more_than_the_cpus_of_a_host(directory: Path, changes: dict[str, Any]) -> None:
    """Without a limit, the first takes minutes, and the second all memory."""
    with serving(directory, sends(LISTING | changes)) as client:
        client.timeout = 30
        begin = time.process_time()
        with pytest.raises(epa.InvalidAnswer, match="more than 65536 CPUs"):
            client.listing()
        assert time.process_time() - begin < 10


def test_texts_of_the_server_are_safe_in_a_log(directory: Path) -> None:
    text = "a\x1b[2J\nb"
    claim = {"service_name": "\ud800\x1b", "allocated_cores": "1"}
    listing = LISTING | {"warnings": [text], "state_error": text, "allocations": [claim]}
    with serving(directory, sends(listing)) as client:
        listed = client.listing()
    assert (listed.warnings, listed.state_error) == (("a [2J b",), "a [2J b")
    assert listed.claims[0].service == "\ufffd\ufffd"


def test_signals_do_not_end_a_wait_for_a_full_queue(directory: Path) -> None:
    """Only the main thread of a process gets signals; Python takes an interrupted connect(2) for a connection."""
    path = directory / "epa.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as earlier:
        listener.bind(str(path))
        listener.listen(0)
        earlier.connect(str(path))

        def serve() -> None:
            time.sleep(0.5)
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(json.dumps(GRANT).encode())

        signals: list[int] = []
        before = signal.signal(signal.SIGALRM, lambda number, _: signals.append(number))
        server = threading.Thread(target=serve)
        server.start()
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        try:
            assert str(epa.Client(path, timeout=10).allocate("a", 2).cpus) == "2-3"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            server.join(30)
        assert len(signals) > 1


@pytest.mark.parametrize("content", [b"", json.dumps(GRANT).encode()[:-9]], ids=["nothing", "a part"])
def test_lost_answer_leaves_the_change_unknown(directory: Path, content: bytes) -> None:
    with serving(directory, sends(content), sends(GRANT)) as client:
        with pytest.raises(epa.Unavailable, match=r"not known whether the change was made: send the same") as caught:
            client.allocate("a", 2)
        assert caught.value.outcome_unknown
        assert str(client.allocate("a", 2).cpus) == "2-3"


def test_late_answer_leaves_the_change_unknown(directory: Path) -> None:
    with serving(directory, waits) as client, pytest.raises(epa.TimedOut) as caught:
        client.allocate("a", 2)
    assert caught.value.outcome_unknown


def test_lost_reading_leaves_nothing_unknown(directory: Path) -> None:
    with serving(directory, sends(b"")) as client, pytest.raises(epa.Unavailable) as caught:
        client.listing()
    assert not caught.value.outcome_unknown
    assert "not known" not in str(caught.value)


def test_refusal_is_safe_in_a_log(directory: Path) -> None:
    refusal = {"version": "1.0", "error": "no\x1b[31m\n" + "x" * 10_000}
    with serving(directory, sends(refusal)) as client, pytest.raises(epa.Refused) as caught:
        client.allocate("a", 2)
    assert str(caught.value).startswith("no [31m xxx")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 4096


def test_refusal_before_the_whole_request_was_read_is_seen(directory: Path) -> None:
    """The server closes its side without having read everything, so that sending may fail."""
    refusal = sends({"version": "1.0", "error": "too large"})
    with serving(directory, refusal) as client, pytest.raises(epa.Refused, match=r"^too large$"):
        client.allocate("a" * 500_000, 2)


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


STATE = line(event="state", **LISTING, hugepages={})
CLAIM = line(event="claim", service_name="a", before=None, after={"service_name": "a", "allocated_cores": "2"})


def test_watch_connects_again_after_a_line_that_was_cut_off_or_stalls(directory: Path) -> None:
    def stalls(connection: socket.socket) -> None:
        connection.sendall(STATE + CLAIM[:9])
        connection.recv(1)

    turns = (sends(LISTING), sends(STATE + CLAIM + CLAIM[:9]), stalls, sends(STATE))
    with serving(directory, *turns) as client, client.watch(reconnect_within=5) as events:
        assert [next(events).kind for _ in range(4)] == ["state", "claim", "state", "state"]


def test_unknown_events_are_passed_on(directory: Path) -> None:
    turns = (sends(LISTING), sends(STATE + line(event="later", x=1)))
    with serving(directory, *turns) as client, client.watch() as events:
        assert [next(events).kind for _ in range(2)] == ["state", "later"]


def test_watch_that_ends_at_once_does_not_make_the_client_busy(directory: Path) -> None:
    with serving(directory, sends(LISTING), *[sends(STATE)] * 3) as client, client.watch() as events:
        begin = time.monotonic()
        assert [next(events).kind for _ in range(3)] == ["state"] * 3
        assert time.monotonic() - begin >= 2 * 0.5


def test_watch_begins_with_the_state(directory: Path) -> None:
    with (
        serving(directory, sends(LISTING), sends(CLAIM)) as client,
        client.watch() as events,
        pytest.raises(epa.InvalidAnswer, match="the first event is 'claim'"),
    ):
        next(events)


@pytest.mark.parametrize("content", [b"hello\n", b"[]\n", b"\n\n", b"\0\n", line(event="claim"), line(x=1)])
def test_nonsense_in_a_watch_is_an_invalid_answer(directory: Path, content: bytes) -> None:
    with serving(directory, sends(LISTING), sends(STATE + content)) as client, client.watch() as events:
        next(events)
        with pytest.raises(epa.InvalidAnswer):
            next(events)


def test_huge_line_of_a_watch_is_given_up(directory: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(STATE)
        endless(connection)

    with serving(directory, sends(LISTING), serve) as client, client.watch() as events:
        client.timeout = 30
        next(events)
        with pytest.raises(epa.InvalidAnswer, match="more than 16777216 bytes"):
            next(events)


def test_refused_watch_is_refused(directory: Path) -> None:
    refusal = {"version": "1.0", "error": "Too many connections of user 0 watch"}
    turns = (sends(LISTING), sends(refusal))
    with (
        serving(directory, *turns) as client,
        client.watch() as events,
        pytest.raises(epa.Refused, match="Too many connections"),
    ):
        next(events)
