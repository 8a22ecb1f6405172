# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""SIGTERM: every request that has reached the daemon is answered before it ends."""

from __future__ import annotations

import contextlib
import signal
import time

from .harness import READ_TIMEOUT, Daemon, connect, decode, encode, in_threads, parse_cpus, read_to_end, wait_until
from .starting import LISTING


def test_sigterm_ends_with_exit_code_zero(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not daemon.socket_path.exists()


def test_sigterm_answers_requests_in_flight(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        clients = {f"svc-{number:02}": stack.enter_context(connect(daemon.socket_path)) for number in range(12)}
        requests = {name: encode("allocate_cores", {"service_name": name, "num_of_cores": 1}) for name in clients}
        for name, client in clients.items():
            client.sendall(requests[name][:10])
        daemon.claims()  # by now all of them have been accepted
        daemon.send_signal(signal.SIGSTOP)
        for name, client in clients.items():
            client.sendall(requests[name][10:])
        daemon.send_signal(signal.SIGTERM)
        daemon.send_signal(signal.SIGCONT)
        granted = {name: parse_cpus(decode(read_to_end(client))["allocated_cores"]) for name, client in clients.items()}
    assert daemon.wait() == 0
    daemon.start()
    assert daemon.claims() == granted


def test_sigterm_answers_waiting_connections(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        daemon.send_signal(signal.SIGSTOP)
        clients = [stack.enter_context(connect(daemon.socket_path)) for _ in range(300)]
        for client in clients[:-12]:
            client.sendall(LISTING)
        for number, client in enumerate(clients[-12:]):
            client.sendall(encode("allocate_cores", {"service_name": f"svc-{number}", "num_of_cores": 1}))
        daemon.send_signal(signal.SIGTERM)
        daemon.send_signal(signal.SIGCONT)
        for client in clients:
            assert "error" not in decode(read_to_end(client))
    assert daemon.wait() == 0
    daemon.start()
    assert len(daemon.claims()) == 12


def test_sigterm_gives_up_on_silent_clients(daemon: Daemon) -> None:
    with connect(daemon.socket_path), connect(daemon.socket_path) as stalled:
        stalled.sendall(LISTING[:10])
        daemon.claims()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(READ_TIMEOUT + 5) == 0
    assert not daemon.socket_path.exists()


def test_sigterm_leaves_no_request_unanswered(daemon: Daemon) -> None:
    granted: dict[str, int] = {}

    def ask(name: str) -> None:
        for turn in range(100_000):
            count = 1 + turn % 2
            try:
                answer = daemon.request(encode("allocate_cores", {"service_name": name, "num_of_cores": count}))
            except OSError:
                return
            if not answer:
                raise AssertionError("no answer to a whole request")
            granted[name] = decode(answer)["cores_allocated"]

    with in_threads(*[lambda name=name: ask(name) for name in ("a", "b", "c")]):
        try:
            wait_until(lambda: len(granted) == 3, "all are served")
            time.sleep(0.2)
        finally:
            assert daemon.stop() == 0
    daemon.start()
    assert {name: len(cpus) for name, cpus in daemon.claims().items()} == granted
