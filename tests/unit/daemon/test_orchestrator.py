"""Orchestrator: batches share a commit, a failed one undoes its decisions, and a restart is invisible."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import upkeep
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.requests import validate
from epa_orchestrator.state import database_files, loading, opening
from epa_orchestrator.state.errors import CommitError
from epa_orchestrator.state.store import Store
from tools.synthetic import Shape, build

PEER = Peer(1, 0, 0)
SHAPE = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15", hugepages={2048: (8, 8)})

Answer = dict[str, Any]


class Counting(Store):
    """A real store that counts its commits, and fails them on demand as a full disk would."""

    commits = 0
    broken = False

    def commit(self) -> None:
        if self.broken:
            self.undo()
            raise CommitError("database or disk is full")
        super().commit()
        self.commits += 1


def start(directory: Path, shape: Shape = SHAPE, settings: Settings | None = None) -> tuple[Orchestrator, Counting]:
    path = directory / database_files.FILE_NAME
    if not database_files.exists(path):
        opening.create(path, Ledger(), PEER, 1.0)
    opened, loaded = opening.open_store(path)
    counting = Counting(opened._db, path, loaded.checksum, opened._lock)
    settings = settings or Settings()
    host = Host(RecordedSysfs(build(shape)), settings, loaded.seen)
    return Orchestrator(host, settings, State(loaded.ledger, counting, None)), counting


async def ask(orchestrator: Orchestrator, *requests: Answer) -> list[Answer]:
    """The answers to requests that arrive in one turn of the event loop."""
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[bytes]] = []
    for request in requests:
        answer: asyncio.Future[bytes] = loop.create_future()
        answers.append(answer)
        orchestrator.submit(validate(request), PEER, answer.set_result)
    return [json.loads(answer) for answer in await asyncio.gather(*answers)]


def cores(service: str, count: int) -> Answer:
    return {"action": "allocate_cores", "service_name": service, "num_of_cores": count}


LIST = {"action": "list_allocations"}


def run(tmp_path: Path, body: Callable[[Orchestrator, Counting], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        orchestrator, counting = start(tmp_path)
        try:
            await body(orchestrator, counting)
        finally:
            orchestrator.close()

    asyncio.run(main())


def test_mutations_that_wait_together_share_one_commit(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        answers = await ask(orchestrator, *(cores(f"s{number}", 1) for number in range(12)))
        assert counting.commits == 1
        assert sorted(int(answer["allocated_cores"]) for answer in answers) == list(CpuSet.parse("2-7,10-15"))

    run(tmp_path, body)


def test_a_refusal_and_a_repetition_need_no_commit(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        first = await ask(orchestrator, cores("a", 4))
        assert await ask(orchestrator, cores("a", 4), cores("b", 9)) == [
            first[0],
            {"version": "1.0", "error": "Insufficient CPUs available. Requested: 9, Available: 8"},
        ]
        assert counting.commits == 1

    run(tmp_path, body)


def test_mutations_gather_while_a_commit_is_under_way(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        first = asyncio.ensure_future(ask(orchestrator, cores("a", 1)))
        while not orchestrator._busy or orchestrator._waiting:
            await asyncio.sleep(0)
        rest = asyncio.ensure_future(ask(orchestrator, cores("b", 1), cores("c", 1)))
        # A reading meanwhile shows what is committed, not what is being decided.
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] in {0, 1}
        await asyncio.gather(first, rest)
        assert counting.commits == 2
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] == 3

    run(tmp_path, body)


def test_a_failed_commit_undoes_its_decisions(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, cores("a", 4))
        before = await ask(orchestrator, LIST)
        counting.broken = True
        answers = await ask(orchestrator, cores("a", 4), cores("b", 8), cores("c", 1), cores("a", 2))
        assert answers[0]["allocated_cores"] == "2-3,10-11"  # decided on what is committed, and nothing to commit
        failed = {
            "version": "1.0",
            "error": "Nothing was changed because the state could not be stored: database or disk is full",
        }
        # The refusal of c rests on b's CPUs, which b did not get.
        assert answers[1:] == [failed, failed, failed]
        assert await ask(orchestrator, LIST) == before
        counting.broken = False
        assert (await ask(orchestrator, cores("c", 1)))[0]["cores_allocated"] == 1

    run(tmp_path, body)


def test_a_decision_that_fails_unexpectedly_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr("epa_orchestrator.allocation.allocate.place", broken)
            answers = await ask(orchestrator, cores("a", 4), cores("b", -1))
        assert answers[0]["error"].startswith("Internal error: nothing was changed")
        assert answers[1]["allocated_cores"] == ""
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] == 0

    run(tmp_path, body)


@pytest.mark.parametrize("prepared", [0, 20])  # decided in the thread, and on the loop
def test_a_database_that_is_replaced_gets_no_more_changes(prepared: int, tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        for number in range(prepared):
            await ask(orchestrator, cores("a", 1 + number % 2))
        await ask(orchestrator, cores("a", 1))
        before = (await ask(orchestrator, LIST))[0]
        copy = shutil.copyfile(counting.path, tmp_path / "copy")
        copy.rename(counting.path)
        problem = f"The state database {counting.path} can no longer be written, because the database is no longer"
        answers = [(await ask(orchestrator, cores("b", 1)))[0] for _ in range(2)]
        assert answers[0]["error"] == (
            "Nothing was changed because the state could not be stored: the database is no longer the file that this"
            " daemon opened"
        )
        assert answers[1]["error"].startswith(problem)
        after = (await ask(orchestrator, LIST))[0]
        assert after.pop("state_error").startswith(problem)
        assert after == before

    run(tmp_path, body)


def test_a_database_that_is_replaced_is_noticed_without_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_CHECK_EVERY", 0.01)

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        counting.path.rename(tmp_path / "away")
        while "state_error" not in (await ask(orchestrator, LIST))[0]:
            await asyncio.sleep(0.01)

    run(tmp_path, body)


def test_where_cpus_are_is_stored_although_the_host_was_looked_at_before(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / database_files.FILE_NAME
        opening.create(path, Ledger(), PEER, 1.0)
        opened, loaded = opening.open_store(path)
        host = Host(RecordedSysfs(build(SHAPE)), Settings(), loaded.seen)
        host.pools()
        orchestrator = Orchestrator(host, Settings(), State(loaded.ledger, opened, None, loaded.seen))
        await ask(orchestrator, cores("a", 1))
        orchestrator.close()
        assert loading.load(path).seen == host.seen
        assert host.seen.nodes.keys() == {0, 1}

    asyncio.run(main())


def test_a_reply_that_fails_leaves_the_others_served(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        def fail(_: bytes) -> None:
            raise RuntimeError("never thought of")

        orchestrator.submit(validate(cores("a", 1)), PEER, fail)
        assert [answer["cores_allocated"] for answer in await ask(orchestrator, cores("b", 1), cores("c", 1))] == [1, 1]
        orchestrator.submit(validate(LIST), PEER, fail)
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] == 3
        assert not orchestrator.busy

    run(tmp_path, body)


def test_without_a_store_only_readings_are_served(tmp_path: Path) -> None:
    async def body() -> None:
        settings = Settings()
        host = Host(RecordedSysfs(build(SHAPE)), settings)
        orchestrator = Orchestrator(host, settings, State(None, None, "The database is a duck"))
        listing, pages, refused = await ask(orchestrator, LIST, {"action": "get_memory_info"}, cores("a", -1))
        assert listing["state_error"] == pages["state_error"] == "The database is a duck"
        assert (listing["total_available_cpus"], listing["remaining_available_cpus"]) == (12, 0)
        assert refused["error"].startswith("The database is a duck; until then only list_allocations")
        orchestrator.close()

    asyncio.run(body())


def test_a_listing_is_prepared_once(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, LIST)  # by now it has looked at the host
        taken: list[bytes] = []
        for _ in range(2):
            orchestrator.submit(validate(LIST), PEER, taken.append)
        assert taken[0] is taken[1]
        await ask(orchestrator, cores("b", 1), cores("a", 1))
        orchestrator.submit(validate(LIST), PEER, taken.append)
        assert [claim["service_name"] for claim in json.loads(taken[2])["allocations"]] == ["a", "b"]

    run(tmp_path, body)


def test_a_dry_run_needs_no_commit_and_is_not_seen_by_those_it_waits_with(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        before = await ask(orchestrator, LIST)
        dry, explained = await ask(
            orchestrator, cores("a", 4) | {"dry_run": True}, cores("a", 4) | {"dry_run": True, "explain": True}
        )
        assert (counting.commits, await ask(orchestrator, LIST)) == (0, before)
        assert explained.pop("explanation")["scopes"][0]["cpus"] == dry["allocated_cores"]
        assert explained == dry
        answers = await ask(orchestrator, cores("b", 12) | {"dry_run": True}, cores("a", 4))
        assert answers[1] == {name: value for name, value in dry.items() if name != "dry_run"}
        assert counting.commits == 1

    run(tmp_path, body)


async def listed(orchestrator: Orchestrator, outdated: list[str]) -> Answer:
    """The listing, once it names these outdated placements; another thread judges them after the change."""
    while (listing := (await ask(orchestrator, LIST))[0])["outdated_placements"] != outdated:
        await asyncio.sleep(0.01)
    return listing


def test_a_listing_names_the_claims_that_the_settings_would_place_otherwise(tmp_path: Path) -> None:
    """Nothing moves by itself, whatever is set; a claim that its service requests again is judged again."""

    def use(orchestrator: Orchestrator, **options: str) -> None:
        orchestrator.use(parse_settings({name.replace("_", "-"): value for name, value in options.items()}))

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, cores("a", 2), cores("b", 2), cores("c", 4))
        before = (await ask(orchestrator, LIST))[0]
        assert [claim["allocated_cores"] for claim in before["allocations"]] == ["2,10", "3,11", "4-5,12-13"]
        assert before["outdated_placements"] == []
        use(orchestrator, cpu_thread_policy="isolate")
        assert await listed(orchestrator, ["a", "b", "c"]) == before | {"outdated_placements": ["a", "b", "c"]}
        use(orchestrator)
        assert await listed(orchestrator, []) == before
        use(orchestrator, numa_allocation_strategy="spread")
        assert await listed(orchestrator, ["a", "b"]) == before | {"outdated_placements": ["a", "b"]}
        assert counting.commits == 1
        await ask(orchestrator, cores("a", -1), cores("a", 2))
        while "a" in (listing := (await ask(orchestrator, LIST))[0])["outdated_placements"]:
            await asyncio.sleep(0.01)
        assert listing["allocations"][0]["allocated_cores"] == "6,14"

    run(tmp_path, body)


def test_what_is_withheld_is_listed_and_survives_a_restart(tmp_path: Path) -> None:
    async def body() -> None:
        orchestrator, _ = start(tmp_path)
        await ask(orchestrator, cores("a", 2) | {"cpu_thread_policy": "isolate"}, cores("b", 1))
        before = (await ask(orchestrator, LIST))[0]
        assert [claim.get("withheld_cpus") for claim in before["allocations"]] == ["10-11", None]
        assert (before["total_allocated_cpus"], before["remaining_available_cpus"]) == (3, 12 - 3 - 2)
        orchestrator.close()
        orchestrator, counting = start(tmp_path)
        assert (await ask(orchestrator, LIST))[0] == before
        repeated = await ask(orchestrator, cores("a", 2), cores("a", 2) | {"cpu_thread_policy": "isolate"})
        assert [answer["placement"]["withheld_cpus"] for answer in repeated] == ["10-11", "10-11"]
        assert counting.commits == 0
        orchestrator.close()

    asyncio.run(body())


SERVICES = st.sampled_from(["a", "b", "c", "Ünïcode 服务"])


def test_many_answers_leave_the_loop_to_others_in_between(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        turns, told = 0, list[int]()

        def slow_client(_: bytes) -> None:
            told.append(turns)
            end = time.thread_time() + 0.001
            while time.thread_time() < end:
                pass

        for _ in range(64):
            orchestrator.submit(validate(cores("a", 99)), PEER, slow_client)
        while len(told) < 64:
            turns += 1
            assert orchestrator.busy
            await asyncio.sleep(0)
        assert max(told.count(turn) for turn in set(told)) <= 8
        assert counting.commits == 0

    run(tmp_path, body)


def test_a_listing_after_many_changes_leaves_the_loop_to_others_in_between(tmp_path: Path) -> None:
    """With 2,000 grants since the last listing it held the loop for 22 ms. Mutations and readings go on meanwhile."""

    async def main() -> None:
        shape = Shape(packages=2, cores_per_l3=512, isolated="0-1023", hugepages={2048: (8, 8)})
        orchestrator, _ = start(tmp_path, shape)
        try:
            await ask(orchestrator, *(cores(f"s{number}", 1) for number in range(600)))
            answered: list[bytes] = []
            for _ in range(3):
                orchestrator.submit(validate(LIST), PEER, answered.append)
            turns = 0
            while len(answered) < 3:
                turns += 1
                await asyncio.sleep(0)
            assert turns > 1
            assert {len(json.loads(answer)["allocations"]) for answer in answered} == {600}
        finally:
            orchestrator.close()

    asyncio.run(main())


def stopped_disk(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that stands still until the event is set."""
    moves, commit = threading.Event(), counting.commit

    def stand_still() -> None:
        assert moves.wait(60)
        commit()

    monkeypatch.setattr(counting, "commit", stand_still)
    return moves


