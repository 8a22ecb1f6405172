# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Upkeep: outdated placements are found, CPUs that were seen are stored, and a replaced database is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.daemon import upkeep
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsError
from epa_orchestrator.state import database_files, loading, opening
from tests.unit.daemon.serving import LIST, PEER, SHAPE, Answer, Counting, ask, cores, run
from tools.synthetic import build


def test_a_database_that_is_replaced_is_noticed_without_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_CHECK_EVERY", 0.01)

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        counting.path.rename(tmp_path / "away")
        while "state_error" not in (await ask(orchestrator, LIST))[0]:
            await asyncio.sleep(0.01)

    run(tmp_path, body)


def test_stores_where_cpus_are_when_the_host_was_read_before_the_start(tmp_path: Path) -> None:
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


async def listed(orchestrator: Orchestrator, outdated: list[str]) -> Answer:
    """The listing, once it names these outdated placements; another thread judges them after the change."""
    while (listing := (await ask(orchestrator, LIST))[0])["outdated_placements"] != outdated:
        await asyncio.sleep(0.01)
    return listing


def test_a_listing_names_the_outdated_placements(tmp_path: Path) -> None:
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


class Regrouped(RecordedSysfs):
    """A host whose CPUs 0 and 1 become one core; no list of the host shows it."""

    def regroup(self) -> None:
        topology = "devices/system/cpu/cpu{}/topology/thread_siblings_list"
        self._files |= {topology.format(cpu): "0-1" for cpu in (0, 1)}


def regrouped(tmp_path: Path) -> tuple[Orchestrator, Host, Regrouped]:
    """A daemon on such a host, which was read once."""
    path = tmp_path / database_files.FILE_NAME
    opening.create(path, Ledger(), PEER, 1.0)
    opened, loaded = opening.open_store(path)
    sysfs = Regrouped(build(SHAPE))
    host = Host(sysfs, Settings())
    host.pools()
    return Orchestrator(host, Settings(), State(loaded.ledger, opened, None)), host, sysfs


def first_core(host: Host) -> str | None:
    pools = host.known_pools()
    return str(pools.machine.cores[0].cpus) if pools is not None and pools.machine is not None else None


async def until_regrouped(host: Host) -> None:
    while first_core(host) != "0-1":
        await asyncio.sleep(0.01)


def test_idle_daemon_reads_the_host_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_CHECK_EVERY", 0.01)

    async def main() -> None:
        orchestrator, host, sysfs = regrouped(tmp_path)
        sysfs.regroup()
        await asyncio.sleep(0.1)
        assert first_core(host) == "0,8", "it is not due"
        host.due = 0.0
        await asyncio.wait_for(until_regrouped(host), 10)
        assert host.due > 0.0
        orchestrator.close()

    asyncio.run(main())


def test_host_is_read_again_on_request(tmp_path: Path) -> None:
    async def main() -> None:
        orchestrator, host, sysfs = regrouped(tmp_path)
        sysfs.regroup()
        orchestrator.read_host_again()
        assert host.known_pools() is None, "no request is decided on the host as it was"
        await asyncio.wait_for(until_regrouped(host), 10)
        orchestrator.close()

    asyncio.run(main())


def test_unreadable_host_is_logged_and_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "_CHECK_EVERY", 0.01)

    async def main() -> None:
        orchestrator, host, sysfs = regrouped(tmp_path)
        read_again = host.read_again

        def fail() -> None:
            monkeypatch.setattr(host, "read_again", read_again)
            raise SysfsError("The host cannot be read at the moment: try again")

        monkeypatch.setattr(host, "read_again", fail)
        sysfs.regroup()
        host.due = 0.0
        await asyncio.wait_for(until_regrouped(host), 10)
        orchestrator.close()

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "The host cannot be read at the moment: try again"
    ]
