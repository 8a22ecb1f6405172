# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`history` shows the changes in the state database, with damaged values marked, without a daemon."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from epa_orchestrator.cli import history, watching
from epa_orchestrator.cli.past import Search
from epa_orchestrator.client import RefusedByDaemon
from epa_orchestrator.protocol.answers import Listing
from epa_orchestrator.protocol.history import HistoryAnswer, HistoryEvent
from tests.functional.harness.waiting import wait_until
from tests.unit.cli.builders import Command, Daemon, table
from tests.unit.client.builders import LISTING


def make_history(daemon: Daemon, service: str) -> None:
    """Make five changes: a claim, its change and its release; a hugepage record and its removal."""
    daemon.run("allocate", service, "2")
    daemon.run("allocate", service, "2", "--numa-node", "0", "--preemption-policy", "non-preemptive")
    daemon.run("release", service)
    daemon.run("hugepages", service, "--count", "4")
    daemon.run("hugepages", service, "--count", "-1")


def test_history_json(daemon: Daemon) -> None:
    make_history(daemon, "json")
    events = daemon.json("history", "json")
    claim = {"pool": "isolated", "cpus": "2-3", "explicit": "", "policy": "legacy"}
    explicit = claim | {"explicit": "2-3", "policy": "non-preemptive"}
    pages = {"node_id": 0, "size_kb": 2048, "hugepages": 4}
    assert [(each["action"], each["before"], each["after"]) for each in events] == [
        ("allocate_cores", None, claim),
        ("allocate_numa_cores", claim, explicit),
        ("allocate_cores", explicit, None),
        ("allocate_hugepages", None, pages),
        ("allocate_hugepages", pages, None),
    ]
    for each in events:
        assert (each["pid"], each["uid"], each["gid"]) == (os.getpid(), os.geteuid(), os.getegid())
        assert each["service"] == "json"
    assert [each["id"] for each in events] == sorted(each["id"] for each in events)
    assert [each["at"] for each in events] == sorted(each["at"] for each in events)


def test_history(daemon: Daemon) -> None:
    make_history(daemon, "text")
    shown = table(daemon.text("history", "text"))
    assert [(row["Action"], row["Service"], row["Before"], row["After"]) for row in shown] == [
        ("allocate", "text", "nothing", "2-3"),
        ("allocate", "text", "2-3", "2-3 (by node, non-preemptive)"),
        ("release", "text", "2-3 (by node, non-preemptive)", "nothing"),
        ("hugepages", "text", "nothing", "4 x 2M on node 0"),
        ("hugepages", "text", "4 x 2M on node 0", "nothing"),
    ]
    assert all(str(os.getpid()) in row["Peer"] for row in shown)


def test_history_shows_the_newest_changes_of_all_services(daemon: Daemon) -> None:
    for service in ("first", "second", "third"):
        daemon.run("allocate", service, "1")
    assert [each["service"] for each in daemon.json("history", "--limit", "2")] == ["second", "third"]
    assert [each["service"] for each in daemon.json("history", "--limit", "1")] == ["third"]


def test_history_of_an_unknown_service_is_empty_and_says_so(daemon: Daemon) -> None:
    daemon.run("allocate", "openstack", "1")
    result = daemon.run("history", "never-seen", "--json")
    assert result.stdout == "[]\n"
    assert result.stderr.startswith("no change of service 'never-seen' matches")
    result = daemon.run("history", "opnstack")
    assert (result.exit_code, result.stderr) == (
        0,
        "no change of service 'opnstack' matches; did you mean 'openstack'?\n",
    )
    assert "'epa-orchestrator list' shows which" in daemon.run("history", "zzzzzzzz-*").stderr


def test_history_in_a_time_without_changes_says_so(daemon: Daemon) -> None:
    daemon.run("allocate", "quiet", "1")
    assert daemon.run("history", "quiet", "--until", "2020-01-01").stderr == "no change matches\n"


def test_history_of_a_cpu_that_does_not_exist_is_refused(daemon: Daemon) -> None:
    assert daemon.failure(1, "history", "--cpu", "999") == "This host has no CPU 999: its CPUs are 0-7"
    assert "no CPU 999" in daemon.failure(1, "history", "--cpu", "999", "--json")


def test_times_in_the_wrong_order_are_misuse(daemon: Daemon) -> None:
    assert "is later than --until" in daemon.misuse("history", "--since", "today", "--until", "yesterday")


def test_follow_does_not_go_with_until(daemon: Daemon) -> None:
    assert "--follow does not go with --until" in daemon.misuse("history", "--follow", "--until", "2026-11-27")