def test_a_disk_that_stands_still_keeps_no_reading_waiting_after_a_change_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        moves = stopped_disk(counting, monkeypatch)
        try:
            changed = asyncio.ensure_future(ask(orchestrator, cores("a", 1)))
            await asyncio.sleep(0.05)
            orchestrator.use(parse_settings({"reserved-cpus": "7"}))
            listing = (await asyncio.wait_for(ask(orchestrator, LIST), 20))[0]
            assert listing["total_available_cpus"] == 11
            assert not changed.done()
        finally:
            moves.set()
        await changed

    run(tmp_path, body)


def test_what_a_slow_disk_commits_into_a_database_that_was_replaced_meanwhile_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        moves = stopped_disk(counting, monkeypatch)
        changed = asyncio.ensure_future(ask(orchestrator, cores("a", 1)))
        await asyncio.sleep(0.05)
        counting.path.rename(counting.path.with_name("elsewhere"))
        moves.set()
        assert "no longer the file that this daemon opened" in (await changed)[0]["error"]
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] == 0

    run(tmp_path, body)


class Failing(RecordedSysfs):
    """A host that cannot be looked at for a reason that nobody has thought of."""

    broken = False

    def read(self, path: str) -> str | None:
        if self.broken:
            raise RuntimeError("never thought of")
        return super().read(path)


def test_a_mistake_in_discovery_is_told_to_those_who_wait_and_the_next_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysfs = Failing(build(SHAPE))

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        monkeypatch.setattr(orchestrator._current.host, "_sysfs", sysfs)
        before = await ask(orchestrator, cores("a", 2))
        sysfs.broken = True
        answers = await asyncio.wait_for(ask(orchestrator, cores("a", 4), cores("b", 1), LIST), 30)
        told = "Internal error: nothing was changed; please report it with the daemon's log"
        assert answers == [{"version": "1.0", "error": told}] * 3
        assert not orchestrator.busy
        sysfs.broken = False
        assert await ask(orchestrator, cores("a", 2)) == before
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] == 1
        assert counting.commits == 1

    run(tmp_path, body)


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
