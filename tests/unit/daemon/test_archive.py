# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Archive: the readings of the past, answered in another thread, a bounded number at once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon import archive
from epa_orchestrator.daemon.archive import Archive
from epa_orchestrator.daemon.current import Current, State
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.readings import ArchiveReading
from epa_orchestrator.state.opening import create
from tests.unit.state.builders import LEDGER, PEER
from tools.synthetic import Shape, build

SYSFS = RecordedSysfs(build(Shape(cores_per_l3=8, isolated="2-7")))


def request(**fields: Any) -> ArchiveReading:
    found = validate(fields)
    assert isinstance(found, ArchiveReading)
    return found


def answers(state: State, *requests: ArchiveReading, peers: tuple[Peer, ...] = (PEER,)) -> list[dict[str, Any]]:
    """The answers to requests that come at once."""

    async def ask() -> list[bytes]:
        found: list[bytes] = []
        asked = Archive(Current(Host(SYSFS, Settings()), state), lambda: None)
        for number, each in enumerate(requests):
            asked.read(each, peers[number % len(peers)], found.append)
        for _ in range(1000):
            if len(found) == len(requests):
                break
            await asyncio.sleep(0.01)
        asked.close()
        return found

    return [json.loads(answer) for answer in asyncio.run(ask())]


@pytest.fixture
def state(tmp_path: Path) -> State:
    path = tmp_path / "state.db"
    create(path, LEDGER, PEER, 1.0)
    return State(LEDGER, None, None, database=path)


def test_the_newest_events_are_answered_in_order(state: State) -> None:
    (answer,) = answers(state, request(action="get_history", limit=3))
    assert [event["id"] for event in answer["events"]] == [2, 3, 4]
    assert answer["more"] is True
    (answer,) = answers(state, request(action="get_history", limit=4))
    assert (len(answer["events"]), answer["more"]) == (4, False)


@pytest.mark.parametrize(("until", "count"), [(0, 0), (1, 4)])
def test_until_means_a_whole_second(until: int, count: int, tmp_path: Path) -> None:
    create(tmp_path / "state.db", LEDGER, PEER, 1.75)
    state = State(LEDGER, None, None, database=tmp_path / "state.db")
    (answer,) = answers(state, request(action="get_history", until=until))
    assert len(answer["events"]) == count


