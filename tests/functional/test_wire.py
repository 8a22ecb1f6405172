# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The socket as real clients use it, in whole requests and in pieces, and as bad clients misuse it."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tools.synthetic import Shape

from .harness import (
    PATIENCE,
    READ_TIMEOUT,
    SERVED_WITHIN,
    Daemon,
    check_listing,
    connect,
    decode,
    encode,
    error_of,
    format_cpus,
    in_threads,
    open_files,
    read_to_end,
    run_all,
    wait_until,
)

LISTING: Final = encode("list_allocations", {})

#: One of each action.
ROUND: Final[list[tuple[str, dict[str, Any]]]] = [
    ("allocate_cores", {"service_name": "wire", "num_of_cores": 3}),
    ("allocate_cores_percent", {"service_name": "wire", "percent": 50}),
    ("allocate_numa_cores", {"service_name": "wire", "numa_node": 0, "num_of_cores": 2}),
    ("list_allocations", {}),
    ("get_memory_info", {"service_name": "wire"}),
    ("get_machine", {}),
    ("allocate_hugepages", {"service_name": "wire", "node_id": 0, "size_kb": 2048, "hugepages_requested": 4}),
    ("allocate_hugepages", {"service_name": "wire", "node_id": 0, "size_kb": 2048, "hugepages_requested": -1}),
    ("allocate_numa_cores", {"service_name": "wire", "numa_node": 0, "num_of_cores": -1}),
    ("allocate_cores", {"service_name": "wire", "num_of_cores": -1}),
]

#: 255 characters, the longest name: 1020 bytes in UTF-8, 3060 as JSON escapes.
LONGEST_NAME: Final = "\N{GRINNING FACE}" * 255


@pytest.mark.parametrize(("action", "fields"), ROUND)
def test_one_recv_gets_the_whole_answer(daemon: Daemon, action: str, fields: dict[str, Any]) -> None:
    with connect(daemon.socket_path) as client:
        client.sendall(encode(action, fields))
        answer = client.recv(4096)
        assert "error" not in decode(answer)
        assert client.recv(4096) == b"", "one answer, then the end"


@pytest.mark.parametrize(("action", "fields"), ROUND)
def test_answer_ends_with_end_of_file(daemon: Daemon, action: str, fields: dict[str, Any]) -> None:
    assert "error" not in decode(daemon.request(encode(action, fields), timeout=READ_TIMEOUT))


@pytest.mark.parametrize(("size", "pause"), [(1, 0.0), (1, 0.01), (7, 0.05), (40, 0.5)])
def test_accepts_a_request_in_pieces(daemon: Daemon, size: int, pause: float) -> None:
    name = "hôte-漢字-\N{GRINNING FACE}"
    request = b'{"action": "get_memory_info", "service_name": "%s", "x": "a } b \\" {"}' % name.encode()
    with connect(daemon.socket_path) as client:
        client.setblocking(True)
        for start in range(0, len(request), size):
            client.sendall(request[start : start + size])
            time.sleep(pause)
        client.settimeout(PATIENCE)
        assert decode(read_to_end(client))["service_name"] == name


def test_accepts_a_cut_inside_a_character(daemon: Daemon) -> None:
    request = '{"action": "get_memory_info", "service_name": "\N{GRINNING FACE}"}'.encode()
    middle = request.index("\N{GRINNING FACE}".encode())
    for cut in (middle + 1, middle + 2, middle + 3):
        with connect(daemon.socket_path) as client:
            client.sendall(request[:cut])
            time.sleep(0.1)
            client.sendall(request[cut:])
            assert decode(read_to_end(client))["service_name"] == "\N{GRINNING FACE}"


def test_escapes_name_the_same_service(daemon: Daemon) -> None:
    request = b'{"action": "get_memory_info", "service_name": "\\ud83d\\ude00 \\u00e9\\/"}'
    assert decode(daemon.request(request))["service_name"] == "\N{GRINNING FACE} é/"


@pytest.mark.parametrize("form", [b"\n\t %s", b"%s\n", b"%s \r\n\t ", b" %s "])
def test_accepts_blanks_around_the_request(daemon: Daemon, form: bytes) -> None:
    check_listing(decode(daemon.request(form % LISTING)))


def test_connection_gets_one_answer(daemon: Daemon) -> None:
    with connect(daemon.socket_path) as client:
        client.sendall(LISTING)
        check_listing(decode(read_to_end(client)))
        with contextlib.suppress(OSError):  # the daemon has closed the connection
            client.sendall(LISTING)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(4096) == b""


def test_answers_a_half_closed_connection(daemon: Daemon) -> None:
    with connect(daemon.socket_path) as client:
        client.sendall(LISTING)
        client.shutdown(socket.SHUT_WR)
        check_listing(decode(read_to_end(client)))


