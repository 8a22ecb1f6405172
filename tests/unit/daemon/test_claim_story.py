# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claim story: what is held now, how it came to that, and what has changed since."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.allocation.settings_text import settings_text
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.claim_story import ClaimStory
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.readings import GetClaim
from epa_orchestrator.state.events import Note
from epa_orchestrator.state.opening import create, open_store
from epa_orchestrator.state.store import Store
from tests.machines import made_up
from tests.unit.state.builders import PEER, run_sql
from tools.synthetic import Shape

# The cores are 0,8 to 7,15; node 1 has the CPUs 4-7,12-15.
POOLS = build_pools(
    made_up(Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15")),
    None,
    parse_settings({"reserved-cpus": "7"}),
)
NOTE = Note('{"num_of_cores":2}', settings_text(POOLS.settings), "Because.")


class Past:
    """A ledger, and the database with its history."""

    def __init__(self, path: Path) -> None:
        create(path, Ledger(), PEER, 1.0)
        self.path = path
        self.store: Store = open_store(path)[0]
        self.ledger = Ledger().on(POOLS.cores)
        self._at = 10.0

    def set(self, service: str, cpus: str, alone: str = "", note: Note = NOTE) -> None:
        before = self.ledger.claims.get(service)
        after = (
            Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy", alone=CpuSet.parse(alone)) if cpus else None
        )
        self.apply(Change((ClaimChange(before, after),)), note)

    def apply(self, change: Change, note: Note = NOTE) -> None:
        self.ledger = self.ledger.apply(change)
        self.store.stage(change, PEER, "allocate_cores", self._at, note)
        self.store.commit()
        self._at += 1

    def ask(self, problem: str | None = None, pools: Pools = POOLS, **fields: Any) -> dict[str, Any]:
        request = validate({"action": "get_claim", **fields})
        assert isinstance(request, GetClaim)
        return json.loads(ClaimStory(self.ledger, pools, self.path, problem, ledger_known=True).tell(request).encode())


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    found = Past(tmp_path / "state.db")
    with contextlib.closing(found.store):
        yield found


def test_a_claim_has_what_a_listing_has_and_its_domains(past: Past) -> None:
    past.set("a", "2,4")
    answer = past.ask(service_name="a")
    assert answer["claim"] == {
        "service_name": "a",
        "pool": "isolated",
        "allocated_cores": "2,4",
        "cores_count": 2,
        "is_explicit": False,
        "preemption_policy": "legacy",
    }
    assert (answer["numa_nodes"], answer["l3_domains"]) == ("0-1", 2)


def test_cpus_that_came_at_several_times_have_several_origins(past: Past) -> None:
    past.set("a", "2-3")
    past.set("a", "2-5")
    past.set("a", "3-5")
    answer = past.ask(service_name="a")
    assert [(origin["cpus"], origin["id"], origin["at"]) for origin in answer["origins"]] == [
        ("4-5", 2, 11.0),
        ("3", 1, 10.0),
    ]
    assert answer["granted"]["id"] == 2
    assert [event["id"] for event in answer["changes"]] == [3]
    assert past.ask(cpu=3)["granted"]["id"] == 1
    assert [event["id"] for event in past.ask(cpu=3)["changes"]] == [2, 3]


def test_cpus_that_were_lost_and_came_again_have_the_later_origin(past: Past) -> None:
    past.set("a", "2-3")
    past.set("a", "2")
    past.set("a", "2-3")
    assert [(each["cpus"], each["id"]) for each in past.ask(service_name="a")["origins"]] == [("3", 3), ("2", 1)]


def test_settings_are_those_of_the_grant(past: Past) -> None:
    past.set("a", "2", note=NOTE._replace(settings=settings_text(parse_settings({"numa-policy": "restricted"}))))
    past.set("b", "3")
    assert past.ask(service_name="a")["settings_then"] == {"numa-policy": "restricted"}
    assert past.ask(service_name="b")["settings_then"] == past.ask(service_name="b")["settings_now"]
    assert past.ask(service_name="b")["settings_now"] == {"reserved-cpus": "7"}


@pytest.mark.parametrize(
    ("cpu", "state"), [(2, "claimed"), (4, "free"), (11, "withheld"), (7, "reserved"), (0, "not-isolated")]
)
def test_a_cpu_has_its_state(cpu: int, state: str, past: Past) -> None:
    past.set("a", "2")
    past.set("b", "3", alone="3")
    answer = past.ask(cpu=cpu)
    assert (answer["cpu"], answer["state"]) == (cpu, state)
    assert answer.get("service_name") == ("a" if cpu == 2 else None)
    assert answer.get("withheld_by") == ("b" if cpu == 11 else None)


def test_others_on_the_same_cores_are_named(past: Past) -> None:
    past.set("a", "2,4")
    past.set("b", "10,13")
    assert past.ask(service_name="a")["core_neighbours"] == {"b": "10"}
    assert past.ask(cpu=4)["core"] == "4,12"
    assert "core_neighbours" not in past.ask(cpu=4)
    assert past.ask(cpu=5)["core_neighbours"] == {"b": "13"}


def test_a_cpu_that_does_not_exist_is_refused(past: Past) -> None:
    with pytest.raises(Refused, match="This host has no CPU 99: its CPUs are 0-15"):
        past.ask(cpu=99)


@pytest.mark.parametrize("fields", [{}, {"service_name": "a", "cpu": 2}])
def test_a_request_names_exactly_one(fields: dict[str, Any], past: Past) -> None:
    with pytest.raises(Refused, match="give exactly one of them"):
        past.ask(**fields)


def test_a_service_with_hugepages_only_has_their_event(past: Past) -> None:
    past.apply(Change(pages=PagesChange("a", (0, 2048), 0, 4)))
    answer = past.ask(service_name="a")
    assert "claim" not in answer
    assert answer["hugepages"] == [{"node_id": 0, "size_kb": 2048, "hugepages": 4}]
    assert answer["granted"]["after"]["hugepages"] == 4


def test_changes_of_hugepages_are_told_with_those_of_cpus(past: Past) -> None:
    past.set("a", "2")
    past.apply(Change(pages=PagesChange("a", (0, 2048), 0, 4)))
    past.apply(Change(pages=PagesChange("a", (0, 2048), 4, 6)))
    answer = past.ask(service_name="a")
    assert answer["granted"]["id"] == 1
    assert [event["after"]["hugepages"] for event in answer["changes"]] == [4, 6]
    assert past.ask(cpu=2)["changes"] == []


def test_a_hugepage_record_has_the_event_that_made_it(past: Past) -> None:
    past.apply(Change(pages=PagesChange("a", (0, 2048), 0, 4)))
    past.apply(Change(pages=PagesChange("a", (1, 2048), 0, 2)))
    past.apply(Change(pages=PagesChange("a", (1, 2048), 2, 0)))
    answer = past.ask(service_name="a")
    assert answer["granted"]["id"] == 1
    assert [event["id"] for event in answer["changes"]] == [2, 3]


def test_a_service_that_holds_nothing_has_its_last_changes(past: Past) -> None:
    past.set("a", "2")
    past.set("a", "")
    answer = past.ask(service_name="a")
    assert "claim" not in answer
    assert [event["after"] is None for event in answer["changes"]] == [False, True]
    assert past.ask(service_name="never")["changes"] == []


def test_changes_are_bounded(past: Past) -> None:
    past.set("a", "2-3")
    for number in range(60):
        past.set("a", "2-3", note=NOTE)
        cpus = CpuSet.parse("2-3")
        policy = "legacy" if number % 2 else "non-preemptive"
        past.apply(Change((ClaimChange(past.ledger.claims["a"], Claim("a", "isolated", cpus, EMPTY, policy)),)))
    answer = past.ask(service_name="a")
    assert (len(answer["changes"]), answer["more_changes"], answer["granted"]["id"]) == (50, True, 1)


def repeat(past: Past, count: int, *changes: Change) -> None:
    """Commit changes together, many times over, which leave the ledger as it is."""
    for _ in range(count):
        for change in changes:
            past.store.stage(change, PEER, "allocate_hugepages", 20.0, NOTE)
    past.store.commit()


def test_the_grant_is_found_behind_many_changes_of_hugepages(past: Past) -> None:
    past.set("a", "2")
    repeat(past, 1500, Change(pages=PagesChange("a", (0, 2048), 0, 4)), Change(pages=PagesChange("a", (0, 2048), 4, 0)))
    for answer in (past.ask(service_name="a"), past.ask(cpu=2)):
        assert (answer["granted"]["id"], [each["id"] for each in answer["origins"]]) == (1, [1])
    assert past.ask(service_name="a")["more_changes"] is True
    assert (past.ask(cpu=2)["changes"], past.ask(cpu=2)["more_changes"]) == ([], False)


def test_the_grant_is_found_behind_many_changes_of_other_cpus(past: Past) -> None:
    past.set("a", "2")
    small = past.ledger.claims["a"]
    large = Claim("a", "isolated", CpuSet.parse("2-3"), EMPTY, "legacy")
    repeat(past, 1500, Change((ClaimChange(small, large),)), Change((ClaimChange(large, small),)))
    assert past.ask(service_name="a")["granted"]["id"] == 1
    assert past.ask(cpu=2)["granted"]["id"] == 1


def test_a_hugepage_record_is_found_behind_many_changes_of_another(past: Past) -> None:
    past.apply(Change(pages=PagesChange("a", (0, 2048), 0, 4)))
    repeat(past, 1500, Change(pages=PagesChange("a", (1, 2048), 0, 4)), Change(pages=PagesChange("a", (1, 2048), 4, 0)))
    assert past.ask(service_name="a")["granted"]["id"] == 1


def test_a_damaged_event_decides_nothing(past: Past) -> None:
    past.set("a", "2")
    run_sql(past.path, "UPDATE event SET after = 'rubbish'")
    answer = past.ask(service_name="a")
    assert "granted" not in answer
    assert answer["origins"] == []


def test_a_damaged_time_is_null_for_the_cpus_of_its_event(past: Past) -> None:
    past.set("a", "2")
    past.set("a", "2-3")
    run_sql(past.path, "UPDATE event SET at = -5e300 WHERE id = 1")
    origins = past.ask(service_name="a")["origins"]
    assert [(each["cpus"], each["at"]) for each in origins] == [("3", 11.0), ("2", None)]


@pytest.mark.parametrize("asked", [{"service_name": "a"}, {"cpu": 2}])
def test_cpus_that_are_unavailable_have_their_reason(asked: Any, past: Past) -> None:
    past.set("a", "2-3")
    pools = build_pools(POOLS.machine, None, parse_settings({"reserved-cpus": "2"}))
    assert past.ask(pools=pools, **asked)["unavailable"] == {"reserved": "2"}


def test_cpus_that_are_no_longer_withheld_have_their_reason(past: Past) -> None:
    past.set("a", "2-3", alone="2-3")
    pools = build_pools(POOLS.machine, None, parse_settings({"reserved-cpus": "11"}))
    answer = past.ask(pools=pools, service_name="a")
    assert answer["no_longer_withheld"] == {"reserved": "11"}
    assert answer["claim"]["withheld_cpus"] == "10"


def test_nothing_is_said_of_reasons_when_all_is_as_it_was(past: Past) -> None:
    past.set("a", "2-3", alone="2-3")
    assert past.ask(service_name="a").keys().isdisjoint(("unavailable", "no_longer_withheld"))


def test_without_a_history_the_present_is_told(past: Past) -> None:
    past.set("a", "2")
    past.path.unlink()
    answer = past.ask(problem="The disk is broken", service_name="a")
    assert answer["claim"]["allocated_cores"] == "2"
    assert answer["history_error"].startswith("The state database ")
    assert answer["state_error"] == "The disk is broken"


def test_unknown_claims_are_no_free_cpus(past: Past) -> None:
    story = ClaimStory(Ledger(), POOLS, past.path, "It is damaged", ledger_known=False)
    with pytest.raises(Refused, match="The claims are not known: It is damaged"):
        story.tell(GetClaim(action="get_claim", cpu=2))
