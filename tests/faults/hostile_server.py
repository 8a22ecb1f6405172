# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A server on a real Unix socket that gives genuine answers, or behaves in a hostile way on request."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from epa_orchestrator.protocol.answers import (
    Allocation,
    Answer,
    Candidate,
    CoresAnswer,
    Explanation,
    HugepagesAnswer,
    ListingHead,
    MemoryAnswer,
    NodeHugepages,
    NumaCoresAnswer,
    PageCapacity,
    PercentAnswer,
    Placement,
    PoolSummary,
)
from epa_orchestrator.protocol.isolation import (
    CheckResult,
    ClaimIsolation,
    ClaimOwner,
    IsolationAnswer,
    NoiseCounts,
    NoisyThread,
)
from epa_orchestrator.protocol.machine import CoreThreads, MachineAnswer, MachineDescription, Node, PackageCpus

Json: TypeAlias = dict[str, Any]

#: How an exchange must end: understood, refused by the daemon, with an invalid answer, or too late.
Outcome: TypeAlias = Literal["fine", "refused", "odd", "late"]


@dataclass(frozen=True)
class Behaviour:
    """The behaviour of a server on a connection: `serve` gets it with the request and the genuine answer.

    `serve` returns whether it did anything hostile; a change to a missing field is not hostile.
    """

    name: str
    outcome: Outcome
    serve: Callable[[Exchange], bool]


@dataclass(frozen=True)
class Exchange:
    """One connection; `ended` is set when the test is over."""

    connection: socket.socket
    genuine: bytes
    ended: threading.Event


class HostileServer:
    """Serves a path, each connection in its own thread. `hostile`: the actions of exchanges that were not genuine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behaviour: Behaviour | None = None
        self.hostile: list[str] = []
        self._ended = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @contextlib.contextmanager
    def behaving(self, behaviour: Behaviour) -> Generator[None]:
        """Be hostile in this way."""
        self.behaviour, self.hostile, self._ended = behaviour, [], threading.Event()
        try:
            yield
        finally:
            self._ended.set()
            self.behaviour = None
            for thread in self._threads[1:]:
                thread.join(30)
            del self._threads[1:]

    def stop(self) -> None:
        """Stop serving."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads = [each for each in self._threads if each.is_alive()]
            thread = threading.Thread(target=self._serve, args=(connection, self.behaviour, self._ended))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, behaviour: Behaviour | None, ended: threading.Event) -> None:
        with connection, contextlib.suppress(OSError):  # some tests make the client give up
            connection.settimeout(30)
            request = json.loads(connection.recv(65_536))
            genuine = answer_to(request).encode()
            if behaviour is None:
                connection.sendall(genuine)
                return
            self.hostile.append(request["action"])  # before the client can know
            if not behaviour.serve(Exchange(connection, genuine, ended)):
                self.hostile.remove(request["action"])
                connection.sendall(genuine)


class _Whole(Answer):
    """A listing as the daemon puts it together."""

    head: ListingHead
    allocations: list[Allocation]

    def encode(self) -> bytes:
        return self.head.encode_with([each.model_dump_json(exclude_none=True).encode() for each in self.allocations])


_NOISE: Final = NoiseCounts(
    seconds=60.0, ticks=5, interrupts={"eth0 (IRQ 45)": 3}, ipis=1, other=1, waited_seconds=0.5, involuntary_switches=1
)
_THREAD: Final = NoisyThread(pid=7, tid=8, name="worker", cpu=2, cgroup="/x.slice")
_ISOLATION: Final = IsolationAnswer(
    read_at=66.5,
    checks=[CheckResult(id="C1", result="fail", seen="a", why="b", remedy="c", since="2026-11-27T14:27:10Z")],
    claims=[
        ClaimIsolation(
            service_name="a",
            pool="isolated",
            allocated_cores="2-3",
            owner=ClaimOwner(snap="a", unit="b", comm="c", pid=7, asked_at=1.5, cgroups=["x.slice"]),
            since=6.5,
            noise=_NOISE,
            now=_NOISE,
            strangers=[_THREAD],
            outside=[_THREAD],
            stacked=[_THREAD],
            more_threads={"strangers": 2},
            culprit="timer ticks",
            remedy="none",
            problem="a problem",
        )
    ],
)
_MACHINE: Final = MachineAnswer(
    states={"claimed": "1-3", "free": "0,4,6-7", "withheld": "5"},
    pools={"isolated": "2-7", "general": "0-1"},
    machine=MachineDescription(
        present="0-7",
        online="0-7",
        isolated="2-7",
        packages=[PackageCpus(id="0", cpus="0-7")],
        nodes=[Node(id=0, cpus="0-7", distances=[10], memory_kb=1024, hugepages=[])],
        l3_domains=["0-7"],
        l2_clusters=[],
        cores=[CoreThreads(cpus="0-7", type=None)],
    ),
)


