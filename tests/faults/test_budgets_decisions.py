# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Budgets of decisions and commits in CPU time: for each kind of request, for batches of refusals, and for the history.

Milliseconds are those of a machine on which `_calibrate` takes `_REFERENCE_MS`; slower machines get more.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files, history, loading, opening
from tests.faults.asking import ask
from tests.functional.harness import MEMORY, Daemon, Json, connect, cpu_seconds, decode, encode, read_to_end
from tools.synthetic import Shape, all_but_first_cores, build

PEER: Final = Peer(1, 0, 0)

_REFERENCE_MS: Final = 25.0


def _calibrate() -> float:
    """CPU time (ms) of a fixed piece of work, the best of a few."""
    costs: list[float] = []
    for _ in range(5):
        began, value = time.process_time(), 1
        for number in range(250_000):
            value = (value * 31 + number) & 0xFFFFFFFF
        costs.append(1000 * (time.process_time() - began))
    return min(costs)


@pytest.fixture(scope="module")
def slowness() -> float:
    """How much slower this machine is than the one that the budgets were measured on; at least 1."""
    return max(_calibrate() / _REFERENCE_MS, 1.0)


# --- machines and claims ------------------------------------------------------------------------------------------


def machine(cpus: int, nodes_per_package: int = 4) -> Shape:
    """Two packages of cores with two threads, and L3 domains of eight cores or smaller ones."""
    cores_per_node = cpus // 2 // 2 // nodes_per_package
    cores_per_l3 = min(cores_per_node, 8)
    shape = Shape(
        packages=2,
        nodes_per_package=nodes_per_package,
        l3_per_node=cores_per_node // cores_per_l3,
        cores_per_l3=cores_per_l3,
        threads_per_core=2,
        hugepages={2048: (512, 512)},
    )
    return replace(shape, isolated=all_but_first_cores(shape, 1))


