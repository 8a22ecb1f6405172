# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""History: each change leaves an event, and the oldest events are dropped within limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from epa_orchestrator.allocation.claims import Change, ClaimChange, PagesChange
from epa_orchestrator.state import history
from epa_orchestrator.state.database_files import FILE_NAME
from epa_orchestrator.state.events import Event
from epa_orchestrator.state.history import COMMITS_PER_CHECK
from epa_orchestrator.state.opening import create
from epa_orchestrator.state.reading import Wanted, read_events
from epa_orchestrator.state.store import Store
from tests.unit.state.builders import GONE, GROWN, PEER, PLACED, claim, commit


@pytest.fixture
def events(path: Path, opened: Store) -> list[Event]:
    """The events of three changes in one commit."""
    commit(opened, GROWN, GONE, Change(pages=PagesChange("a", (0, 2048), 4, 0)))
    return read_events(path, 3)


def test_each_change_leaves_an_event_with_service_time_and_peer(events: list[Event]) -> None:
    assert [(event.service, event.at, event.peer) for event in events] == [
        ("b", 2.0, PEER),
        ("a", 2.0, PEER),
        ("a", 2.0, PEER),
    ]


def test_the_event_of_a_changed_claim_shows_it_before_and_after(events: list[Event]) -> None:
    assert events[0].before == {"pool": "isolated", "cpus": "5", "explicit": "", "policy": "legacy"}
    assert events[0].after == {"pool": "isolated", "cpus": "5-6", "explicit": "", "policy": "legacy"}


def test_the_event_of_a_released_claim_has_nothing_after(events: list[Event]) -> None:
    assert events[1].after is None


def test_the_event_of_a_hugepage_record_shows_its_count(events: list[Event]) -> None:
    assert (events[2].before, events[2].after) == ({"node_id": 0, "size_kb": 2048, "hugepages": 4}, None)


@pytest.mark.usefixtures("events")
def test_the_claims_of_a_new_database_are_events_too(path: Path) -> None:
    assert [event.id for event in read_events(path, 50, Wanted("b"))] == [2, 5]


def test_the_event_of_an_isolated_claim_shows_what_is_withheld(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    create(path, PLACED, PEER, 1.0)
    assert [event.after for event in read_events(path, 2)] == [
        {"pool": "isolated", "cpus": "6-7", "explicit": "", "policy": "legacy", "withheld": "14-15"},
        {"pool": "isolated", "cpus": "9", "explicit": "", "policy": "legacy"},
    ]


def test_tidying_drops_the_oldest_events(path: Path, opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_EVENTS", 3)
    commit(opened, GROWN, GONE)
    assert opened.tidy() is False
    assert [event.id for event in read_events(path, 50)] == [4, 5, 6]


def test_tidying_drops_a_few_at_a_time_and_reports_that_more_are_left(
    path: Path, opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_EVENTS", 1)
    monkeypatch.setattr(history, "_MOST_DROPPED", 2)
    assert opened.tidy() is True
    assert [event.id for event in read_events(path, 50)] == [3, 4]
    assert opened.tidy() is False
    assert [event.id for event in read_events(path, 50)] == [4]


@pytest.mark.parametrize(("most", "size"), [(50, 10**9), (10**9, 1_000_000)])
def test_the_history_is_bounded_while_changes_go_on(
    most: int, size: int, path: Path, opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_EVENTS", most)
    monkeypatch.setattr(history, "MAX_HISTORY_BYTES", size)
    wide = ",".join(str(cpu) for cpu in range(100, 3000, 2))
    peak = 0
    for number in range(200):
        commit(opened, Change((ClaimChange(None, claim("w", wide)),)), Change((ClaimChange(claim("w", wide), None),)))
        if number > 100:
            peak = max(peak, len(read_events(path, 10**6)))
    assert read_events(path, 1)[0].id == 4 + 400, "none of the new ones is dropped"
    assert peak <= most + 2 * 2 * COMMITS_PER_CHECK
    # The events since the last check, and as many again until they are dropped.
    assert opened._history.used_bytes() <= size + 3 * 2 * COMMITS_PER_CHECK * 7000
