# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""SIGKILL at any moment: acknowledged changes survive, refused ones do not come back, and no CPU has two owners."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any, Final

from .harness import PATIENCE, SMALL, Daemon, Json, decode, encode, in_threads, parse_cpus, wait_until

KILLS: Final = 50
WRITERS: Final = 4
SERVICES: Final = 3


@dataclass
class Known:
    """A client's knowledge of one service: the last acknowledged claim, and a request without an answer."""

    cpus: frozenset[int] = frozenset()
    pages: int = 0
    unanswered: tuple[str, Json] | None = None


@dataclass
class Writer:
    """A client that changes the claims of its own services until the daemon is killed."""

    daemon: Daemon
    number: int
    random: random.Random
    known: dict[str, Known] = field(default_factory=dict[str, Known])
    acknowledged: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.known = {f"w{self.number}-s{number}": Known() for number in range(SERVICES)}

    def run(self) -> None:
        """Send request after request."""
        while True:
            service = self.random.choice(list(self.known))
            action, fields = self.pick()
            known = self.known[service]
            known.unanswered = (action, fields)
            try:
                raw = self.daemon.request(encode(action, {"service_name": service, **fields}))
            except OSError:
                return
            if not raw:  # killed after it took the request
                return
            answer = decode(raw)
            known.unanswered = None
            if "error" in answer:
                self.refused += 1
                continue
            self.acknowledged += 1
            self.learn(known, fields, answer)

    def pick(self) -> tuple[str, Json]:
        """Pick any change; non-preemptive, so that only the service's own requests change its claim."""
        policy = {"preemption_policy": "non-preemptive"}
        kind = self.random.randrange(10)
        if kind < 5:
            return "allocate_cores", {"num_of_cores": self.random.randint(1, 4), **policy}
        if kind < 7:
            return "allocate_cores", {"num_of_cores": -1}
        if kind < 9:
            count = self.random.choice((-1, 1, 2, 3))
            return "allocate_numa_cores", {"numa_node": self.random.randrange(2), "num_of_cores": count, **policy}
        count = self.random.choice((-1, 4, 8, 16))
        return "allocate_hugepages", {"node_id": 0, "size_kb": 2048, "hugepages_requested": count}

    def learn(self, known: Known, fields: Json, answer: Json) -> None:
        """Note the CPUs or pages that an answer acknowledges."""
        if "node_id" in fields:
            known.pages = max(fields["hugepages_requested"], 0)
        elif "numa_node" in fields:
            node = self.daemon.host.isolated_in(fields["numa_node"])
            known.cpus = (known.cpus - node) | parse_cpus(answer["cores_allocated"])
        else:
            known.cpus = frozenset(parse_cpus(answer["allocated_cores"]))

    def check(self, claims: dict[str, set[int]], pages: dict[str, int]) -> None:
        """Compare with the state after a restart, and continue from it."""
        for service, known in self.known.items():
            cpus, count = frozenset(claims.get(service, ())), pages.get(service, 0)
            if known.unanswered is None:
                assert (cpus, count) == (known.cpus, known.pages), service
            elif (cpus, count) != (known.cpus, known.pages):
                self.check_carried_out(known, known.unanswered[1], cpus, count)
            known.cpus, known.pages, known.unanswered = cpus, count, None

    def check_carried_out(self, known: Known, fields: Json, cpus: frozenset[int], count: int) -> None:
        """Check that an unanswered request was carried out as a whole."""
        if "node_id" in fields:
            assert (cpus, count) == (known.cpus, max(fields["hugepages_requested"], 0))
            return
        assert count == known.pages
        scope = frozenset(self.daemon.host.isolated)
        if "numa_node" in fields:
            scope = frozenset(self.daemon.host.isolated_in(fields["numa_node"]))
        assert cpus - scope == known.cpus - scope
        mine, before = cpus & scope, known.cpus & scope
        assert len(mine) == max(fields["num_of_cores"], 0)
        assert mine <= before or before <= mine


def recorded_pages(daemon: Daemon) -> dict[str, int]:
    """The recorded hugepages of each service, of the kind that the writers request."""
    allocations: dict[str, dict[str, int]] = daemon.ok("get_memory_info")["numa_hugepages"]["node0"]["allocations"]
    return {service: sizes.get("2048", 0) for service, sizes in allocations.items()}


