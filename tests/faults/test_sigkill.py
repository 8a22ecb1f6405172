# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""SIGKILL at random moments under 64 clients: no acknowledged change is lost, and no CPU has two owners.

The listening socket is the test's, as systemd's would be, so that clients wait while the daemon is started again. Each
client has services of its own. Most are protected, by their policy or as they ask by NUMA node, so that only their own
requests change them; from the victims among them the takers take CPUs, and a victim keeps at most what it was granted.
In one of the tests the options and the host change too.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pytest

from epa_orchestrator.state import database_files, loading
from tests.functional.harness import Daemon, Json, connect, decode, encode, parse_cpus, read_to_end, wait_until
from tests.functional.systemd import listening, start_activated
from tools.synthetic import Shape

from .changing import Changes
from .states import State, of_daemon, of_ledger

SEED: Final = int(os.environ.get("EPA_SEED", "20251126"))
CLIENTS: Final = 64
KILLS: Final = 40
KILLS_LONG: Final = 1_000
#: Room for about half of what the clients want: grants and refusals are both common.
HOST: Final = Shape(
    packages=2,
    cores_per_l3=8,
    l3_per_node=4,
    threads_per_core=2,
    isolated="1-127",
    node_hugepages={0: {2048: (300, 300)}, 1: {2048: (300, 300)}},
)
#: The isolated CPUs of the beginning by node, None for all nodes.
Scopes: TypeAlias = dict[int | None, frozenset[int]]


@dataclass
class Known:
    """A client's knowledge of one service: the last acknowledged claim, and a request without an answer.

    `repeated`: the last request was sent again. `unsure`: a request that was refused when it was sent again, but may
    have been carried out before, as options or the host may have changed in between.
    """

    cpus: frozenset[int] = frozenset()
    pages: int = 0
    unanswered: Json | None = None
    repeated: bool = False
    unsure: Json | None = None