def whole_cores(shape: Shape, services: int) -> Ledger:
    """Services with a core each, spread evenly over the machine."""
    isolated = CpuSet.parse(shape.isolated)
    cores = [core for core in range(shape.cores) if core in isolated]
    chosen = cores[:: max(len(cores) // services, 1)][:services]
    pairs = [CpuSet((core, core + shape.cores)) for core in chosen]
    return Ledger.of([Claim(f"svc-{cpus}", "isolated", cpus, EMPTY, "legacy") for cpus in pairs], {})


def scattered(shape: Shape, services: int) -> Ledger:
    """Non-preemptive services with two random CPUs each."""
    cpus = sorted(CpuSet.parse(shape.isolated))
    random.Random(1).shuffle(cpus)
    pairs = [CpuSet(cpus[2 * number : 2 * number + 2]) for number in range(services)]
    claims = [Claim(f"svc-{number}", "isolated", pair, EMPTY, "non-preemptive") for number, pair in enumerate(pairs)]
    return Ledger.of(claims, {})


@contextlib.contextmanager
def memory_directory() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="epa-", dir=MEMORY) as directory:
        yield Path(directory)


class Costs:
    """An orchestrator on a store in memory, and the costs of requests to it."""

    def __init__(self, directory: Path, shape: Shape, ledger: Ledger) -> None:
        path = directory / database_files.FILE_NAME
        opening.create(path, ledger, PEER, 1.0)
        opened, loaded = opening.open_store(path)
        settings = Settings()
        host = Host(RecordedSysfs(build(shape)), settings)
        host.pools()
        self.orchestrator = Orchestrator(host, settings, State(loaded.ledger, opened, None))

    async def ask(self, *requests: Json) -> list[Json]:
        """The answers to requests that arrive in one turn of the event loop."""
        return await ask(self.orchestrator, PEER, *requests)

    async def of(self, *requests: Json) -> tuple[float, list[Json]]:
        """CPU time (ms) of all threads, and the answers."""
        began = time.process_time()
        answers = await self.ask(*requests)
        return 1000 * (time.process_time() - began), answers


def with_costs(shape: Shape, ledger: Ledger, body: Callable[[Costs], Coroutine[Any, Any, None]]) -> None:
    async def run(directory: Path) -> None:
        costs = Costs(directory, shape, ledger)
        try:
            await body(costs)
        finally:
            costs.orchestrator.close()

    with memory_directory() as directory:
        asyncio.run(run(directory))


# --- a lone request -------------------------------------------------------------------------------------------------

KINDS: Final[dict[str, Json]] = {
    "1 CPU": {"action": "allocate_cores", "num_of_cores": 1},
    "9 CPUs": {"action": "allocate_cores", "num_of_cores": 9},
    "default size": {"action": "allocate_cores", "num_of_cores": 0},
    "percent": {"action": "allocate_cores_percent", "percent": 10},
    "node": {"action": "allocate_numa_cores", "numa_node": 1, "num_of_cores": 5},
    "whole node": {"action": "allocate_numa_cores", "numa_node": 1},
    "isolate": {"action": "allocate_cores", "num_of_cores": 5, "cpu_thread_policy": "isolate"},
    "rules": {
        "action": "allocate_cores",
        "num_of_cores": 6,
        "numa_policy": "single-numa-node",
        "uncore_cache_alignment": "require",
        "cpu_thread_policy": "require",
    },
    "refused by rules": {
        "action": "allocate_cores",
        "num_of_cores": 5,
        "numa_policy": "single-numa-node",
        "cpu_thread_policy": "require",
    },
    "explained": {"action": "allocate_cores", "num_of_cores": 5, "explain": True},
    "dry run": {"action": "allocate_cores", "num_of_cores": 5, "dry_run": True},
    "hugepages": {"action": "allocate_hugepages", "node_id": 0, "size_kb": 2048, "hugepages_requested": 4},
}

#: CPU ms by the number of CPUs: of the first request of a kind, and of one like it later.
FIRST_MS: Final = {256: 40.0, 1024: 160.0, 4096: 1600.0}
LATER_MS: Final = {256: 3.0, 1024: 10.0, 4096: 60.0}


def released(request: Json) -> Json:
    """The request that releases what another request got."""
    amount = {"allocate_cores_percent": "percent", "allocate_hugepages": "hugepages_requested"}
    return request | {amount.get(request["action"], "num_of_cores"): -1, "explain": False, "dry_run": False}


@pytest.mark.parametrize("many", [False, True], ids=["few services", "many services"])
@pytest.mark.parametrize("cpus", [256, 1024, 4096])
def test_lone_request_stays_within_its_budget(cpus: int, many: bool, slowness: float) -> None:
    shape = machine(cpus)
    whole_node = len(CpuSet.parse(shape.isolated) & CpuSet(shape.node_cpus(1)))
    table: list[str] = []
    over: list[str] = []

    async def body(costs: Costs) -> None:
        for name, kind in KINDS.items():
            if kind["action"] == "allocate_numa_cores":
                kind = {"num_of_cores": whole_node} | kind
            spent: list[float] = []
            for turn in range(4):
                request = kind | {"service_name": f"asks-{turn}"}
                cost, (answer,) = await costs.of(request)
                assert ("error" in answer) == (name == "refused by rules"), answer
                spent.append(cost / slowness)
                await costs.ask(released(request))
            first, later = spent[0], statistics.median(spent[1:])
            table.append(f"{name:18} {first:8.2f} of {FIRST_MS[cpus]:6.0f}   {later:8.2f} of {LATER_MS[cpus]:6.0f}")
            if first > FIRST_MS[cpus] or later > LATER_MS[cpus]:
                over.append(name)

    with_costs(shape, whole_cores(shape, cpus // 4 if many else 8), body)
    shown = "\n".join([f"{cpus} CPUs, CPU ms of the first and of later ones", *table])
    print(shown)
    assert not over, f"over budget: {over}\n{shown}"


# --- batches of refusals ----------------------------------------------------------------------------------------------

#: 1,024 CPUs in 64 nodes, where a refusal compares many sets of nodes.
WIDE: Final = machine(1024, nodes_per_package=32)


def impossible(number: int, count: int = 400) -> Json:
    """A request for which there are enough CPUs, but not in whole cores."""
    request = {"action": "allocate_cores", "num_of_cores": count, "cpu_thread_policy": "require"}
    return request | {"service_name": f"wants-{number}"}


def test_repeated_refusals_are_remembered() -> None:
    """The daemon remembers a refusal for the same ledger and task; another claim makes another ledger."""

    async def body(costs: Costs) -> None:
        async def claim(count: int) -> None:
            request = {"action": "allocate_cores", "service_name": "other", "num_of_cores": count}
            assert "error" not in (await costs.ask(request))[0]

        await costs.ask(impossible(0))  # fills the tables that all requests use
        hopeless = [impossible(number, 10_000) for number in range(100)]
        await costs.ask(*hopeless)
        overhead, _ = await costs.of(*hopeless)
        await claim(1)
        one, (answer,) = await costs.of(impossible(0))
        assert "cpu-thread-policy=require" in answer["error"]
        await claim(2)
        hundred, answers = await costs.of(*(impossible(number) for number in range(100)))
        assert all("cpu-thread-policy=require" in answer["error"] for answer in answers)
        print(f"one {one:.1f}, a hundred {hundred:.1f}, a hundred that are refused at once {overhead:.1f} CPU ms")
        assert hundred <= 5 * one + 2 * overhead

    with_costs(WIDE, scattered(WIDE, 180), body)


#: How many readings must be answered for each second of CPU time that the daemon spends on deciding.
READINGS_PER_SECOND: Final = 10


@pytest.fixture
def wide_daemon() -> Iterator[Daemon]:
    """A daemon on the wide machine, with scattered claims."""
    with Daemon(WIDE) as daemon:
        opening.create(daemon.common / database_files.FILE_NAME, scattered(WIDE, 180), PEER, 1.0)
        yield daemon.start()


def answered(client: socket.socket) -> bool:
    """Whether a first byte of the answer is there."""
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(60)


def test_readings_are_answered_during_a_batch(wide_daemon: Daemon) -> None:
    daemon = wide_daemon
    tasks = [impossible(number, 371 + number) for number in range(30)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon.socket_path)) for _ in tasks]
        began = cpu_seconds(daemon.pid)
        for client, task in zip(clients, tasks, strict=True):
            client.sendall(encode(task["action"], task))
        readings = 0
        while not all(map(answered, clients)):
            daemon.ok("list_allocations")
            readings += 1
        spent = cpu_seconds(daemon.pid) - began
        answers = [decode(read_to_end(client)) for client in clients]
    assert all("cpu-thread-policy=require" in answer["error"] for answer in answers)
    print(f"{readings} readings in {spent:.2f} s of CPU time")
    assert readings >= READINGS_PER_SECOND * spent


# --- the history ------------------------------------------------------------------------------------------------------

#: The bytes besides the history: claims, indexes, free pages, and the log.
BEYOND: Final = 16 << 20


def sizes_of(path: Path) -> int:
    """The bytes of the database and its log."""
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.name.startswith(path.name))


