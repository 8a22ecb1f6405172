# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Askers: the process behind each claim comes from the history, and is looked up once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.daemon import askers as module
from epa_orchestrator.daemon import isolation_answer
from epa_orchestrator.daemon.askers import UNKNOWN, Asker, Askers
from epa_orchestrator.daemon.isolation_answer import young_owners
from epa_orchestrator.isolation.facts import go_on
from epa_orchestrator.peer import Peer, PeerNames
from epa_orchestrator.protocol.isolation import ClaimOwner
from epa_orchestrator.state.events import Note
from epa_orchestrator.state.opening import create, open_store
from epa_orchestrator.state.reading import EventReader
from epa_orchestrator.state.store import Store
from tests.unit.daemon.audited import claim

NAMES = PeerNames("nova-compute", "openstack-hypervisor", "nova.service")
PEER = Peer(4711, 0, 0)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in which ovs got CPU 2, then CPU 3, and lost CPU 4; and one claim was imported."""
    path = tmp_path / "state.db"
    create(path, Ledger.of([claim("old", "5")], {}), Peer(1, 0, 0), 1.0)
    store, _ = open_store(path)
    steps = ((None, "2,4", 10.0), ("2,4", "2-4", 20.0), ("2-4", "2-3", 30.0))
    for before, after, at in steps:
        change = ClaimChange(claim("ovs", before) if before else None, claim("ovs", after))
        _stage(store, change, at)
    store.close()
    return path


def _stage(store: Store, change: ClaimChange, at: float) -> None:
    store.stage(Change((change,)), PEER._replace(pid=int(at)), "allocate_cores", at, Note(names=NAMES))
    store.commit()


def test_the_asker_is_that_of_the_newest_event_that_granted_cpus(database: Path) -> None:
    found = Askers(go_on).of({"ovs": claim("ovs", "2-3")}, database)
    assert found == {"ovs": Asker(NAMES, 20, 20.0)}
    found = Askers(go_on).of({"ovs": claim("ovs", "2")}, database)
    assert found == {"ovs": Asker(NAMES, 10, 10.0)}


def test_the_owners_of_claims_that_no_audit_knows_come_from_the_history(database: Path) -> None:
    claims = {"ovs": claim("ovs", "2-3"), "old": claim("old", "5")}
    settings = parse_settings({"owner-cgroups": "old=machine.slice"})
    found = young_owners(None, claims, settings, database)
    assert found["ovs"] == ClaimOwner(
        snap="openstack-hypervisor", unit="nova.service", comm="nova-compute", pid=20, asked_at=20.0, cgroups=[]
    )
    assert (found["old"].pid, found["old"].cgroups) == (None, ["machine.slice"])


def test_the_search_for_young_owners_ends_after_a_second(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = open_store(database)
    for number in range(250):  # so many events that the search rests in between
        before, after = ("6", "6-7") if number % 2 else ("6-7", "6")
        change = ClaimChange(claim("other", before) if number else None, claim("other", after))
        store.stage(Change((change,)), PEER, "allocate_cores", 40.0, Note(names=NAMES))
    store.commit()
    store.close()
    monkeypatch.setattr(isolation_answer, "_MOST_SECONDS", -1.0)
    found = isolation_answer.young_owners(None, {"ovs": claim("ovs", "2-3")}, Settings(), database)
    assert found["ovs"].pid is None


def test_the_daemon_itself_is_no_asker(database: Path) -> None:
    assert Askers(go_on).of({"old": claim("old", "5")}, database) == {"old": Asker(at=1.0)}


def test_a_claim_without_an_event_has_an_unknown_asker(database: Path, tmp_path: Path) -> None:
    claims = {"new": claim("new", "7")}
    assert Askers(go_on).of(claims, database) == {"new": UNKNOWN}
    assert Askers(go_on).of(claims, None) == {"new": UNKNOWN}
    assert Askers(go_on).of(claims, tmp_path / "missing.db") == {"new": UNKNOWN}


def test_only_changed_claims_are_looked_up(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[Path] = []
    open_events = module.open_events

    def open_and_count(path: Path, check: Callable[[], None]) -> AbstractContextManager[EventReader]:
        searches.append(path)
        return open_events(path, check)

    monkeypatch.setattr(module, "open_events", open_and_count)
    askers, claims = Askers(go_on), {"ovs": claim("ovs", "2-3"), "old": claim("old", "5")}
    for times, ovs in ((1, claims["ovs"]), (1, claims["ovs"]), (2, replace(claims["ovs"]))):
        claims = {**claims, "ovs": ovs}
        assert askers.of(claims, database) == {"ovs": Asker(NAMES, 20, 20.0), "old": Asker(at=1.0)}
        assert len(searches) == times
    released: dict[str, Claim] = {}
    assert askers.of(released, database) == {}


def test_a_history_that_cannot_be_read_is_searched_again(database: Path, tmp_path: Path) -> None:
    askers, claims = Askers(go_on), {"ovs": claim("ovs", "2-3")}
    assert askers.of(claims, tmp_path / "missing.db") == {"ovs": UNKNOWN}
    assert askers.of(claims, database) == {"ovs": Asker(NAMES, 20, 20.0)}
