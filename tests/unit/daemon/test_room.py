# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room: searches run in a thread of their own, few at a time, and their answers are refusals with a plan."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.daemon import room
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.room import RoomSearches, Search
from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.room import MakeRoom
from tests.unit.daemon.serving import LIST, PEER, Answer, Counting, ask, cores, run

FOUND = MakeRoom(moves=[], cpus="", requests=[], exact=True, tried=1, sentence="Found nothing")
#: The CPUs are 2-3 and 10-11 in node 0, 4-7 and 12-15 in node 1.
WISH = {"numa_policy": "single-numa-node", "dry_run": True, "make_room": True}


def in_node(service: str, count: int, node: int) -> Answer:
    return {**cores(service, count), "near": node}


async def refused(orchestrator: Orchestrator, **request: Any) -> Answer:
    (answer,) = await ask(orchestrator, {"action": "allocate_cores", **request})
    assert "error" in answer, answer
    return answer


def test_a_refusal_has_a_plan_and_the_requests_for_it(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, {**in_node("a", 2, 1), "preemption_policy": "non-preemptive"}, in_node("b", 1, 0))
        found = (await refused(orchestrator, service_name="new", num_of_cores=8, **WISH))["make_room"]
        assert found["moves"] == [
            {
                "service_name": "a",
                "pool": "isolated",
                "from": "4,12",
                "to": "3,11",
                "numa_nodes": "0",
                "preemption_policy": "non-preemptive",
            }
        ]
        assert (found["cpus"], found["exact"]) == ("4-7,12-15", True)
        for request in found["requests"]:
            (answer,) = await ask(orchestrator, request)
            assert "error" not in answer, answer
        (listing,) = await ask(orchestrator, LIST)
        held = {each["service_name"]: each["allocated_cores"] for each in listing["allocations"]}
        assert held == {"a": "3,11", "b": "2", "new": "4-7,12-15"}

    run(tmp_path, body)


def test_the_sentence_of_the_refusal_stays(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, cores("a", 6))
        answer = await refused(orchestrator, service_name="new", num_of_cores=7, dry_run=True, make_room=True)
        assert answer["error"] == "Insufficient CPUs available. Requested: 7, Available: 6"
        assert answer["make_room"]["sentence"].endswith("release a claim, or ask for at most 6")

    run(tmp_path, body)


def test_a_search_changes_nothing(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, in_node("a", 2, 1), in_node("b", 1, 0))
        before, commits = await ask(orchestrator, LIST), counting.commits
        await refused(orchestrator, service_name="new", num_of_cores=8, **WISH)
        assert await ask(orchestrator, LIST) == before
        assert counting.commits == commits

    run(tmp_path, body)


def test_a_refusal_that_is_not_about_cpus_says_so(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        answer = await refused(orchestrator, service_name=" bad", num_of_cores=1, dry_run=True, make_room=True)
        assert answer["make_room"]["sentence"] == "No moving makes room: no claim is in the way of this request"

    run(tmp_path, body)


def test_no_claim_is_in_the_way_where_there_are_too_many_services(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, cores("a", 1))
        orchestrator.use(parse_settings({"max-services": 1}))
        answer = await refused(orchestrator, service_name="new", num_of_cores=1, dry_run=True, make_room=True)
        assert answer["error"].startswith("There are as many services as max-services=1 allows")
        assert answer["make_room"]["sentence"] == "No moving makes room: no claim is in the way of this request"

    run(tmp_path, body)


def test_a_request_that_is_granted_has_no_plan(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        (answer,) = await ask(orchestrator, {**cores("a", 1), "dry_run": True, "make_room": True})
        assert "make_room" not in answer

    run(tmp_path, body)


def test_changes_do_not_wait_for_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(*_: object) -> MakeRoom:
        assert go_on.wait(20)
        return FOUND

    monkeypatch.setattr(room, "_find", slow)

    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        await ask(orchestrator, cores("a", 6))
        answers: list[bytes] = []
        request = validate({**cores("new", 9), "dry_run": True, "make_room": True})
        orchestrator.submit(request, PEER, answers.append)
        assert (await ask(orchestrator, cores("b", 2)))[0]["cores_allocated"] == 2
        assert not answers
        assert orchestrator.busy
        go_on.set()
        while not answers:
            await asyncio.sleep(0.001)
        assert json.loads(answers[0])["make_room"]["sentence"] == "Found nothing"

    run(tmp_path, body)


def searched(uids: list[int]) -> list[str]:
    """The sentences of searches for these users, all submitted while the first one runs."""

    async def body() -> list[str]:
        searches, go_on = RoomSearches(), threading.Event()

        def find() -> MakeRoom:
            assert go_on.wait(20)
            return FOUND

        answers: list[bytes] = []
        for uid in uids:
            searches.run(Search(ErrorAnswer(error="no"), find), uid, answers.append)
        go_on.set()
        while searches.busy:
            await asyncio.sleep(0.001)
        searches.close()
        return [json.loads(answer)["make_room"]["sentence"] for answer in answers]

    return asyncio.run(body())


TOO_MANY = "No search was made, because others are under way: ask again"


def test_a_user_may_have_four_searches() -> None:
    assert searched([7] * 5 + [8]) == [TOO_MANY, *["Found nothing"] * 5]


def test_eight_searches_may_wait() -> None:
    assert searched([1, 2, 3, 4, 5, 6, 7, 8, 9]) == [TOO_MANY, *["Found nothing"] * 8]


def test_a_failed_search_keeps_the_refusal() -> None:
    async def body() -> dict[str, Any]:
        searches = RoomSearches()
        answers: list[bytes] = []

        def find() -> MakeRoom:
            raise RuntimeError("a bug")

        searches.run(Search(ErrorAnswer(error="no"), find), 0, answers.append)
        while searches.busy:
            await asyncio.sleep(0.001)
        searches.close()
        return json.loads(answers[0])

    answer = asyncio.run(body())
    assert answer["error"] == "no"
    assert answer["make_room"]["sentence"].startswith("No search was made, because of an internal error")


def test_no_thread_starts_without_a_search() -> None:
    async def body() -> None:
        before = threading.active_count()
        searches = RoomSearches()
        assert threading.active_count() == before
        searches.close()

    asyncio.run(body())


def test_a_search_ends_when_its_time_is_up() -> None:
    time_is_up = room._limit()
    use_cpu(room._MOST_SECONDS)  # before the first question nothing counts
    assert not time_is_up()
    use_cpu(room._MOST_SECONDS)
    assert time_is_up()


def use_cpu(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