def test_history_takes_the_times_that_it_shows(daemon: Daemon) -> None:
    daemon.run("allocate", "shown", "1")
    (row,) = table(daemon.text("history", "shown"))
    assert len(table(daemon.text("history", "shown", "--since", row["When"]))) == 1
    assert len(table(daemon.text("history", "shown", "--since", row["When"], "--until", row["When"]))) == 1


def test_a_change_takes_a_line_on_a_narrow_terminal(daemon: Daemon) -> None:
    daemon.run("allocate", "narrow", "2")
    daemon.run("release", "narrow")
    shown = daemon.drawn("history", "narrow", environment={"TERM": "xterm"}).splitlines()
    assert [line.split()[1:4] for line in shown] == [
        ["(times", "in", f"{time.tzname[0]})"],
        ["narrow:", "nothing", "->"],
        ["narrow:", "2-3", "->"],
    ]
    assert "-> nothing  (release by " in shown[2]


def test_changes_are_a_table_on_a_wide_terminal(daemon: Daemon) -> None:
    daemon.run("allocate", "broad", "2")
    shown = daemon.drawn("history", "broad", environment={"TERM": "xterm"}, columns=130)
    assert "│ nothing │ 2-3   │ allocate │" in shown


def test_history_needs_no_daemon(daemon: Daemon, tmp_path: Path) -> None:
    """It reads a copy of the state."""
    daemon.run("allocate", "nova", "2")
    shutil.copytree(daemon.base / "common", tmp_path / "common")
    result = Command(tmp_path).run("history", "--limit", "1", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("note: No daemon serves ")
    assert result.stderr.endswith("This is read from the state database\n")
    newest = json.loads(result.stdout)
    assert newest == daemon.json("history", "--limit", "1")
    assert newest[0]["after"]["cpus"] == "2-3"


def test_history_of_a_recorded_machine_outside_a_snap(daemon: Daemon, offline: Command) -> None:
    """Outside a snap each recorded machine has its own state, named after its file."""
    daemon.run("allocate", "nova", "2")
    state = offline.base / "epa-orchestrator" / "machines" / "vm-8"
    shutil.copytree(daemon.base / "common", state)
    outside = {"SNAP_COMMON": None, "XDG_STATE_HOME": str(offline.base)}
    for machine in ("vm-8", str(offline.base / "vm-8.json")):
        result = offline.run("history", "--limit", "1", "--machine", machine, "--json", env=outside)
        assert result.exit_code == 0
        assert json.loads(result.stdout)[0]["after"]["cpus"] == "2-3"
    sentence = offline.run("history", env=outside).stderr
    assert "There is no history, because the state database " in sentence
    assert "common/state.db does not exist" in sentence
    assert "add --machine NAME" in sentence
    sentence = offline.failure(1, "history", "--machine", "vm-9", env=outside)
    assert "There is no history of the recorded machine 'vm-9'" in sentence
    assert "machines/vm-9/state.db does not exist. To create it, run: epa-orchestrator serve --machine vm-9" in sentence


def test_history_without_a_database(offline: Command) -> None:
    assert str(offline.base / "common" / "state.db") in offline.run("history").stderr
    (offline.base / "common").mkdir()
    (offline.base / "common" / "state.db").write_bytes(b"rubbish" * 1000)
    result = offline.run("history")
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr
    assert (offline.base / "common" / "state.db").read_bytes() == b"rubbish" * 1000


def test_history_names_who_lost_cpus_to_whom(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "6")
    daemon.run("allocate", "ovs", "2", "--numa-node", "0", "--take")
    shown = {row["Service"]: row["After"] for row in table(daemon.text("history", "--limit", "2"))}
    assert shown == {"ovs": "2-3 (by node); took 2-3 from nova", "nova": "4-7; lost 2-3 to ovs"}
    events = {each["service"]: each for each in daemon.json("history", "--limit", "2")}
    assert events["ovs"]["taken_from"] == {"nova": "2-3"}
    assert events["nova"]["taken_by"] == {"ovs": "2-3"}
    assert "taken_by" not in events["ovs"]


DAMAGED = {
    "before = 'no JSON'": ("before", "Before"),
    "after = '[]'": ("after", "After"),
    'after = \'{"pool": "isolated"}\'': ("after", "After"),
    "after = '{\"hugepages\": 1}'": ("after", "After"),
    "after = CAST(x'ff' AS TEXT)": ("after", "After"),
    "service = CAST(x'6eff' AS TEXT)": ("service", "Service"),
    "service = NULL": ("service", "Service"),
    "action = NULL": ("action", "Action"),
    "at = NULL": ("at", "When"),
    "at = 'noon'": ("at", "When"),
    "at = 1e300": ("at", "When"),
    "at = 9e999": ("at", "When"),
    "at = -9e18": ("at", "When"),
    "pid = x'00'": ("pid", "Peer"),
    "uid = 'root'": ("uid", "Peer"),
}


@pytest.mark.parametrize("change", DAMAGED)
def test_damaged_event_is_shown_as_damaged(change: str, daemon: Daemon, offline: Command) -> None:
    """A table without constraints can hold the values that a damaged page can."""
    column, heading = DAMAGED[change]
    for count in ("1", "2", "3"):
        daemon.run("allocate", "nova", count)
    shutil.copytree(daemon.base / "common", offline.base / "common")
    with contextlib.closing(sqlite3.connect(offline.base / "common" / "state.db")) as database:
        database.executescript(
            "CREATE TABLE plain AS SELECT * FROM event; DROP TABLE event; ALTER TABLE plain RENAME TO event;"
            f"UPDATE event SET {change} WHERE id = (SELECT max(id) - 1 FROM event)"
        )
    whole = daemon.json("history", "--limit", "3")
    events = json.loads(offline.run("history", "--limit", "3", "--json").stdout)
    assert events == [whole[0], whole[1] | {column: None, "damaged": [column]}, whole[2]]
    shown = table(offline.run("history", "--limit", "3").stdout)
    expected = table(daemon.text("history", "--limit", "3"))
    assert "damaged" in shown[1].pop(heading)
    assert expected[1].pop(heading)
    assert shown == expected


DAMAGED_NOTES = {
    "request = '[]'": "request",
    "decided_by = CAST(x'1b' AS TEXT)": "decided_by",
    "comm = x'00'": "comm",
    "settings = x'00'": "settings",
}


@pytest.mark.parametrize("change", DAMAGED_NOTES)
def test_a_damaged_note_is_null_and_named(change: str, daemon: Daemon, offline: Command) -> None:
    daemon.run("allocate", "nova", "1")
    shutil.copytree(daemon.base / "common", offline.base / "common")
    with contextlib.closing(sqlite3.connect(offline.base / "common" / "state.db")) as database:
        database.executescript(
            "CREATE TABLE plain AS SELECT * FROM event; DROP TABLE event; ALTER TABLE plain RENAME TO event;"
            f"UPDATE event SET {change} WHERE id = (SELECT max(id) FROM event)"
        )
    (event,) = json.loads(offline.run("history", "--limit", "1", "--json").stdout)
    (whole,) = daemon.json("history", "--limit", "1")
    assert event == whole | {DAMAGED_NOTES[change]: None, "damaged": [DAMAGED_NOTES[change]]}
    assert offline.run("history", "-o", "wide").exit_code == 0


@pytest.mark.parametrize("name", ["", "x" * 10_000, "\x1b[31mred", "a\udcff"], ids=ascii)
def test_an_invalid_service_name_is_misuse(name: str, daemon: Daemon) -> None:
    """Python decodes a byte that is not UTF-8 to the last name."""
    daemon.misuse("history", name)


def test_history_by_option_is_that_of_the_argument(daemon: Daemon) -> None:
    make_history(daemon, "option")
    assert daemon.json("history", "--service", "option") == daemon.json("history", "option")
    assert "contradict each other" in daemon.misuse("history", "option", "--service", "other")


def test_history_of_a_cpu_has_the_changes_that_moved_it(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    daemon.run("allocate", "ceph", "1")
    daemon.run("allocate", "nova", "2", "--numa-node", "0")  # moves no CPU
    daemon.run("release", "nova")
    events = daemon.json("history", "--cpu", "2", "--limit", "2")
    assert [(each["service"], each["before"] is None) for each in events] == [("nova", True), ("nova", False)]
    assert [each["service"] for each in daemon.json("history", "--cpu", "4", "--limit", "1")] == ["ceph"]


def test_history_since_and_until(daemon: Daemon) -> None:
    make_history(daemon, "times")
    assert len(daemon.json("history", "times", "--since", "-1h")) == 5
    assert len(daemon.json("history", "times", "--since", "1h ago", "--until", "+1h")) == 5
    assert daemon.run("history", "times", "--until", "-1h", "--json").stdout == "[]\n"
    assert daemon.run("history", "times", "--since", "+1h", "--json").stdout == "[]\n"
    assert "is not a time" in daemon.misuse("history", "--since", "noon")


def test_wide_history_says_who_asked_and_what_decided(daemon: Daemon) -> None:
    daemon.run("allocate", "wide", "2")
    lines = daemon.text("history", "wide", "-o", "wide").splitlines()
    assert lines[0].endswith("  wide: nothing -> 2-3")
    assert lines[1].startswith("    request: allocate count=2")
    assert lines[2].startswith("    asked by: ")
    assert lines[2].endswith(f"pid {os.getpid()}, uid {os.geteuid()}")
    assert lines[3].startswith("    decided by: Only NUMA node 0 is possible")


def test_times_have_a_zone(daemon: Daemon) -> None:
    daemon.run("allocate", "zone", "1")
    (row,) = table(daemon.text("history", "zone"))
    assert row["When"].split()[2] in time.tzname


def test_follow_shows_changes_as_they_are_made(daemon: Daemon) -> None:
    daemon.run("allocate", "before", "1")
    process = daemon.start("history", "before", "--follow")
    try:
        wait_until(lambda: "before: nothing -> 2 " in process.output(), "the change before")
        daemon.run("release", "before")
        wait_until(lambda: "before: 2 -> nothing " in process.output(), "the change after")
        process.signal(signal.SIGINT)
        assert process.wait() == 0
    finally:
        process.close()


class Told:
    """A client whose daemon has made some events more at each moment, and gives at most two of them at once."""

    def __init__(self, *moments: range) -> None:
        self.moments = moments
        self.events = 0
        self.searches: list[int] = []
        self.refuses = False

    def supports(self, _: str) -> bool:
        return True

    def list_allocations(self) -> Listing:
        return Listing.model_validate(LISTING)

    def history(self, limit: int, after: int | None = None, service_name: str | None = None) -> HistoryAnswer:
        if self.refuses:
            raise RefusedByDaemon("Too many requests")
        if after is None:
            return answer_with(range(self.events, self.events + 1))
        self.searches.append(after)
        found = [each for each in range(after + 1, self.events + 1) if service_name is None or each % 2]
        return answer_with(found[: min(limit, 2)], more=len(found) > 2)

    @contextlib.contextmanager
    def connect(self, _: object) -> Generator[Told]:
        yield self

    def pass_time(self, *_: object) -> Iterator[None]:
        for events in self.moments:
            self.events, self.refuses = events.stop - 1, not events
            yield
        raise KeyboardInterrupt


def answer_with(ids: Iterable[int], *, more: bool = False) -> HistoryAnswer:
    fields: dict[str, Any] = dict.fromkeys(("at", "before", "after", "pid", "uid", "gid", "action", "service"))
    return HistoryAnswer(version="1.0", events=[HistoryEvent(id=each, **fields) for each in ids], more=more)


def followed(told: Told, monkeypatch: pytest.MonkeyPatch, **filters: Any) -> list[int | None]:
    """The events that --follow shows, the first one of which is known."""
    shown: list[int | None] = []

    def print_each(events: Iterable[HistoryEvent], _: object) -> None:
        shown.extend(event.id for event in events)

    monkeypatch.setattr(watching, "_moments", told.pass_time)
    monkeypatch.setattr(history, "connect", told.connect)
    monkeypatch.setattr(history, "_print_each", print_each)
    with pytest.raises(typer.Exit):
        history._follow(None, Search(filters), answer_with([1]), None)
    return shown


def test_follow_leaves_no_change_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(Told(range(2, 8), range(8, 9)), monkeypatch) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_follow_searches_no_change_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(range(2, 3), range(3, 5))
    assert followed(told, monkeypatch, service_name="odd") == [1, 3]
    assert told.searches == [1, 2]


def test_follow_goes_on_after_a_refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert followed(Told(range(2, 3), range(0), range(3, 4)), monkeypatch) == [1, 2, 3]
    assert capsys.readouterr().err == "note: Too many requests\n"


def test_follow_learns_of_a_change_at_once(daemon: Daemon) -> None:
    """Otherwise it would take up to 5 seconds."""
    process = daemon.start("history", "quick", "--follow")
    try:
        daemon.run("allocate", "first", "1")
        time.sleep(1)  # it follows
        daemon.run("allocate", "quick", "1")
        before = time.monotonic()
        wait_until(lambda: "quick: " in process.output(), "the change")
        assert time.monotonic() - before < 3
    finally:
        process.close()


def test_follow_needs_a_daemon(offline: Command) -> None:
    assert "No daemon serves" in offline.failure(3, "history", "--follow")
