# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Stands in for the older daemon: version 1.0 of the protocol, and the weaknesses that a client has to know of.

It ignores fields that it does not know, reads a request with one recv(1024), takes any number below 1 as a wish for
80 percent of the CPUs, needs a service for a listing, and ends when a client hangs up without a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.functional.harness import format_cpus

NODES = {0: range(8), 1: range(8, 16)}


class OlderDaemon:
    """Serves the CPUs 0-15 in two NUMA nodes. `claims` is its state, `requests` has every request that it got.

    `features` are those that its listing names; None leaves the field out, as the oldest ones do.
    """

    def __init__(self, path: Path, features: Sequence[str] | None) -> None:
        self.path = path
        self.features = features
        self.claims: dict[str, set[int]] = {}
        self.requests: list[dict[str, Any]] = []
        self.is_dead = False

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                content = client.recv(1024)
                if not content:
                    self.is_dead = True
                    self._listener.close()
                    return
                request = json.loads(content)
                self.requests.append(request)
                confirmed = {
                    name: request[name]
                    for name, feature in (("preemption_policy", "non-preemptive-allocations"), ("pool", "cpu-pools"))
                    if name in request and feature in (self.features or ())
                }
                try:
                    answer = {"version": "1.0", "error": None} | confirmed | self._answer(request)
                except (KeyError, ValueError) as error:
                    answer = {"version": "1.0", "error": f"1 validation error\n  {error}"}
                client.sendall(json.dumps(answer).encode())

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["service_name"]
        held = {cpu for service, cpus in self.claims.items() if service != name for cpu in cpus}
        match request["action"]:
            case "allocate_cores":
                count = request.get("num_of_cores", 0)
                if count == -1 and self.features:
                    self.claims.pop(name, None)
                else:
                    self._give(name, [cpu for cpu in range(16) if cpu not in held], count if count > 0 else 12)
                mine = format_cpus(self.claims.get(name, set()))
                return {"service_name": name, "num_of_cores": max(count, 0), "allocated_cores": mine} | self._sizes()
            case "allocate_numa_cores":
                node, count = NODES[request["numa_node"]], request["num_of_cores"]
                elsewhere = self.claims.get(name, set()) - set(node)
                self.claims[name] = elsewhere
                if count > 0:
                    self._give(name, [cpu for cpu in node if cpu not in held], count)
                granted = format_cpus(self.claims[name] & set(node))
                self.claims[name] |= elsewhere
                return {
                    "service_name": name,
                    "numa_node": request["numa_node"],
                    "cores_allocated": granted,
                } | self._sizes()
            case "list_allocations":
                features = {} if self.features is None else {"supported_cpu_features": list(self.features)}
                claims = [
                    {"service_name": service, "allocated_cores": format_cpus(cpus), "cores_count": len(cpus)}
                    for service, cpus in self.claims.items()
                ]
                return features | self._sizes() | {"total_allocations": len(claims), "allocations": claims}
            case action:
                raise ValueError(f"Unknown action: {action}")

    def _give(self, name: str, free: list[int], count: int) -> None:
        if len(free) < count:
            raise ValueError(f"Insufficient CPUs available. Requested: {count}, Available: {len(free)}")
        self.claims[name] = set(free[:count])

    def _sizes(self) -> dict[str, int]:
        held = sum(map(len, self.claims.values()))
        return {"total_available_cpus": 16, "remaining_available_cpus": 16 - held}