def answer_to(request: Json) -> Answer:
    """The answer of a daemon, in its own models: service `a` holds CPUs 2-3 and hugepages, `g` holds CPU 1."""
    match request["action"]:
        case "list_allocations":
            return _listing(request.get("pool", "isolated"))
        case "get_memory_info":
            pages = [PageCapacity(total=64, free=60, size=2048), PageCapacity(total=0, free=0, size=1048576)]
            nodes = {
                "node0": NodeHugepages(capacity=pages, allocations={"a": {"2048": 4}}),
                "node1": NodeHugepages(capacity=[], allocations={}),
            }
            return MemoryAnswer(service_name="", numa_hugepages=nodes)
        case "get_machine":
            return _MACHINE
        case "get_isolation":
            return _ISOLATION
        case "allocate_hugepages":
            names = ("service_name", "node_id", "size_kb", "hugepages_requested")
            fields = {name: request[name] for name in names}
            return HugepagesAnswer(**fields, allocation_successful=True, message="Removed recorded hugepage allocation")
        case _:
            return _grant(request)


def _listing(pool: Any) -> Answer:
    isolated = pool == "isolated"
    cpus, held, service = ("2-7", "2-3", "a") if isolated else ("0-1", "1", "g")
    count = 2 if isolated else 1
    summary = PoolSummary(
        source="isolated" if isolated else "configured",
        configured_cpus=cpus,
        eligible_cpus=cpus,
        unavailable_allocated_cpus="",
    )
    claim = Allocation(
        service_name=service,
        pool=pool,
        allocated_cores=held,
        cores_count=count,
        is_explicit=False,
        preemption_policy="legacy",
        withheld_cpus="5" if isolated else None,
    )
    head = ListingHead(
        pool=pool,
        total_allocations=1,
        total_allocated_cpus=count,
        total_available_cpus=6 if isolated else 2,
        remaining_available_cpus=3 if isolated else 1,
        cpu_pool=summary,
        outdated_placements=(service,),
    )
    return _Whole(head=head, allocations=[claim])


def _grant(request: Json) -> Answer:
    count = request.get("num_of_cores", 2)
    granted = {-1: "", 0: "2-5", 1: "2"}.get(count, f"2-{count + 1}")
    placement = Placement(
        numa_nodes="0", packages=1, l3_domains=1, whole_cores=1, shared_cores=0, withheld_cpus="" if granted else None
    )
    candidate = Candidate(numa_nodes="0", cpus=granted, cost={"numa_nodes": 1, "lowest_cpu": 2})
    explanation = Explanation(
        policy={"numa-policy": "best-effort", "prefer-closest-numa-nodes": True, "near": 0},
        room={"0": 4, "1": 8},
        scopes=[candidate, candidate],
        decided_by="Only NUMA node 0 is possible.",
    )
    common: Json = {
        "service_name": request["service_name"],
        "total_available_cpus": 6,
        "remaining_available_cpus": 4,
        "pool": request.get("pool", "isolated"),
        "preemption_policy": "legacy" if granted else None,
        "placement": placement if granted else None,
        "dry_run": request.get("dry_run") or None,
        "explanation": explanation if request.get("explain") and granted else None,
    }
    match request["action"]:
        case "allocate_cores":
            held = 4 if count == 0 else max(count, 0)
            return CoresAnswer(
                **common,
                num_of_cores=max(count, 0),
                cores_allocated=held,
                allocated_cores=granted,
                shared_cpus="6-7",
            )
        case "allocate_cores_percent":
            return PercentAnswer(**common, cores_allocated_count=2, allocated_cores=granted)
        case _:
            return NumaCoresAnswer(
                **common, numa_node=request["numa_node"], num_of_cores=count, cores_allocated=granted
            )