@pytest.mark.parametrize("sent", [b"{", LISTING[:-1], LISTING[:10]])
def test_refuses_an_incomplete_request_at_once(daemon: Daemon, sent: bytes) -> None:
    # No more bytes can come, so the answer need not wait for the read timeout.
    with connect(daemon.socket_path, timeout=READ_TIMEOUT - 1) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        error_of(decode(read_to_end(client)))


def test_answers_nothing_without_a_request(daemon: Daemon) -> None:
    # A client that only checks whether the socket is served sends no request.
    with connect(daemon.socket_path, timeout=READ_TIMEOUT - 1) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""


def test_answer_is_one_write(daemon: Daemon) -> None:
    # The first write wakes a client that waits in recv(). It gets the whole answer only if there is no second write;
    # the kernel takes up to 32 KiB in one piece.
    with Daemon(Shape(cores_per_l3=96, isolated="0-95")) as big:
        big.start()
        for number in range(96):
            big.cores(f"service-{number}", 1)
        for _ in range(20):
            with connect(big.socket_path) as client:
                client.sendall(LISTING)
                answer = client.recv(1 << 20)
                assert 8192 < len(answer) < 32768, "too small or too large for this test"
                assert len(check_listing(decode(answer))) == 96
                assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("action", "fields"), [each for each in ROUND if each[0] != "list_allocations"], ids=lambda value: str(value)[:30]
)
def test_grants_stay_below_4096_bytes(daemon: Daemon, action: str, fields: dict[str, Any]) -> None:
    answer = daemon.request(encode(action, fields | {"service_name": LONGEST_NAME}))
    daemon.cores(LONGEST_NAME, -1)
    daemon.pages(LONGEST_NAME, 0, 2048, -1)
    assert len(answer) < 4096
    assert "error" not in decode(answer)


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("x" * 60_000, {}),
        ("list_allocations", {"pool": "x" * 60_000}),
        ("list_allocations", {"version": "x" * 60_000}),
        ("list_allocations", {"service_name": "x" * 60_000}),
        ("allocate_cores", {"service_name": LONGEST_NAME, "preemption_policy": "\N{GRINNING FACE}" * 5000}),
        ("allocate_cores", {"service_name": LONGEST_NAME, "num_of_cores": int("9" * 4000)}),
        ("allocate_cores", {"service_name": LONGEST_NAME, "num_of_cores": "9" * 60_000}),
        ("allocate_numa_cores", {"service_name": LONGEST_NAME, "numa_node": int("9" * 4000), "num_of_cores": 1}),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_refusals_stay_below_4096_bytes(daemon: Daemon, action: str, fields: dict[str, Any]) -> None:
    answer = daemon.request(encode(action, fields))
    assert len(answer) < 4096
    error_of(decode(answer))


def test_refusal_with_the_longest_names_stays_below_4096_bytes(daemon: Daemon) -> None:
    name, other = LONGEST_NAME[:-1] + "1", LONGEST_NAME[:-1] + "2"
    daemon.numa(name, 0, 4)
    daemon.numa(other, 0, 2)
    answer = daemon.request(
        encode("allocate_numa_cores", {"service_name": LONGEST_NAME, "numa_node": 0, "num_of_cores": 6})
    )
    assert len(answer) < 4096
    error_of(decode(answer))
    for service in (name, other):
        daemon.cores(service, -1)


def test_answers_500_clients_at_once(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon.socket_path)) for _ in range(500)]
        for client in clients:
            client.sendall(LISTING[:20])
        for client in clients:
            client.sendall(LISTING[20:])
        answers = {read_to_end(client) for client in clients}
    (answer,) = answers
    assert check_listing(decode(answer)) == {}


def test_grants_500_clients_at_once() -> None:
    with Daemon(Shape(packages=2, l3_per_node=8, cores_per_l3=16, threads_per_core=2, isolated="0-511")) as big:
        big.start()
        granted: dict[str, str] = {}
        ready = threading.Barrier(50)

        def allocate(first: int) -> None:
            with contextlib.ExitStack() as stack:
                clients = {f"s{n}": stack.enter_context(connect(big.socket_path)) for n in range(first, first + 10)}
                ready.wait(PATIENCE)
                for name, client in clients.items():
                    client.sendall(encode("allocate_cores", {"service_name": name, "num_of_cores": 1}))
                for name, client in clients.items():
                    granted[name] = decode(client.recv(4096))["allocated_cores"]

        run_all([lambda first=first: allocate(first) for first in range(0, 500, 10)])
        assert len(set(granted.values())) == len(granted) == 500
        assert {name: format_cpus(cpus) for name, cpus in big.claims().items()} == granted


