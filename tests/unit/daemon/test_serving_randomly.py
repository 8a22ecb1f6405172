# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Random requests, restarts and failing disks: totals are consistent and a restart is invisible."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.orchestrator import Orchestrator
from tests.unit.daemon.serving import LIST, Answer, Counting, ask, start

SERVICES = st.sampled_from(["a", "b", "c", "Ünïcode 服务"])


class Wire(RuleBasedStateMachine):
    """Random requests, restarts and failing disks: totals are consistent and a restart is invisible."""

    orchestrator: Orchestrator
    store: Counting

    @initialize(general=st.sampled_from(["", "0-1", "8-9"]))
    def begin(self, general: str) -> None:
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.settings = Settings.model_validate({"cpu-pool": general})
        self.open()

    def open(self) -> None:
        async def opened() -> None:
            self.orchestrator, self.store = start(Path(self.directory.name), settings=self.settings)

        self.runner.run(opened())

    def ask(self, *requests: Answer) -> list[Answer]:
        return self.runner.run(ask(self.orchestrator, *requests))

    def listings(self) -> list[Answer]:
        return self.ask(LIST, {"action": "list_allocations", "pool": "general"})

    def state(self) -> list[Answer]:
        """All that a client can see, but for the outdated placements, which come a moment after a change."""
        listings = [{**listing, "outdated_placements": None} for listing in self.listings()]
        return [*listings, *self.ask({"action": "get_memory_info"})]

    @rule(data=st.data())
    def mutate(self, data: st.DataObject) -> None:
        requests = data.draw(st.lists(REQUESTS, min_size=1, max_size=3))
        before = self.state()
        answers = self.ask(*requests)
        if all("error" in answer for answer in answers):
            assert self.state() == before
        if len(requests) == 1 and "error" not in answers[0]:
            again = self.ask(*requests)[0]
            assert again == answers[0] | {"message": again.get("message")} if "message" in again else answers[0]

    @rule(data=st.data())
    def try_out(self, data: st.DataObject) -> None:
        before = self.state()
        asked = data.draw(ALLOCATIONS) | {"explain": False}
        (dry,) = self.ask(asked | {"dry_run": True})
        assert self.state() == before
        (wet,) = self.ask(asked)
        assert dry == (wet if "error" in wet else wet | {"dry_run": True})

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        before = self.state()
        self.store.broken = True
        self.ask(*data.draw(st.lists(REQUESTS, min_size=1, max_size=3)))
        self.store.broken = False
        assert self.state() == before

    @rule()
    def restart(self) -> None:
        before = self.state()
        self.orchestrator.close()
        self.open()
        assert self.state() == before

    @invariant()
    def totals_are_consistent(self) -> None:
        if not hasattr(self, "store"):
            return
        owned = EMPTY
        for listing in self.listings():
            if "error" in listing:
                assert self.settings.cpu_pool == EMPTY
                continue
            eligible = CpuSet.parse(listing["cpu_pool"]["eligible_cpus"])
            held = withheld = EMPTY
            for claim in listing["allocations"]:
                cpus, kept = (CpuSet.parse(claim.get(name, "")) for name in ("allocated_cores", "withheld_cpus"))
                assert claim["cores_count"] == len(cpus) > 0
                assert not (cpus | kept) & owned
                assert not cpus & kept
                assert cpus | kept <= eligible
                owned, held, withheld = owned | cpus | kept, held | cpus, withheld | kept
            assert set(listing["outdated_placements"]) <= {claim["service_name"] for claim in listing["allocations"]}
            assert listing["total_allocations"] == len(listing["allocations"])
            assert listing["total_allocated_cpus"] == len(held)
            assert listing["total_available_cpus"] == len(eligible)
            assert listing["remaining_available_cpus"] == len(eligible - held - withheld)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.orchestrator.close()
            self.runner.close()
            self.directory.cleanup()


POOL: st.SearchStrategy[Answer] = st.sampled_from([{}, {"pool": "isolated"}, {"pool": "general"}])


POLICY: st.SearchStrategy[Answer] = st.sampled_from(
    [{}, {"preemption_policy": "legacy"}, {"preemption_policy": "non-preemptive"}]
)


def merged(*parts: Answer) -> Answer:
    return {name: value for part in parts for name, value in part.items()}


def request(action: str, **fields: st.SearchStrategy[int]) -> st.SearchStrategy[Answer]:
    named: st.SearchStrategy[Answer] = st.fixed_dictionaries(
        {"action": st.just(action), "service_name": SERVICES, **fields}
    )
    return st.builds(merged, named, POOL, POLICY)


WISHES: st.SearchStrategy[Answer] = st.fixed_dictionaries(
    {},
    optional={
        "numa_policy": st.sampled_from([None, "none", "restricted", "single-numa-node"]),
        "cpu_thread_policy": st.sampled_from([None, "share", "require", "isolate"]),
        "uncore_cache_alignment": st.sampled_from([None, "none", "require"]),
        "explain": st.booleans(),
    },
)


NEAR: st.SearchStrategy[Answer] = st.sampled_from([{}, {"near": 0}, {"near": 1}, {"near": 2}, {"near": "eth0"}])


ALLOCATIONS = st.one_of(
    st.builds(merged, request("allocate_cores", num_of_cores=st.integers(-1, 13)), WISHES, NEAR),
    st.builds(merged, request("allocate_cores_percent", percent=st.integers(-1, 100)), WISHES, NEAR),
    st.builds(
        merged,
        request("allocate_numa_cores", numa_node=st.integers(0, 2), num_of_cores=st.sampled_from([-1, 1, 2, 3, 6, 7])),
        WISHES,
    ),
)


REQUESTS = st.one_of(
    ALLOCATIONS,
    request(
        "allocate_hugepages",
        node_id=st.integers(0, 2),
        size_kb=st.sampled_from([2048, 4096]),
        hugepages_requested=st.sampled_from([-1, 1, 4, 9]),
    ),
)


TestWire = Wire.TestCase


TestWire.settings = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)