def test_acknowledged_changes_survive_fifty_kills() -> None:
    chance = random.Random(20251105)
    with Daemon(SMALL) as daemon:
        writers = [Writer(daemon, number, random.Random(number)) for number in range(WRITERS)]
        for _ in range(KILLS):
            daemon.start()
            claims, pages = daemon.claims(), recorded_pages(daemon)
            assert not claims.keys() - {service for writer in writers for service in writer.known}
            for writer in writers:
                writer.check(claims, pages)
            total = sum(writer.acknowledged for writer in writers)
            wanted = total + chance.randint(1, 40)
            with in_threads(*[writer.run for writer in writers]):
                try:
                    wait_until(lambda wanted=wanted: sum(w.acknowledged for w in writers) >= wanted, "they are served")
                    time.sleep(chance.uniform(0, 0.02))
                finally:
                    daemon.kill()
        daemon.start()
        for writer in writers:
            writer.check(daemon.claims(), recorded_pages(daemon))
            assert writer.acknowledged > KILLS
            assert writer.refused > KILLS, "the CPUs were never scarce"


def test_state_survives_kills_while_starting(daemon: Daemon) -> None:
    chance = random.Random(7)
    daemon.numa("a", 0, 3, preemption_policy="non-preemptive")
    daemon.pages("a", 0, 2048, 5)
    expected = daemon.snapshot()
    daemon.kill()
    for _ in range(10):
        daemon.launch()
        time.sleep(chance.uniform(0, 0.5))
        daemon.kill()
    daemon.start()
    assert daemon.snapshot() == expected


def test_import_survives_a_kill_in_the_first_start() -> None:
    # Killed as soon as a state file exists: the next start must not take a half-written state for a whole one.
    for delay in (0, 0, 0.0005, 0.001, 0.003, 0.01):
        with Daemon() as daemon:
            state = daemon.data / "data" / "state.json"
            state.parent.mkdir()
            state.write_text('{"version": 1, "allocations_db": {"allocations": {"a": "1-3", "b": "5"}}}')
            daemon.launch()
            deadline = time.monotonic() + PATIENCE
            while not list(daemon.common.glob("state*")):
                assert time.monotonic() < deadline, daemon.log()
                time.sleep(0.0002)
            time.sleep(delay)
            daemon.kill()
            daemon.start()
            assert daemon.claims() == {"a": {1, 2, 3}, "b": {5}}


def test_restart_changes_no_answer() -> None:
    with Daemon(settings={"cpu-pool": "0,4,8,12"}) as daemon:
        daemon.start()
        daemon.cores("plain", 3)
        daemon.numa("pinned", 1, 3, preemption_policy="non-preemptive")
        daemon.numa("pinned", 0, 1)
        daemon.cores("mixed", 1)
        daemon.numa("mixed", 1, 2)
        daemon.cores("host", 2, pool="general")
        daemon.pages("plain", 0, 2048, 7)
        daemon.pages("pages only", 1, 2048, 9)
        repeated: list[tuple[str, dict[str, Any]]] = [
            ("allocate_cores", {"service_name": "plain", "num_of_cores": 3}),
            ("allocate_numa_cores", {"service_name": "pinned", "numa_node": 1, "num_of_cores": 3}),
            ("allocate_cores", {"service_name": "host", "num_of_cores": 2, "pool": "general"}),
        ]
        before = daemon.snapshot()
        answers = [daemon.ok(action, **fields) for action, fields in repeated]
        assert daemon.snapshot() == before
        for end in (daemon.stop, daemon.kill, daemon.kill, daemon.stop):
            end()
            daemon.start()
            assert daemon.snapshot() == before
            assert [daemon.ok(action, **fields) for action, fields in repeated] == answers
            assert daemon.snapshot() == before


def test_answered_change_is_durable() -> None:
    # There is no pause between the answer and the kill, so the change is on disk before the answer.
    with Daemon() as daemon:
        for number in range(3):
            daemon.start()
            expected = daemon.cores(f"svc-{number}", 1)
            daemon.kill()
            daemon.start()
            assert daemon.claims()[f"svc-{number}"] == expected
            assert len(daemon.claims()) == number + 1
            daemon.kill()