class Client(threading.Thread):
    """Sends request after request for its own services; sends again what was not answered."""

    def __init__(self, daemon: Daemon, number: int, seed: int, gate: Gate, scopes: Scopes) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._daemon, self._gate, self._scopes = daemon, gate, scopes
        self._chance = random.Random(f"{seed} {number}")
        kinds = ("victim", "taker") if number % 8 == 7 else ("first", "second")
        self.known = {f"client-{number}-{kind}": Known() for kind in kinds}
        self.acknowledged = self.refused = self.repeated = 0

    def run(self) -> None:
        """Ask until the gate is closed for good; between two requests, wait while it is closed."""
        while self._gate.enter():
            try:
                # What an unsure service holds is known after the next check.
                sure = [name for name, known in self.known.items() if known.unsure is None or name.endswith("victim")]
                if not sure:
                    time.sleep(0.01)
                    continue
                service = self._chance.choice(sure)
                known = self.known[service]
                fields = known.unanswered
                if fields is None:
                    fields = self._pick(service)
                else:
                    self.repeated += 1
                self._ask(known, fields)
            finally:
                self._gate.leave()

    def _ask(self, known: Known, fields: Json) -> None:
        known.repeated, known.unanswered = known.unanswered is not None, fields
        try:
            with connect(self._daemon.socket_path) as client:
                client.sendall(encode(fields["action"], {key: fields[key] for key in fields if key != "action"}))
                raw = read_to_end(client)
        except OSError:
            return
        if not raw:  # killed after it had taken the request
            return
        answer = decode(raw)
        repeated, known.unanswered = known.repeated, None
        if "error" in answer:
            self.refused += 1
            if repeated:
                known.unsure = fields
            return
        self.acknowledged += 1
        if "node_id" in fields:
            known.pages = max(fields["hugepages_requested"], 0)
        elif "numa_node" in fields:
            node = self._scopes[fields["numa_node"]]
            known.cpus = (known.cpus - node) | parse_cpus(answer["cores_allocated"])
        else:
            known.cpus, known.unsure = frozenset(parse_cpus(answer["allocated_cores"])), None

    def _pick(self, service: str) -> Json:
        """Any change."""
        chance = self._chance
        if service.endswith("taker"):
            count = chance.choice((-1, 1, 2, 3))
            return _request("allocate_numa_cores", service, numa_node=chance.randrange(2), num_of_cores=count)
        if service.endswith("victim"):
            return _request("allocate_cores", service, num_of_cores=chance.choice((-1, 1, 3, 5)))
        kind = chance.randrange(10)
        if kind < 2:
            count = chance.choice((-1, 1, 2, 5))
            return _request("allocate_hugepages", service, node_id=0, size_kb=2048, hugepages_requested=count)
        if kind < 5:
            return _request("allocate_cores", service, num_of_cores=-1)
        policy = {"preemption_policy": "non-preemptive"}
        if kind < 7:
            node, count = chance.randrange(2), chance.choice((-1, 1, 2))
            return _request("allocate_numa_cores", service, numa_node=node, num_of_cores=count, **policy)
        return _request("allocate_cores", service, num_of_cores=chance.randint(1, 4), **policy)

    def check(self, state: State) -> None:
        """Compare with the stored state, and continue from it.

        A request that was not answered, or refused when it was sent again, may have been carried out as a whole.
        """
        for service, known in self.known.items():
            claim = state["claims"].get(service)
            cpus = frozenset(parse_cpus(claim[1]) if claim else ())
            pages = state["pages"].get(f"{service} 0 2048", 0)
            found = f"{service}: CPUs {sorted(cpus)}, {pages} pages; known {known}"
            doubtful = known.unanswered or known.unsure
            if service.endswith("victim"):
                assert doubtful is not None or cpus <= known.cpus, found
            elif doubtful is None or (cpus, pages) == (known.cpus, known.pages):
                assert (cpus, pages) == (known.cpus, known.pages), found
            elif "node_id" in doubtful:
                wanted = max(doubtful["hugepages_requested"], 0)
                assert (cpus, pages) == (known.cpus, wanted), found
            else:
                scope = self._scopes[doubtful.get("numa_node")]
                mine, before = cpus & scope, known.cpus & scope
                assert pages == known.pages, found
                assert cpus - scope == known.cpus - scope, found
                assert len(mine) == max(doubtful["num_of_cores"], 0), found
                assert mine <= before or before <= mine, found
            known.cpus, known.pages, known.unsure = cpus, pages, None


def _request(action: str, service: str, **fields: Any) -> Json:
    return {"action": action, "service_name": service, **fields}


class Gate:
    """Lets clients pass one by one; it is closed when all clients inside have left."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._open = self._ended = False
        self._inside = 0

    def enter(self) -> bool:
        """Wait until it is open; False when it stays closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._open or self._ended)
            self._inside += not self._ended
            return not self._ended

    def leave(self) -> None:
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()

    def open(self) -> None:
        with self._condition:
            self._open = True
            self._condition.notify_all()

    def close(self) -> None:
        """Let no client pass."""
        with self._condition:
            self._open = False

    def end(self) -> None:
        """Let all clients end, and wait until they have."""
        with self._condition:
            self._open, self._ended = False, True
            self._condition.notify_all()
            assert self._condition.wait_for(lambda: self._inside == 0, 60)

    def empty(self) -> None:
        """Wait until all have left."""
        with self._condition:
            assert self._condition.wait_for(lambda: self._inside == 0, 60), "a client is not answered"


@dataclass
class Killer:
    """Starts the daemon and kills it at random moments."""

    daemon: Daemon
    listener: socket.socket
    chance: random.Random
    kills: int = 0
    in_a_start: int = 0

    def launch(self) -> None:
        """Start it with the listening socket, without waiting until it serves."""
        start_activated(self.daemon, self.listener, wait=False)

    def start(self) -> None:
        """Start it; some starts are killed themselves."""
        self.launch()
        while self.chance.random() < 0.2:
            time.sleep(self.chance.uniform(0, 0.6))
            self.daemon.kill()
            self.in_a_start += 1
            self.launch()

    def kill(self) -> None:
        """Kill it while it serves."""
        time.sleep(self.chance.uniform(0, 0.01))
        self.daemon.kill()
        self.kills += 1


