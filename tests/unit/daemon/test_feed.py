# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Feed: what a watching client is told of changes of the ledger, the machine and the settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from epa_orchestrator.allocation import taken
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsError
from tests.unit.daemon.serving import LIST, SHAPE, Answer, Counting, ask, cores, run, start, stopped_disk
from tests.unit.daemon.watching import Watching
from tools.synthetic import build


def numa(service: str, node: int, count: int) -> Answer:
    return {"action": "allocate_numa_cores", "service_name": service, "numa_node": node, "num_of_cores": count}


def isolated(service: str, count: int) -> Answer:
    return cores(service, count) | {"cpu_thread_policy": "isolate"}


def pages(service: str, count: int) -> Answer:
    return {
        "action": "allocate_hugepages",
        "service_name": service,
        "node_id": 0,
        "size_kb": 2048,
        "hugepages_requested": count,
    }


async def watching(orchestrator: Orchestrator) -> Watching:
    made = Watching(orchestrator)
    await made.begin()
    return made


def test_the_first_line_has_the_listings_of_both_pools(tmp_path: Path) -> None:
    async def main() -> None:
        orchestrator, _ = start(tmp_path, settings=parse_settings({"cpu-pool": "0-1"}))
        try:
            await ask(orchestrator, cores("a", 2), cores("g", 1) | {"pool": "general"})
            listings = await ask(orchestrator, LIST, LIST | {"pool": "general"})
            for pool, listing, other in (("isolated", *listings), ("general", *reversed(listings))):
                first = {"event": "state", **listing, "other_pool": other, "hugepages": {}}
                assert await Watching(orchestrator).begin(pool) == first
        finally:
            orchestrator.close()

    asyncio.run(main())


def test_a_pool_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        assert "not configured" in (await Watching(orchestrator).begin("general"))["error"]
        assert not orchestrator.watchers

    run(tmp_path, body)


