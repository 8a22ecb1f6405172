# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Reading: events are found by service, CPU, time and id, in databases of every schema, damaged or not."""

from __future__ import annotations

import contextlib
import sqlite3
from itertools import islice
from pathlib import Path

import pytest

from epa_orchestrator.allocation.claims import Change, ClaimChange
from epa_orchestrator.allocation.settings_text import SettingsText
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.peer import PeerNames
from epa_orchestrator.state import history, reading
from epa_orchestrator.state.database_files import LOG, with_suffix
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.events import Note
from epa_orchestrator.state.reading import Wanted, open_events, read_events
from epa_orchestrator.state.store import Store
from tests.unit.state.builders import GROWN, PEER, claim, older_database, run_sql

#: The database has the events 1 to 4 of its creation.
STEPS = (
    ("w", None, "10-13", 10.0),
    ("w", "10-13", "10-14", 20.0),
    ("x", None, "20", 30.0),
    ("w", "10-14", "10", 40.0),
)


@pytest.fixture
def path(path: Path, opened: Store) -> Path:
    for service, before, after, at in STEPS:
        change = ClaimChange(claim(service, before) if before else None, claim(service, after))
        opened.stage(Change((change,)), PEER, "allocate_cores", at)
    opened.commit()
    return path


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted("w"), [5, 6, 8]),
        (Wanted("nobody"), []),
        (Wanted(cpu=10), [5]),
        (Wanted(cpu=14), [6, 8]),
        (Wanted("w", cpu=20), []),
        (Wanted(cpu=2**31 - 1), []),
        (Wanted(since=20), [6, 7, 8]),
        (Wanted(since=20, until=30), [6, 7]),
        (Wanted("a", member="cpus"), [1]),
        (Wanted("a", member="hugepages"), [3, 4]),
        (Wanted("nobody", member="cpus"), []),
        (Wanted(after=6), [7, 8]),
        (Wanted("w", after=6), [8]),
        (Wanted(before=6, since=10), [5]),
    ],
)
def test_events_are_found(wanted: Wanted, ids: list[int], path: Path) -> None:
    assert [event.id for event in read_events(path, 50, wanted)] == ids


@pytest.mark.parametrize(("until", "found"), [(39, False), (40, True), (41, True)])
def test_until_means_a_whole_second(until: int, found: bool, path: Path) -> None:
    run_sql(path, "UPDATE event SET at = 40.75 WHERE id = 8")
    assert bool(read_events(path, 50, Wanted(since=40, until=until))) is found


def granted(path: Path, cpus: str) -> list[tuple[str, int]]:
    with open_events(path) as events:
        return [(str(cpus), event.id) for cpus, event in events.grants("w", CpuSet.parse(cpus))]


def test_each_cpu_has_the_newest_event_that_granted_it(path: Path) -> None:
    assert granted(path, "10") == [("10", 5)]
    assert granted(path, "12-14") == [("14", 6), ("12-13", 5)]
    assert granted(path, "99") == []


@pytest.mark.parametrize("column", ["before", "after"])
def test_an_event_with_a_damaged_record_grants_nothing(column: str, path: Path) -> None:
    run_sql(path, f'UPDATE event SET {column} = \'"cpus":"10-13" and rubbish\' WHERE id = 5')
    run_sql(path, f"UPDATE event SET {column} = 'rubbish' WHERE id = 6")
    assert granted(path, "10-14") == []


def test_the_newest_grants_of_many_claims_are_found_in_one_search(path: Path) -> None:
    claimed = {"w": CpuSet([10]), "x": CpuSet([20]), "a": CpuSet([99]), "nobody": CpuSet([1])}
    with open_events(path) as events:
        assert [(service, event.id) for service, event in events.newest_grants(claimed)] == [("x", 7), ("w", 5)]
        assert [event.id for _, event in events.newest_grants({"w": CpuSet([10, 14])})] == [6]
        assert list(events.newest_grants({})) == []


def test_a_hugepage_record_is_found_by_its_kind(path: Path) -> None:
    with open_events(path) as events:
        found = [events.newest_record("a", [kind]) for kind in ((0, 2048), (1, 1048576), (1, 2048))]
    assert [event and event.id for event in found] == [3, 4, None]