def change_often(path: Path, claims: tuple[Claim, Claim], commits: int, changes: int) -> int:
    """Commit many batches of changes without a pause; returns the largest size of the database in bytes."""
    opened, _ = opening.open_store(path)
    most = 0
    try:
        before: Claim | None = None
        for number in range(commits):
            for turn in range(changes):
                after = claims[turn % 2]
                opened.stage(Change((ClaimChange(before, after),)), PEER, "allocate_cores", float(number))
                before = after
            opened.commit()
            if number % 20 == 0:
                most = max(most, sizes_of(path))
    finally:
        opened.close()
    return max(most, sizes_of(path))


@pytest.fixture
def database() -> Iterator[Path]:
    with memory_directory() as directory:
        path = directory / database_files.FILE_NAME
        opening.create(path, Ledger(), PEER, 1.0)
        yield path


def test_busy_history_is_bounded_in_bytes(database: Path) -> None:
    """Claims whose CPU lists have 10 KB; unbounded, the history would exceed its limit by half."""
    scattered_cpus = CpuSet(range(0, 4096, 2))
    claims = (
        Claim("wide", "isolated", scattered_cpus, EMPTY, "legacy"),
        Claim("wide", "isolated", scattered_cpus - CpuSet((0,)), EMPTY, "legacy"),
    )
    bytes_per_change = 2 * len(str(scattered_cpus))
    changes = 10
    most = change_often(database, claims, history.MAX_HISTORY_BYTES * 3 // 2 // bytes_per_change // changes, changes)
    print(f"{most / 1e6:.0f} MB at most, {history.MAX_HISTORY_BYTES / 1e6:.0f} MB of history allowed")
    assert most <= history.MAX_HISTORY_BYTES + BEYOND
    assert set(loading.load(database).ledger.claims) == {"wide"}


def test_busy_history_is_bounded_in_events(database: Path) -> None:
    claims = (
        Claim("small", "isolated", CpuSet((1,)), EMPTY, "legacy"),
        Claim("small", "isolated", CpuSet((2,)), EMPTY, "legacy"),
    )
    changes = 100
    change_often(database, claims, history.MAX_EVENTS * 6 // 5 // changes, changes)
    with contextlib.closing(sqlite3.connect(database)) as db:
        events, newest = db.execute("SELECT count(*), max(id) FROM event").fetchone()
    print(f"{events} events of {newest}")
    assert newest >= history.MAX_EVENTS * 6 // 5 - changes
    assert events <= history.MAX_EVENTS + 10 * changes
