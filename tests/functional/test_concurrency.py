# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""64 clients at once: no CPU and no page is granted twice, and every listing agrees with itself."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tools.synthetic import Shape

from .harness import (
    PATIENCE,
    SERVED_WITHIN,
    Daemon,
    Json,
    Reused,
    check_listing,
    connect,
    decode,
    error_of,
    in_threads,
    parse_cpus,
    read_to_end,
    run_all,
)
from .starting import LISTING

CLIENTS: Final = 64
ROUNDS: Final = 30
SHAPE: Final = Shape(
    packages=2,
    l3_per_node=2,
    cores_per_l3=8,
    threads_per_core=2,
    isolated="0-63",
    node_hugepages={0: {2048: (64, 64)}},
)


@pytest.fixture(scope="module")
def reused() -> Iterator[Reused]:
    """A daemon with 64 CPUs in two nodes, and 64 hugepages."""
    with Reused(SHAPE) as shared:
        yield shared


class Owners:
    """The owner of each CPU, as far as the clients know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[int, str] = {}

    def leave(self, service: str) -> None:
        """Forget a service's CPUs: it asks for others, so another service may get them before its answer arrives."""
        with self._lock:
            self._owners = {cpu: owner for cpu, owner in self._owners.items() if owner != service}

    def enter(self, service: str, cpus: set[int]) -> None:
        """Note the CPUs that a service was granted."""
        with self._lock:
            for cpu in cpus:
                assert cpu not in self._owners, f"CPU {cpu} of {self._owners[cpu]} was granted to {service}"
                self._owners[cpu] = service

    def claims(self) -> dict[str, set[int]]:
        """The same by service."""
        claims: dict[str, set[int]] = {}
        for cpu, owner in self._owners.items():
            claims.setdefault(owner, set()).add(cpu)
        return claims


def requests(chance: random.Random) -> Iterator[tuple[str, Json]]:
    """A client's requests, non-preemptive so that no other service takes its CPUs."""
    policy = {"preemption_policy": "non-preemptive"}
    for _ in range(ROUNDS):
        kind = chance.randrange(4)
        if kind == 0:
            yield "allocate_cores", {"num_of_cores": chance.randint(1, 4), **policy}
        elif kind == 1:
            yield "allocate_cores_percent", {"percent": chance.randint(1, 5), **policy}
        elif kind == 2:
            yield "allocate_numa_cores", {"numa_node": chance.randrange(2), "num_of_cores": 2, **policy}
        else:
            yield "allocate_cores", {"num_of_cores": -1}


def test_no_cpu_is_granted_twice(daemon: Daemon) -> None:
    owners = Owners()
    granted, refused, listings = [0] * CLIENTS, [0] * CLIENTS, 0
    done = threading.Event()

    def work(number: int) -> None:
        service, held = f"svc-{number}", set[int]()
        for action, fields in requests(random.Random(number)):
            owners.leave(service)
            answer = daemon.call(action, service_name=service, **fields)
            if "error" in answer:
                error_of(answer)
                refused[number] += 1
            else:
                granted[number] += 1
                node = daemon.host.isolated_in(fields["numa_node"]) if "numa_node" in fields else daemon.host.isolated
                text = answer["cores_allocated"] if "numa_node" in fields else answer["allocated_cores"]
                held = (held - node) | parse_cpus(text)
            owners.enter(service, held)

    def watch() -> None:
        nonlocal listings
        while not done.is_set():
            check_listing(daemon.ok("list_allocations"))
            listings += 1

    with in_threads(watch, watch):
        try:
            run_all([lambda number=number: work(number) for number in range(CLIENTS)])
        finally:
            done.set()
    assert daemon.claims() == owners.claims()
    assert listings > 20
    assert sum(granted) > CLIENTS
    assert sum(refused) > CLIENTS, "the CPUs were never scarce"
    run_all([lambda number=number: daemon.cores(f"svc-{number}", -1) for number in range(CLIENTS)])
    assert daemon.claims() == {}


