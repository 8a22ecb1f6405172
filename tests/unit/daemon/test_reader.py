# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Reader: listings wait for nothing but their own parts, and never for the disk."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.daemon import reader
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.protocol.parsing import validate
from tests.unit.daemon.serving import LIST, PEER, SHAPE, Counting, ask, cores, run, start, stopped_disk
from tools.synthetic import Shape, build


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


def test_a_listing_after_many_changes_leaves_the_loop_to_others_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 2,000 grants since the last listing it held the loop for 22 ms. Mutations and readings go on meanwhile."""
    monkeypatch.setattr(reader, "_TURN", 0)  # a fast machine encodes 600 claims in one turn

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


def test_a_blocked_disk_delays_no_reading_after_a_change_of_settings(
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


class Failing(RecordedSysfs):
    """A host that cannot be looked at for a reason that nobody has thought of."""

    broken = False

    def read(self, path: str) -> str | None:
        if self.broken:
            raise RuntimeError("never thought of")
        return super().read(path)


def test_a_bug_in_discovery_is_reported_and_later_requests_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysfs = Failing(build(SHAPE))

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        monkeypatch.setattr(orchestrator._current.host, "_sysfs", sysfs)
        before = await ask(orchestrator, cores("a", 2))
        sysfs.broken = True
        answers = await asyncio.wait_for(ask(orchestrator, cores("a", 4), cores("b", 1), LIST), 30)
        sentence = "Internal error: nothing was changed; please report it with the daemon's log"
        assert answers == [{"version": "1.0", "error": sentence}] * 3
        assert not orchestrator.busy
        sysfs.broken = False
        assert await ask(orchestrator, cores("a", 2)) == before
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] == 1
        assert counting.commits == 1

    run(tmp_path, body)


def test_without_a_store_only_readings_are_served(tmp_path: Path) -> None:
    async def body() -> None:
        settings = Settings()
        host = Host(RecordedSysfs(build(SHAPE)), settings)
        orchestrator = Orchestrator(host, settings, State(None, None, "The database is a duck"))
        listing, pages, refused = await ask(orchestrator, LIST, {"action": "get_memory_info"}, cores("a", -1))
        assert listing["state_error"] == pages["state_error"] == "The database is a duck"
        assert (listing["total_available_cpus"], listing["remaining_available_cpus"]) == (12, 0)
        assert refused["error"].startswith("The database is a duck; until then only the reading actions")
        orchestrator.close()

    asyncio.run(body())