def test_the_newest_events_come_within_the_limit(path: Path) -> None:
    assert [event.id for event in read_events(path, 2)] == [7, 8]
    assert [event.id for event in read_events(path, 2, Wanted("w"))] == [6, 8]
    with open_events(path) as events:
        assert [event.id for event in islice(events.oldest_first(), 3)] == [1, 2, 3]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_database_is_read_without_what_it_lacks(version: int, tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        older_database(db, version)
    events = read_events(path, 50)
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert all((event.request, event.names, event.damaged) == (None, PeerNames(), ()) for event in events)


def test_damaged_records_have_no_cpus(path: Path) -> None:
    run_sql(path, "UPDATE event SET after = 'rubbish' WHERE id = 5")
    run_sql(path, 'UPDATE event SET after = \'{"cpus":"9-1"}\' WHERE id = 7')
    assert read_events(path, 50, Wanted(cpu=20)) == []
    assert read_events(path, 50, Wanted(cpu=10)) == []


def test_a_database_that_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(StateError, match="cannot be read"):
        read_events(tmp_path / "x.db", 5)
    with pytest.raises(StateError, match="cannot be read"):
        read_events(tmp_path / "none.db", 5)


# --- the settings in force ---


def stage(opened: Store, digest: str, cpus: str, before: str) -> None:
    change = Change((ClaimChange(claim("b", before), claim("b", cpus)),))
    opened.stage(
        change, PEER, "allocate_cores", 2.0, Note("{}", SettingsText(digest, f'{{"cpu-pool":"{digest}"}}'), ".")
    )


def kept(path: Path) -> dict[str, int | None]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT digest, last FROM settings").fetchall())


def test_settings_are_stored_once_for_each_digest(path: Path, opened: Store) -> None:
    stage(opened, "1", "5-6", "5")
    stage(opened, "1", "5-7", "5-6")
    stage(opened, "2", "5-8", "5-7")
    opened.commit()
    assert kept(path) == {"1": 10, "2": None}
    with open_events(path) as events:
        assert events.settings("1") == {"cpu-pool": "1"}
        assert events.settings("9") is None
    assert [event.settings for event in read_events(path, 3, Wanted("b"))] == ["1", "1", "2"]


def test_settings_that_come_back_are_in_force_again(path: Path, opened: Store) -> None:
    stage(opened, "1", "5-6", "5")
    stage(opened, "2", "5-7", "5-6")
    stage(opened, "1", "5-8", "5-7")
    opened.commit()
    assert kept(path) == {"1": None, "2": 10}


def test_settings_of_a_change_that_was_undone_are_stored_again(path: Path, opened: Store) -> None:
    stage(opened, "1", "5-6", "5")
    opened.undo()
    assert kept(path) == {}
    stage(opened, "1", "5-6", "5")
    opened.commit()
    assert kept(path) == {"1": None}


def test_settings_are_dropped_with_their_last_event(path: Path, opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(opened, "1", "5-6", "5")
    stage(opened, "2", "5-7", "5-6")
    opened.commit()
    monkeypatch.setattr(history, "MAX_EVENTS", 1)
    assert opened.tidy() is False
    assert [event.id for event in read_events(path, 50)] == [10]
    assert kept(path) == {"2": None}


def test_damaged_settings_are_unknown(path: Path, opened: Store) -> None:
    stage(opened, "1", "5-6", "5")
    opened.commit()
    run_sql(path, "UPDATE settings SET document = '[' WHERE digest = '1'")
    with open_events(path) as events:
        assert events.settings("1") is None


def test_settings_and_sentences_count_in_the_size_of_the_history(path: Path, opened: Store) -> None:
    assert path.exists()
    sizes = [
        opened._history.add(history.Asked(PEER, "a", 1.0, note), "b", None, None, "x" * 100)
        for note in (Note(), Note("y" * 1000, SettingsText("d", "z" * 5000), names=PeerNames("c" * 10)))
    ]
    assert sizes[1] - sizes[0] >= 1000 + 5000 + 10
    opened.undo()


# --- in pieces ---


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_size_of_a_piece_changes_nothing(count: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sql(path, "DELETE FROM event WHERE id = 3")  # a gap, which only damage makes
    monkeypatch.setattr(reading, "_EVENTS_AT_ONCE", count)
    with open_events(path) as events:
        assert [event.id for event in events.newest_first()] == [8, 7, 6, 5, 4, 2, 1]
        assert [event.id for event in events.oldest_first()] == [1, 2, 4, 5, 6, 7, 8]
        assert [event.id for event in events.oldest_first(Wanted("w", after=5, before=8))] == [6]
        assert [event.id for event in events.newest_first(Wanted(cpu=14, until=30))] == [6]


def test_a_search_keeps_nothing_in_the_log(path: Path, opened: Store) -> None:
    """With a transaction open, the log would grow with every commit until the search ends."""
    log = with_suffix(path, LOG)
    with open_events(path) as events:
        search = events.newest_first()
        assert next(search).id == 8
        opened.stage(GROWN, PEER, "allocate_cores", 50.0)
        opened.commit()
        assert log.stat().st_size > 0
        opened.tidy()
        assert log.stat().st_size == 0
        assert [event.id for event in search] == [7, 6, 5, 4, 3, 2, 1]


def test_a_check_ends_a_search(path: Path) -> None:
    def check() -> None:
        raise TimeoutError

    with open_events(path, check) as events, pytest.raises(TimeoutError):
        list(events.newest_first(Wanted("nobody")))