def served_within(daemon: Daemon, seconds: float = SERVED_WITHIN) -> None:
    """Check that the daemon answers a reading and a change in time."""
    for request in (LISTING, encode("allocate_cores", {"service_name": "prompt", "num_of_cores": 1})):
        started = time.monotonic()
        assert "error" not in decode(daemon.request(request))
        assert time.monotonic() - started < seconds
    daemon.cores("prompt", -1)


def test_slow_clients_time_out_without_delaying_others(daemon: Daemon) -> None:
    seen: list[tuple[str, float, bytes]] = []

    def wait_for_answer(kind: str, sent: bytes, trickle: bytes = b"") -> None:
        with connect(daemon.socket_path) as client:
            started = time.monotonic()
            client.sendall(sent)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for start in range(len(trickle)):
                    client.sendall(trickle[start : start + 1])
                    time.sleep(0.25)
            answer = read_to_end(client)
            seen.append((kind, time.monotonic() - started, answer))

    with in_threads(
        *[lambda: wait_for_answer("silent", b"")] * 20,
        *[lambda: wait_for_answer("blank", b" \n")] * 5,
        *[lambda: wait_for_answer("stalled", LISTING[:-1])] * 20,
        # The 5 s are for the whole request: a single byte does not extend them.
        *[lambda: wait_for_answer("trickling", b'{"x": "', b"a" * 40)] * 5,
    ):
        time.sleep(0.2)
        for _ in range(5):
            served_within(daemon)
    assert len(seen) == 50
    for kind, seconds, answer in seen:
        error_of(decode(answer))
        assert READ_TIMEOUT - 0.5 < seconds < READ_TIMEOUT + (6 if kind == "trickling" else 3), kind


def memory_kb(pid: int) -> int:
    """The greatest resident memory that the process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def test_endless_requests_are_cut_off(daemon: Daemon) -> None:
    before = memory_kb(daemon.pid)
    flood = b"a" * 65536
    ended = threading.Semaphore(0)
    sent: list[int] = []

    def pour() -> None:
        with connect(daemon.socket_path) as client:
            client.sendall(b'{"x": "')
            count = 0
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while True:
                    client.sendall(flood)
                    count += len(flood)
            sent.append(count)
            ended.release()

    started = time.monotonic()
    with in_threads(*[pour] * 2):
        while time.monotonic() - started < 2:
            served_within(daemon)
    # Each flood has ended, so the daemon has hung up; and it has not kept the bytes that it cannot use.
    assert len(sent) == 2
    assert memory_kb(daemon.pid) - before < 16 * 1024
    served_within(daemon)


def test_single_bytes_delay_no_other_client(daemon: Daemon) -> None:
    # A daemon that parsed the whole request again after each byte would be too slow.
    done = threading.Event()

    def pour() -> None:
        while not done.is_set():
            with connect(daemon.socket_path) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(b'{"x": "')
                for _ in range(60_000):
                    client.sendall(b"a")

    started = time.monotonic()
    with in_threads(*[pour] * 4):
        while time.monotonic() - started < 2:
            served_within(daemon)
        done.set()


def test_early_hang_up_leaves_no_connection(daemon: Daemon) -> None:
    before = open_files(daemon.pid)
    for _ in range(50):
        for sent in (b"", LISTING[:20], LISTING, b"no JSON", b"x" * 100_000):
            with connect(daemon.socket_path) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(sent)
    assert daemon.claims() == {}
    wait_until(lambda: open_files(daemon.pid) <= before, "every connection is closed again")
    assert "Traceback" not in daemon.log()


def test_change_is_carried_out_after_a_hang_up(daemon: Daemon) -> None:
    # No client reads the answer, but the request is whole, so the daemon carries it out.
    for number in range(20):
        with connect(daemon.socket_path) as client:
            client.sendall(encode("allocate_cores", {"service_name": "gone", "num_of_cores": 1 + number % 3}))
    wait_until(lambda: daemon.claims().get("gone") is not None, "the last request is carried out")
    assert len(daemon.cores("gone", 2)) == 2
    assert set(daemon.claims()) == {"gone"}
    daemon.cores("gone", -1)


def test_survives_2000_silent_connections(daemon: Daemon) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2000
    if hard != resource.RLIM_INFINITY and hard < wanted + 500:
        pytest.skip("this process may not open 2000 connections")
    before = open_files(daemon.pid)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 500), hard))
    try:
        with contextlib.ExitStack() as stack:
            clients: list[socket.socket] = []
            for _ in range(wanted):
                client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.settimeout(4 * PATIENCE)
                client.connect(str(daemon.socket_path))
                clients.append(client)
            for client in clients:
                error_of(decode(read_to_end(client)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    served_within(daemon)
    wait_until(lambda: open_files(daemon.pid) <= before, "every connection is closed again")
