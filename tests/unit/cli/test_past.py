# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Changes are found by a service's name or a pattern, in a daemon's history or a database, however long it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any, cast

import pytest

from epa_orchestrator.cli import past
from epa_orchestrator.cli.past import Search, ask_after, ask_daemon, search_for
from epa_orchestrator.client import Client
from epa_orchestrator.protocol.history import HistoryAnswer, HistoryEvent
from tests.unit.cli.builders import Command, Daemon

NONE: dict[str, Any] = dict.fromkeys(("at", "before", "after", "pid", "uid", "gid", "action"))


class Archive:
    """A daemon whose event n, from `first` on, is of the service at n in `services`; it counts the requests."""

    def __init__(self, services: Sequence[str | None], first: int = 1) -> None:
        self.events = [HistoryEvent(id=first + n, service=name, **NONE) for n, name in enumerate(services)]
        self.requests = 0

    def history(self, limit: int, after: int | None = None, service_name: str | None = None, **_: Any) -> HistoryAnswer:
        self.requests += 1
        found = [each for each in self.events if service_name in (None, each.service)]
        if after is None:
            return HistoryAnswer(version="1.0", events=found[-limit:], more=len(found) > limit)
        found = [each for each in found if (each.id or 0) > after]
        return HistoryAnswer(version="1.0", events=found[:limit], more=len(found) > limit)


def found(archive: Archive, word: str | None, limit: int = 50) -> list[int | None]:
    _, answer = ask_daemon(cast("Client", archive), {"service_name": word, "cpu": None}, limit)
    return [event.id for event in answer.events]


def test_name_without_wildcards_is_asked_once() -> None:
    archive = Archive(["vm-1", "vm-2"])
    assert found(archive, "vm-1") == [1]
    assert archive.requests == 1


def test_pattern_finds_the_newest_changes_of_all_that_match() -> None:
    archive = Archive(["vm-1", "ovs", "vm-2", None, "vm-3"])
    assert found(archive, "vm-*") == [1, 3, 5]
    assert found(archive, "vm-*", 2) == [3, 5]


def test_exact_name_comes_before_a_pattern() -> None:
    assert found(Archive(["vm-*", "vm-1", "[a]", "a"]), "vm-*") == [1]
    assert found(Archive(["[a]", "a"]), "[a]") == [1]
    assert found(Archive(["a"]), "[a]") == [1]


def test_answer_says_whether_more_changes_match() -> None:
    archive = Archive(["vm-1", "vm-2", "ovs"])
    answers = [ask_daemon(cast("Client", archive), {"service_name": "vm-*"}, limit)[1] for limit in (1, 2, 3)]
    assert [answer.more for answer in answers] == [True, False, False]


@pytest.mark.parametrize("first", [1, 777, 5000])
def test_pattern_searches_a_long_history_page_by_page(first: int) -> None:
    services = ["vm-1", *["ovs"] * 2500, "vm-2"]
    archive = Archive(services, first)
    assert found(archive, "vm-*") == [first, first + 2501]
    assert archive.requests <= 3 + 4  # the exact name, both ends, and the pages


def test_pattern_ends_when_enough_is_found() -> None:
    archive = Archive(["vm-1"] * 5000)
    assert found(archive, "vm-?", 3) == [4998, 4999, 5000]
    assert archive.requests == 4


def test_pattern_in_an_empty_history() -> None:
    assert found(Archive([]), "vm-*") == []


def test_changes_after_an_event_are_those_that_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST_ASKED", 2)
    archive = Archive(["vm-1", "ovs", "ovs", "ovs", "vm-2", "vm-3"])
    after = ask_after(cast("Client", archive), Search({"service_name": None}, "vm-*"), 1)
    assert [event.id for event in after] == [5, 6]


def test_word_is_a_pattern_only_if_no_service_has_that_name() -> None:
    filters = {"service_name": "vm-*", "cpu": 3}
    assert search_for(filters, lambda _: True) == Search(filters)
    assert search_for(filters, lambda _: False) == Search({"service_name": None, "cpu": 3}, "vm-*")
    assert search_for({"service_name": None}, lambda _: False) == Search({"service_name": None})


def test_history_by_pattern_is_the_same_with_and_without_the_daemon(daemon: Daemon, offline: Command) -> None:
    for service in ("pat-1", "other", "[pat]", "pat-2"):
        daemon.run("allocate", service, "1")
    asked = daemon.json("history", "pat-*", "--limit", "2")
    assert [event["service"] for event in asked] == ["pat-1", "pat-2"]
    assert [event["service"] for event in daemon.json("history", "[pat]")] == ["[pat]"]
    shutil.copytree(daemon.base / "common", offline.base / "common")
    assert json.loads(offline.run("history", "pat-*", "--limit", "2", "--json").stdout) == asked
    assert [each["service"] for each in json.loads(offline.run("history", "[pat]", "--json").stdout)] == ["[pat]"]


def test_list_finds_a_service_whose_name_has_brackets(daemon: Daemon) -> None:
    daemon.run("allocate", "[red]x[/red]", "1")
    daemon.run("allocate", "r", "1")
    assert daemon.text("list", "[red]x[/red]", "-o", "name") == "[red]x[/red]\n"
    assert daemon.text("list", "[red]", "-o", "name") == "r\n"