def check(daemon: Daemon, clients: list[Client]) -> None:
    """Compare what is stored, what is shown and what the clients know."""
    shown = of_daemon(daemon)
    daemon.claims()  # checks that no CPU has two owners
    stored = of_ledger(loading.load(daemon.common / database_files.FILE_NAME).ledger)
    assert stored == shown
    for client in clients:
        client.check(stored)
    known = {service for client in clients for service in client.known}
    assert not {*stored["claims"], *(key.split(" ")[0] for key in stored["pages"])} - known


def test_kills_under_64_clients_lose_nothing(capsys: pytest.CaptureFixture[str], long: bool) -> None:
    with Daemon(HOST) as daemon:
        kill_under_clients(daemon, KILLS_LONG if long else KILLS, capsys)


def test_kills_during_changes_of_the_host_lose_nothing(capsys: pytest.CaptureFixture[str], long: bool) -> None:
    with Daemon(HOST) as daemon:
        changes = Changes(daemon, SEED)
        kill_under_clients(daemon, KILLS_LONG if long else KILLS // 4, capsys, changes)
        assert changes.made > KILLS // 4, "hardly anything was changed"


def acknowledged(clients: list[Client]) -> int:
    """How many requests of all clients were granted."""
    return sum(client.acknowledged for client in clients)


def kill_under_clients(
    daemon: Daemon, kills: int, capsys: pytest.CaptureFixture[str], changes: Changes | None = None
) -> None:
    """Kill a daemon again and again, and compare each time what is stored with what was acknowledged."""
    chance, gate = random.Random(SEED), Gate()
    serving = changes.serving if changes else threading.Lock()
    scopes: Scopes = {None: frozenset(daemon.host.isolated)}
    scopes |= {node: frozenset(daemon.host.isolated_in(node)) for node in range(2)}
    with listening(daemon.socket_path) as listener, serving:
        listener.listen(1024)
        killer = Killer(daemon, listener, chance)
        clients = [Client(daemon, number, SEED, gate, scopes) for number in range(CLIENTS)]
        killer.start()
        for client in clients:
            client.start()
        if changes:
            changes.start()
        try:
            for _ in range(kills):
                before = acknowledged(clients)
                wanted = before + chance.randint(1, 200)
                gate.open()
                wait_until(lambda before=before: acknowledged(clients) > before, "a client is served")
                serving.release()  # it now accepts SIGHUP
                try:
                    wait_until(lambda wanted=wanted: acknowledged(clients) >= wanted, "clients are served")
                finally:
                    serving.acquire()
                killer.kill()
                gate.close()
                killer.start()
                gate.empty()
                check(daemon, clients)
        except BaseException as error:
            error.add_note(f"kill {killer.kills}; to repeat it: EPA_SEED={SEED}")
            raise
        finally:
            gate.close()
            if changes:
                changes.end()
            if not daemon.process or not daemon.process.running:
                killer.launch()
            gate.end()
    refused, repeated = sum(client.refused for client in clients), sum(client.repeated for client in clients)
    with capsys.disabled():
        print(f"\n{'SIGKILLs':>8} {'in a start':>10} {'acknowledged':>12} {'refused':>8} {'sent again':>10}")
        print(f"{killer.kills:8} {killer.in_a_start:10} {acknowledged(clients):12} {refused:8} {repeated:10}")
    assert killer.in_a_start
    assert repeated > killer.kills, "too few requests were under way when the daemon was killed"
    assert refused > killer.kills, "CPUs were never scarce"
    assert min(client.acknowledged for client in clients), "a client was never served"
