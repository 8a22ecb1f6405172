# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Orchestrator: mutations share commits, failed ones change nothing, and answers leave in turns."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon import orchestrator as orchestrators
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.metrics.counts import Counts
from epa_orchestrator.protocol.parsing import validate
from tests.unit.daemon.serving import LIST, PEER, Counting, ask, cores, run, start, stopped_disk


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
            patched.setattr("epa_orchestrator.allocation.allocate.place_compared", broken)
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


def test_a_commit_into_a_replaced_database_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        moves = stopped_disk(counting, monkeypatch)
        changed = asyncio.ensure_future(ask(orchestrator, cores("a", 1)))
        await asyncio.sleep(0.05)
        counting.path.rename(counting.path.with_name("elsewhere"))
        moves.set()
        assert "no longer the file that this daemon opened" in (await changed)[0]["error"]
        assert (await ask(orchestrator, LIST))[0]["total_allocations"] == 0

    run(tmp_path, body)


def test_a_database_that_others_lock_counts_as_a_failed_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrators, "counts", counts := Counts())
    counts.on = True

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        another = sqlite3.connect(counting.path, isolation_level=None)
        another.execute("BEGIN IMMEDIATE")
        assert "database is locked" in (await ask(orchestrator, cores("a", 1)))[0]["error"]
        another.close()
        assert (counts.failed_commits, counts.commits.sum) == (1, 0.0)

    run(tmp_path, body)