def test_an_answer_is_bounded_in_bytes(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_ANSWER_BYTES", 10)
    (answer,) = answers(state, request(action="get_history"))
    assert ([event["id"] for event in answer["events"]], answer["more"]) == ([4], True)


def test_a_read_only_daemon_shows_the_history(state: State) -> None:
    (answer,) = answers(state._replace(problem="The disk is broken"), request(action="get_history"))
    assert (len(answer["events"]), answer["state_error"]) == (4, "The disk is broken")


def test_a_daemon_without_a_database_refuses(tmp_path: Path) -> None:
    for state in (State(Ledger(), None, "No."), State(Ledger(), None, "No.", database=tmp_path / "none.db")):
        (answer,) = answers(state, request(action="get_history"))
        assert answer["error"].startswith("The history cannot be read, because the state database ")


def test_an_unknown_field_is_a_warning(state: State) -> None:
    (answer,) = answers(state, request(action="get_history", colour="red"))
    assert "colour" in answer["warnings"][0]


def test_one_user_cannot_fill_the_queue(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_OF_ONE_USER", 3)
    mine, other = Peer(1, 1000, 0), Peer(2, 1001, 0)
    found = answers(state, *[request(action="get_history")] * 8, peers=(mine, mine, mine, other))
    refused = [answer for answer in found if "error" in answer]
    assert {answer["error"] for answer in refused} == {"Too many requests for the history wait: try again in a moment"}
    assert len(refused) == 2  # one of six is under way, three wait


def test_the_queue_is_bounded(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_WAITING", 2)
    peers = tuple([Peer(1, uid, 0) for uid in range(1001, 1006)])
    found = answers(state, *[request(action="get_history")] * 5, peers=peers)
    assert sum("error" in answer for answer in found) == 2


def test_answers_are_made_in_another_thread(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def run(job: Any) -> None:
        threads.append(threading.current_thread())
        job._found = b"{}"

    monkeypatch.setattr(archive._Job, "run", run)
    assert answers(state, request(action="get_claim", cpu=2)) == [{}]
    assert threads != [threading.main_thread()]


def test_a_bug_is_an_internal_error(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Any) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(archive._Job, "run", run)
    (answer,) = answers(state, request(action="get_history"))
    assert answer["error"].startswith("Internal error")


def test_events_after_one_come_from_the_oldest_on(state: State) -> None:
    """So a client that follows gets all of them, an answer after the other."""
    first, second = answers(
        state, request(action="get_history", after=1, limit=2), request(action="get_history", after=3, limit=2)
    )
    assert ([event["id"] for event in first["events"]], first["more"]) == ([2, 3], True)
    assert ([event["id"] for event in second["events"]], second["more"]) == ([4], False)


@pytest.mark.parametrize("fields", [{"action": "get_history"}, {"action": "get_claim", "service_name": "nobody"}])
def test_a_search_has_a_limit_of_time(fields: dict[str, Any], state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_SECONDS", 0.0)
    (answer,) = answers(state, request(**fields))
    assert answer["error"].startswith("The history was searched for 0 seconds, which is the limit")


# --- whose turn it is ---


def served(
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    *uids: int,
    is_gone: Callable[[int], bool] = lambda _: False,
) -> list[int]:
    """The users in the order in which their requests are taken up; the first one is under way when the others come."""
    go_on = threading.Event()
    taken_up: list[int] = []

    def run(job: Any) -> None:
        taken_up.append(job.peer.uid)
        assert go_on.wait(30)

    monkeypatch.setattr(archive._Job, "run", run)

    async def ask() -> None:
        ended: list[bytes] = []
        asked = Archive(Current(Host(SYSFS, Settings()), state), lambda: None)
        for number, uid in enumerate(uids):
            gone = is_gone(number)
            asked.read(request(action="get_history"), Peer(1, uid, 0), ended.append, lambda gone=gone: gone)
        go_on.set()
        while len(ended) < len(uids):
            await asyncio.sleep(0.001)
        assert not asked._waiting
        asked.close()

    asyncio.run(asyncio.wait_for(ask(), 30))
    return taken_up


def test_users_take_turns(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(state, monkeypatch, 7, 8, 8, 8, 9) == [7, 8, 9, 8, 8]


def test_root_is_next(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(state, monkeypatch, 7, 8, 9, 0) == [7, 0, 8, 9]


def test_others_take_no_place_of_root(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_WAITING", 2)
    assert served(state, monkeypatch, 7, 8, 9, 10, 0) == [7, 0, 8, 9]


def test_the_places_of_root_are_bounded(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_WAITING", 20)
    assert served(state, monkeypatch, *[0] * 30) == [0] * 21


def test_a_client_that_has_left_takes_no_time(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(state, monkeypatch, 7, 8, 9, is_gone=lambda number: number == 1) == [7, 9]


# --- the end ---


def test_the_end_waits_for_no_search(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd kills a daemon that does not stop in time."""
    begun: list[object] = []

    def search(job: Any) -> None:
        begun.append(job)
        while True:
            job._check_time()
            time.sleep(0.001)

    monkeypatch.setattr(archive, "_MOST_SECONDS", 2.0)
    monkeypatch.setattr(archive._Job, "run", search)

    async def close_soon() -> float:
        asked = Archive(Current(Host(SYSFS, Settings()), state), lambda: None)
        for _ in range(8):
            asked.read(request(action="get_history"), PEER, lambda _: None)
        await asyncio.sleep(0.01)
        before = time.monotonic()
        asked.close()
        return time.monotonic() - before

    assert asyncio.run(close_soon()) < 1
    assert len(begun) == 1