def test_tells_a_grant_a_change_and_a_release(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        client = await watching(orchestrator)
        for count in (2, 4, -1):
            await ask(orchestrator, cores("a", count))
        lines = client.take()
        claims = [[line[when] and line[when]["allocated_cores"] for when in ("before", "after")] for line in lines]
        assert claims == [[None, "2,10"], ["2,10", "2-3,10-11"], ["2-3,10-11", None]]
        assert all(line["taken_from"] == {} for line in lines)

    run(tmp_path, body)


def test_tells_each_change_of_a_batch(tmp_path: Path) -> None:
    """A claim that comes and goes within one commit is told as well."""

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        client = await watching(orchestrator)
        await ask(orchestrator, cores("a", 1), cores("a", -1), pages("a", 3), pages("a", -1))
        assert counting.commits == 1
        assert [line["event"] for line in client.take()] == ["claim", "claim", "hugepages", "hugepages"]

    run(tmp_path, body)


def test_a_service_learns_who_took_its_cpus(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await ask(orchestrator, cores("a", 12))
        client = await watching(orchestrator)
        await ask(orchestrator, numa("b", 1, 8))
        lost, gained = client.take()
        assert (lost["service_name"], lost["taken_by"], lost["taken_from"]) == ("a", "b", {})
        assert gained["taken_from"] == {"a": gained["after"]["allocated_cores"]}
        assert "taken_by" not in gained

    run(tmp_path, body)


def test_a_line_names_a_bounded_number_of_services_that_lose_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken, "_MAX_BYTES", 26)  # two services of one letter with three CPUs each

    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await ask(orchestrator, *[cores(service, 3) for service in "abcd"])
        client = await watching(orchestrator)
        await ask(orchestrator, numa("taker", 1, 8))
        *lost, gained = client.take()
        assert len(lost) > len(gained["taken_from"])
        assert len(lost) == len(gained["taken_from"]) + gained["taken_from_others"]
        assert {line["taken_by"] for line in lost} == {"taker"}

    run(tmp_path, body)


def test_tells_a_claim_that_withholds_other_cpus_because_of_another_one(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await ask(orchestrator, isolated("alone", 1))
        client = await watching(orchestrator)
        withheld = client.replica.claims["alone"]["withheld_cpus"]
        orchestrator.use(parse_settings({"reserved-cpus": withheld}))
        await asyncio.sleep(0.2)
        machine, claim = client.take()
        assert machine["event"] == "machine"
        assert (claim["service_name"], claim["before"]["withheld_cpus"]) == ("alone", withheld)
        assert "withheld_cpus" not in claim["after"]

    run(tmp_path, body)


def test_a_change_that_is_not_stored_is_not_told(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        client = await watching(orchestrator)
        counting.broken = True
        await ask(orchestrator, cores("a", 1), pages("a", 1))
        counting.broken = False
        await ask(orchestrator, cores("b", 1))
        assert [line["service_name"] for line in client.take()] == ["b"]

    run(tmp_path, body)


def test_nothing_is_told_before_it_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        client = await watching(orchestrator)
        moves = stopped_disk(counting, monkeypatch)
        try:
            changed = asyncio.ensure_future(ask(orchestrator, cores("a", 1)))
            await asyncio.sleep(0.1)
            assert client.take() == []
        finally:
            moves.set()
        await changed
        assert [line["service_name"] for line in client.take()] == ["a"]

    run(tmp_path, body)


def test_a_client_that_comes_during_a_commit_learns_of_its_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, LIST)
        moves = stopped_disk(counting, monkeypatch)
        try:
            changed = asyncio.ensure_future(ask(orchestrator, cores("a", 1), pages("a", 2)))
            await asyncio.sleep(0.1)
            client = Watching(orchestrator)
            assert (await client.begin())["allocations"] == []
        finally:
            moves.set()
        await changed
        assert [(line["event"], line["service_name"]) for line in client.take()] == [("claim", "a"), ("hugepages", "a")]

    run(tmp_path, body)


def test_cpus_that_two_services_exchange_never_have_two_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client comes when the decisions are made, so it learns only what has changed in all."""

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, numa("a", 0, 6), numa("b", 1, 6))
        moves = stopped_disk(counting, monkeypatch)
        exchange = [numa("a", 0, -1), numa("b", 1, 5), numa("b", 0, 6), numa("a", 1, 1)]
        try:
            changed = asyncio.ensure_future(ask(orchestrator, *exchange))
            await asyncio.sleep(0.1)
            client = await watching(orchestrator)
        finally:
            moves.set()
        await changed
        lines = client.take()  # the replica checks that no CPU has two owners
        assert sorted({line["service_name"] for line in lines}) == ["a", "b"]
        client.replica.check((await ask(orchestrator, LIST))[0])

    run(tmp_path, body)


def test_what_a_listing_does_not_show_is_not_told(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await ask(orchestrator, cores("a", 2))
        client = await watching(orchestrator)
        await ask(orchestrator, cores("a", 2) | {"numa_policy": "restricted"}, cores("a", 2))
        assert client.take() == []

    run(tmp_path, body)


def test_tells_that_the_daemon_is_read_only(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        client = await watching(orchestrator)
        orchestrator._lose_state("of a test")
        (line,) = client.take()
        assert line["event"] == "machine"
        assert "of a test" in line["state_error"]
        client.replica.check((await ask(orchestrator, LIST))[0])

    run(tmp_path, body)


def test_other_settings_are_told_without_a_request(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        client = await watching(orchestrator)
        orchestrator.use(parse_settings({"cpu-pool": "0-1"}))
        orchestrator.use(parse_settings({"cpu-pool": "0"}))
        await asyncio.sleep(0.2)
        last = client.take()[-1]
        assert last["pools"]["general"]["cpu_pool"]["eligible_cpus"] == "0"

    run(tmp_path, body)


def test_a_pool_that_is_no_longer_configured_is_not_told(tmp_path: Path) -> None:
    """The claim of that pool is still known from the first line."""

    async def main() -> None:
        orchestrator, _ = start(tmp_path, settings=parse_settings({"cpu-pool": "0-1"}))
        try:
            await ask(orchestrator, cores("g", 1) | {"pool": "general"})
            client = await watching(orchestrator)
            orchestrator.use(parse_settings({"cpu-pool": "isolated"}))
            await asyncio.sleep(0.2)
            assert list(client.take()[-1]["pools"]) == ["isolated"]
            client.replica.check((await ask(orchestrator, LIST | {"pool": "general"}))[0])
        finally:
            orchestrator.close()

    asyncio.run(main())


def test_settings_that_change_nothing_are_not_told(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        client = await watching(orchestrator)
        orchestrator.use(parse_settings({}))
        orchestrator.read_host_again()
        await asyncio.sleep(0.2)
        assert client.take() == []

    run(tmp_path, body)


def eligible(lines: list[Answer]) -> list[str]:
    """The eligible CPUs of the pool isolated in each line about the machine."""
    return [line["pools"]["isolated"]["cpu_pool"]["eligible_cpus"] for line in lines if line["event"] == "machine"]


def test_a_batch_on_older_pools_does_not_send_the_clients_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        client = await watching(orchestrator)
        await ask(orchestrator, cores("a", 1))
        client.take()
        moves = stopped_disk(counting, monkeypatch)
        try:
            changed = asyncio.ensure_future(ask(orchestrator, cores("b", 1)))
            await asyncio.sleep(0.1)  # it is decided on the pools of before
            orchestrator.use(parse_settings({"reserved-cpus": "6-7"}))
            await asyncio.sleep(0.2)
            assert eligible(client.take()) == ["2-5,10-15"]
        finally:
            moves.set()
        await changed
        assert [(line["event"], line["service_name"]) for line in client.take()] == [("claim", "b")]
        client.replica.check((await ask(orchestrator, LIST))[0])

    run(tmp_path, body)


def never(*_: object) -> bool:
    return False


def test_a_client_that_waits_for_its_first_line_gets_the_newest_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        client = await watching(orchestrator)
        with monkeypatch.context() as patch:
            patch.setattr(orchestrator._reader, "_encode", never)
            late = Watching(orchestrator)
            begun = asyncio.ensure_future(late.begin())
            await asyncio.sleep(0.05)
            orchestrator.use(parse_settings({"reserved-cpus": "6-7"}))
            while not (told := eligible(client.take())):
                await asyncio.sleep(0.01)
        assert told == ["2-5,10-15"]
        assert (await begun)["cpu_pool"]["eligible_cpus"] == "2-5,10-15"
        assert client.take() == []

    run(tmp_path, body)


def test_the_first_line_has_the_hugepage_records(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await ask(orchestrator, pages("a", 3))
        client = Watching(orchestrator)
        first = await client.begin()
        assert first["hugepages"] == {"a": [{"node_id": 0, "size_kb": 2048, "hugepages": 3}]}
        await ask(orchestrator, pages("a", 5))
        (line,) = client.take()
        assert (line["before"], line["after"]) == (3, 5)

    run(tmp_path, body)


def test_a_client_that_comes_during_a_commit_learns_who_took_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, cores("a", 12))
        moves = stopped_disk(counting, monkeypatch)
        try:
            changed = asyncio.ensure_future(ask(orchestrator, numa("b", 1, 8)))
            await asyncio.sleep(0.1)
            client = await watching(orchestrator)
        finally:
            moves.set()
        await changed
        assert [line.get("taken_by") for line in client.take()] == ["b", None]

    run(tmp_path, body)


@pytest.mark.parametrize("alone", [True, False])
def test_a_bug_in_the_feed_drops_who_watches_and_stops_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        client = await watching(orchestrator)
        monkeypatch.setattr(orchestrator._feed, "_move_to", None)
        requests = [cores("a", 1)] if alone else [cores("a", 1), cores("b", 40)]
        answers = await asyncio.wait_for(ask(orchestrator, *requests), 20)
        assert answers[0]["allocated_cores"] == "2"
        assert client.dropped
        assert not orchestrator.watchers
        monkeypatch.undo()
        client = await watching(orchestrator)
        await asyncio.wait_for(ask(orchestrator, cores("c", 1)), 20)
        assert [line["service_name"] for line in client.take()] == ["c"]

    run(tmp_path, body)


def test_a_bug_in_the_feed_does_not_keep_the_daemon_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is decided in the event loop, where the end of the batch is the end of the turn."""

    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await ask(orchestrator, cores("a", 1))
        client = await watching(orchestrator)
        monkeypatch.setattr(orchestrator._feed, "_move_to", None)
        for turn in ("first", "second"):
            (answer,) = await asyncio.wait_for(ask(orchestrator, cores("b", 40)), 20)
            assert "error" in answer, turn
        assert client.dropped
        assert not orchestrator.busy

    run(tmp_path, body)


class Unreadable(RecordedSysfs):
    """A host whose files cannot be read for a while."""

    broken = False

    def read(self, path: str) -> str | None:
        if self.broken:
            raise SysfsError("/sys cannot be read")
        return super().read(path)


def test_a_host_that_cannot_be_read_is_logged_once_and_looked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sysfs = Unreadable(build(SHAPE))

    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await watching(orchestrator)
        monkeypatch.setattr(orchestrator._current.host, "_sysfs", sysfs)
        pauses: list[float] = []
        for broken in (True, True, True, False):
            sysfs.broken = broken
            orchestrator._feed.close()
            orchestrator._feed._look_again()
            pauses.append(orchestrator._feed._pause)
            await asyncio.sleep(0.1)
        assert pauses == [2.0, 4.0, 8.0, 1.0]
        assert [record.getMessage() for record in caplog.records].count("/sys cannot be read") == 1

    run(tmp_path, body)
