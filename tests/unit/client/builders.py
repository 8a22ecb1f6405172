# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tools for tests of the client: a server under the test's control, and answers as a daemon sends them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.client import Client, DaemonError, Unreachable

Handler = Callable[[socket.socket], None]


class FakeServer:
    """Serves a real socket as a test says, and keeps the requests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: list[bytes] = []
        self.handler: Handler = lambda connection: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def answer(self, answer: bytes | dict[str, Any]) -> None:
        """Send this answer to every request from now on."""
        encoded = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.handler = lambda connection: connection.sendall(encoded)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                self.received.append(connection.recv(65_536))
                try:
                    self.handler(connection)
                except OSError:  # the client has gone, as some tests want
                    continue


TAIL = {"total_available_cpus": 6, "remaining_available_cpus": 4, "pool": "isolated", "preemption_policy": "legacy"}


CORES = {
    "version": "1.0",
    "service_name": "a",
    "num_of_cores": 2,
    "cores_allocated": 2,
    "allocated_cores": "2-3",
    "shared_cpus": "4-7",
    **TAIL,
}


RELEASED = {"num_of_cores": 0, "cores_allocated": 0, "allocated_cores": ""}


PERCENT = {"version": "1.0", "service_name": "a", "cores_allocated_count": 2, "allocated_cores": "2-3", **TAIL}


NUMA = {"version": "1.0", "service_name": "a", "numa_node": 1, "num_of_cores": 2, "cores_allocated": "2-3", **TAIL}


PAGES = {
    "version": "1.0",
    "service_name": "a",
    "hugepages_requested": 4,
    "allocation_successful": True,
    "message": "Successfully set allocation request to 4 hugepages",
    "node_id": 1,
    "size_kb": 2048,
}


MEMORY = {
    "version": "1.0",
    "service_name": "",
    "numa_hugepages": {
        "node0": {"capacity": [{"total": 8, "free": 4, "size": 2048}], "allocations": {"a": {"2048": 4}}}
    },
}


LISTING: dict[str, Any] = {
    "version": "1.0",
    "supported_cpu_features": ["non-preemptive-allocations", "cpu-pools"],
    "pool": "isolated",
    "total_allocations": 1,
    "total_allocated_cpus": 2,
    "total_available_cpus": 6,
    "remaining_available_cpus": 4,
    "cpu_pool": {
        "source": "isolated",
        "configured_cpus": "2-7",
        "eligible_cpus": "2-7",
        "unavailable_allocated_cpus": "",
    },
    "outdated_placements": [],
    "allocations": [
        {
            "service_name": "a",
            "pool": "isolated",
            "allocated_cores": "2-3",
            "cores_count": 2,
            "is_explicit": False,
            "preemption_policy": "legacy",
        }
    ],
}


def unreachable(client: Client) -> str:
    """The sentence of a daemon that is unreachable; it names the socket and is one line."""
    with pytest.raises(Unreachable) as caught:
        client.list_allocations()
    return sentence_of(caught.value, client)


def sentence_of(error: DaemonError, client: Client) -> str:
    assert str(client.path)[:60] in str(error)
    assert str(error).isprintable()
    return str(error)