def test_reclaiming_clients_leave_consistent_listings(daemon: Daemon) -> None:
    # Legacy services take CPUs from each other, so no client knows its CPUs; but every listing must add up.
    done = threading.Event()
    granted, refused, listings = [0] * CLIENTS, [0] * CLIENTS, 0

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(ROUNDS):
            if chance.random() < 0.5:
                fields: Json = {"num_of_cores": chance.randint(-1, 6)}
                answer = daemon.call("allocate_cores", service_name=f"plain-{number}", **fields)
            else:
                fields = {"numa_node": chance.randrange(2), "num_of_cores": chance.choice((-1, 1, 2, 3))}
                answer = daemon.call("allocate_numa_cores", service_name=f"numa-{number}", **fields)
            if "error" in answer:
                assert "Internal error" not in error_of(answer)
                refused[number] += 1
            else:
                granted[number] += 1

    def watch() -> None:
        nonlocal listings
        while not done.is_set():
            check_listing(daemon.ok("list_allocations"))
            listings += 1

    with in_threads(watch):
        try:
            run_all([lambda number=number: work(number) for number in range(CLIENTS)])
        finally:
            done.set()
    assert listings > 10
    assert sum(granted) > CLIENTS
    assert sum(refused) > CLIENTS, "the CPUs were never scarce"
    before = daemon.snapshot()
    daemon.kill()
    daemon.start()
    assert daemon.snapshot() == before


@pytest.mark.parametrize("action", ["allocate_cores", "allocate_numa_cores"])
def test_grants_every_cpu_once(daemon: Daemon, action: str) -> None:
    granted: list[str] = []
    refused: list[str] = []
    together = threading.Barrier(CLIENTS)

    def ask(number: int) -> None:
        fields: Json = {"num_of_cores": 2, "preemption_policy": "non-preemptive"}
        if action == "allocate_numa_cores":
            fields["numa_node"] = number % 2
        together.wait(PATIENCE)
        answer = daemon.call(action, service_name=f"svc-{number}", **fields)
        (refused if "error" in answer else granted).append(f"svc-{number}")

    run_all([lambda number=number: ask(number) for number in range(CLIENTS)])
    assert (len(granted), len(refused)) == (32, 32)
    assert set(daemon.claims()) == set(granted)


def test_grants_every_page_once(daemon: Daemon) -> None:
    granted: list[int] = []
    together = threading.Barrier(CLIENTS)

    def ask(number: int) -> None:
        together.wait(PATIENCE)
        answer = daemon.call(
            "allocate_hugepages", service_name=f"svc-{number}", node_id=0, size_kb=2048, hugepages_requested=3
        )
        if "error" not in answer:
            granted.append(number)

    run_all([lambda number=number: ask(number) for number in range(CLIENTS)])
    assert len(granted) == 21
    assert daemon.free_pages(0, 2048) == 1
    recorded = daemon.ok("get_memory_info")["numa_hugepages"]["node0"]["allocations"]
    assert recorded == {f"svc-{number}": {"2048": 3} for number in granted}


def test_many_clients_resize_one_service(daemon: Daemon) -> None:
    sizes = [0] * CLIENTS

    def ask(number: int) -> None:
        answer = daemon.ok("allocate_cores", service_name="svc", num_of_cores=number + 1)
        sizes[number] = len(parse_cpus(answer["allocated_cores"]))
        assert answer["remaining_available_cpus"] == CLIENTS - sizes[number]

    run_all([lambda number=number: ask(number) for number in range(CLIENTS)])
    assert sizes == list(range(1, CLIENTS + 1))
    held = daemon.claims()["svc"]
    assert daemon.cores("svc", len(held)) == held


def test_unread_answers_delay_no_other_client() -> None:
    shape = Shape(packages=2, cores_per_l3=128, isolated="0-255")
    with Daemon(shape) as daemon:
        daemon.start()
        for number in range(250):
            daemon.cores(f"{number:03}" + "\N{GRINNING FACE}" * 252, 1)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(daemon.socket_path)) for _ in range(20)]
            for client in clients:
                client.sendall(LISTING)
            for _ in range(5):
                for action, fields in (
                    ("get_memory_info", {}),
                    ("allocate_cores", {"service_name": "prompt", "num_of_cores": 2}),
                    ("allocate_cores", {"service_name": "prompt", "num_of_cores": -1}),
                ):
                    started = time.monotonic()
                    daemon.ok(action, **fields)
                    assert time.monotonic() - started < SERVED_WITHIN
            # Clients that read late still get the whole answer.
            for client in clients[:2]:
                answer = read_to_end(client)
                assert len(answer) > 250_000, "too small to fill a socket's buffer"
                assert len(check_listing(decode(answer))) == 250
        assert len(daemon.claims()) == 250
