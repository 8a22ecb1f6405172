# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The measured requests, as the clients send them, and the machines of three sizes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Literal

from benchmarks.load import Script
from tools.synthetic import Shape

Kind = Literal["list", "cores", "numa", "hugepages"]

KINDS: Final[tuple[Kind, ...]] = ("list", "cores", "numa", "hugepages")
TITLES: Final[dict[Kind, str]] = {
    "list": "list_allocations",
    "cores": "allocate_cores",
    "numa": "allocate_numa_cores",
    "hugepages": "allocate_hugepages",
}

_PAGE_KB: Final = 2048
_PAGES: Final = {_PAGE_KB: (65536, 65536)}


def machine(cpus: int) -> Shape:
    """A machine that isolates all CPUs: 1, 8 or 16 nodes of 2 or 4 L3 domains."""
    isolated = f"0-{cpus - 1}"
    if cpus == 16:
        return Shape(l3_per_node=2, threads_per_core=2, isolated=isolated, hugepages=_PAGES, memory_kb=256 << 20)
    return Shape(
        packages=2 if cpus == 256 else 4,
        nodes_per_package=4,
        l3_per_node=2 if cpus == 256 else 4,
        cores_per_l3=8,
        threads_per_core=2,
        isolated=isolated,
        hugepages=_PAGES,
        memory_kb=256 << 20,
    )


def request(**fields: object) -> bytes:
    """A request on the wire."""
    return json.dumps({"version": "1.0", **fields}).encode()


LIST: Final = request(action="list_allocations")


def claims(shape: Shape, services: int) -> list[bytes]:
    """Requests that give each service one CPU, evenly over the nodes, and leave CPUs free for the measured requests.

    Services that get no CPU hold one hugepage instead.
    """
    with_cpus = min(services, shape.cpus - _kept_free(shape))
    return [
        request(action="allocate_numa_cores", service_name=f"held-{i}", numa_node=i % shape.cpu_nodes, num_of_cores=1)
        if i < with_cpus
        else request(
            action="allocate_hugepages",
            service_name=f"held-{i}",
            node_id=i % shape.cpu_nodes,
            size_kb=_PAGE_KB,
            hugepages_requested=1,
        )
        for i in range(services)
    ]


def scripts(kind: Kind, shape: Shape, services: int, clients: int) -> Sequence[Script] | None:
    """The requests that each client repeats; None when the machine has too few CPUs for all clients at once."""
    if kind == "list":
        return [[LIST]] * clients
    names = [f"cycle-{client}" for client in range(clients)]
    if kind == "hugepages":
        return [
            [
                request(
                    action="allocate_hugepages",
                    service_name=name,
                    node_id=client % shape.cpu_nodes,
                    size_kb=_PAGE_KB,
                    hugepages_requested=pages,
                )
                for pages in (8, -1)
            ]
            for client, name in enumerate(names)
        ]
    free = shape.cpus - min(services, shape.cpus - _kept_free(shape))
    count = next((count for count in (2, 1) if clients * count <= free), None)
    if count is None:
        return None
    action = {"cores": "allocate_cores", "numa": "allocate_numa_cores"}[kind]
    return [
        [
            request(
                action=action,
                service_name=name,
                num_of_cores=cores,
                **({"numa_node": client % shape.cpu_nodes} if kind == "numa" else {}),
            )
            for cores in (count, -1)
        ]
        for client, name in enumerate(names)
    ]


def _kept_free(shape: Shape) -> int:
    """Two CPUs for each of 64 clients, but at most half of all CPUs."""
    return min(128, shape.cpus // 2)
