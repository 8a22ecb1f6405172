# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Batch: one commit for all waiting mutations, and an answer to each whatever goes wrong."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon import batch as batches
from epa_orchestrator.daemon.batch import INTERNAL_ERROR, Batch, Decided, Waiting
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.placement.search import Placed
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import AllocateCores, AllocateCoresPercent, AllocateHugepages, AllocateNumaCores
from epa_orchestrator.state import database_files, loading, opening
from epa_orchestrator.state.store import Store
from tools.synthetic import Shape, build

PEER = Peer(1, 0, 0)
# Cores 0 and 8, 1 and 9 ... 7 and 15, in two packages; the first core is the system's.
SHAPE = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15", hugepages={2048: (8, 8)})

Answer = dict[str, Any]
Carry = Callable[..., Batch]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / database_files.FILE_NAME
    opening.create(path, Ledger(), PEER, 1.0)
    return path


@pytest.fixture
def opened(path: Path) -> Iterator[Store]:
    opened, _ = opening.open_store(path)
    yield opened
    opened.close()


def unheard(_: bytes) -> None:
    """A client that ignores its answer."""


def waiting(action: str, service: str, **fields: Any) -> Waiting:
    request = validate({"action": action, "service_name": service, **fields})
    assert isinstance(request, AllocateCores | AllocateCoresPercent | AllocateNumaCores | AllocateHugepages)
    return Waiting(request, PEER, unheard)


def cores(service: str, count: int, **fields: Any) -> Waiting:
    return waiting("allocate_cores", service, num_of_cores=count, **fields)


def carried_out(opened: Store, *requests: Waiting, ledger: Ledger | None = None) -> Batch:
    host = Host(RecordedSysfs(build(SHAPE)), Settings())
    batch = Batch(opened, host, ledger or Ledger(), host.seen, requests)
    batch.carry_out()
    return batch


def answers(decided: list[Decided]) -> list[Answer]:
    return [json.loads(each.answer) for each in decided]


def error(sentence: str) -> Answer:
    return {"version": "1.0", "error": sentence}


def test_each_request_is_decided_on_the_ledger_of_the_one_before(path: Path, opened: Store) -> None:
    batch = carried_out(opened, cores("a", 8), cores("b", 8), cores("c", 4))
    assert [answer.get("cores_allocated") for answer in answers(batch.decided)] == [8, None, 4]
    assert [each.outcome for each in batch.decided] == [
        "served",
        "Insufficient CPUs available. Requested: 8, Available: 4",
        "served",
    ]
    assert loading.load(path).ledger.claims == batch.ledger.claims


def test_without_a_change_nothing_is_committed(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "commit", lambda: pytest.fail("a commit"))
    batch = carried_out(opened, cores("a", 13), cores("a", 2, dry_run=True), cores("b", -1))
    assert [each.outcome for each in batch.decided] == [
        "Insufficient CPUs available. Requested: 13, Available: 12",
        "dry run, nothing changed",
        "served",
    ]


def test_seen_cpus_are_stored_with_the_first_change(path: Path, opened: Store) -> None:
    batch = carried_out(opened, cores("a", 1))
    seen = loading.load(path).seen
    assert seen == batch.seen
    assert {node: str(cpus) for node, cpus in seen.nodes.items()} == {0: "0-3,8-11", 1: "4-7,12-15"}
    assert list(map(str, seen.cores)) == [f"{core},{core + 8}" for core in range(8)]


def test_a_held_write_lock_is_an_error_at_once(path: Path, opened: Store) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begin = time.process_time(), time.monotonic()
    batch = carried_out(opened, cores("a", 2), cores("b", 13))
    assert time.monotonic() - begin[1] < 4, "SQLite's own patience is 5 s"
    assert answers(batch.decided) == [
        error("Nothing was changed because the state could not be stored: database is locked"),
        error("Nothing was changed because the state could not be stored: database is locked"),
    ]
    other.execute("ROLLBACK")
    other.close()
    assert batch.ledger.claims == {}
    assert carried_out(opened, cores("a", 2), ledger=batch.ledger).decided[0].outcome == "served"


@pytest.mark.parametrize("method", ["stage", "stage_seen", "commit"])
def test_a_bug_while_storing_is_an_error_for_all_and_changes_nothing(
    method: str, path: Path, opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("never thought of")

    with monkeypatch.context() as patched:
        patched.setattr(opened, method, fail)
        batch = carried_out(opened, cores("a", 2), cores("b", 2))
    assert answers(batch.decided) == [error(INTERNAL_ERROR)] * 2
    assert (batch.ledger.claims, batch.left) == ({}, ())
    again = carried_out(opened, cores("c", 2), ledger=batch.ledger)
    assert again.decided[0].outcome == "served"
    assert set(loading.load(path).ledger.claims) == {"c"}


def test_a_decision_that_breaks_the_ledger_is_caught_before_its_commit(
    path: Path, opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A placement that grants CPUs of another service or of no pool is an internal error."""

    def grant(text: str, *_: object) -> Placed:
        return Placed([CpuSet.parse(text)])

    first = carried_out(opened, cores("a", 2))
    for granted in ("2", "0"):
        with monkeypatch.context() as patched:
            patched.setattr("epa_orchestrator.allocation.allocate.place_compared", partial(grant, granted))
            batch = carried_out(opened, cores("b", 1), ledger=first.ledger)
        assert answers(batch.decided) == [error(INTERNAL_ERROR)]
        assert batch.ledger.claims == first.ledger.claims == loading.load(path).ledger.claims


def test_a_batch_that_takes_long_commits_what_it_has(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LONG", 0.0)
    requests = [cores("a", 1), cores("b", 1), cores("c", 1)]
    batch = carried_out(opened, *requests)
    assert ([each.waiting for each in batch.decided], list(batch.left)) == (requests[:1], requests[1:])
    assert set(batch.ledger.claims) == {"a"}


@pytest.mark.parametrize("broken", [False, True])
def test_finish_decides_the_rest_and_commits_all(
    path: Path, opened: Store, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    monkeypatch.setattr(batches, "_LONG", 60.0)  # a busy machine can take long for the first decision
    host = Host(RecordedSysfs(build(SHAPE)), Settings())
    batch = Batch(opened, host, Ledger(), host.seen, [cores("a", 1), cores("b", 1)])
    batch.begin(host.pools(), 0.0)
    assert (len(batch.decided), len(batch.left), batch.ended) == (1, 1, False)
    if broken:
        monkeypatch.setattr(Store, "stage", None)
    batch.finish()
    assert batch.ended
    assert [answer.get("allocated_cores") for answer in answers(batch.decided)] == (
        [None] * 2 if broken else ["2", "3"]
    )
    assert set(batch.ledger.claims) == set(loading.load(path).ledger.claims) == (set() if broken else {"a", "b"})


def test_a_database_that_another_process_has_changed_is_written_no_more(path: Path, opened: Store) -> None:
    batch = carried_out(opened, cores("a", 1))
    taken = Claim("b", "isolated", CpuSet.parse("7"), CpuSet(), "legacy")
    another = sqlite3.connect(path, isolation_level=None)
    other = Store(another, path, loading.load(path).checksum)
    other.stage(Change((ClaimChange(None, taken),)), PEER, "allocate_cores", 2.0)
    other.commit()
    another.close()
    after = carried_out(opened, cores("c", 1), ledger=batch.ledger)
    assert after.store_problem == "another process has changed the database"
    assert answers(after.decided) == [
        error(f"Nothing was changed because the state could not be stored: {after.store_problem}")
    ]
    assert set(loading.load(path).ledger.claims) == {"a", "b"}


def test_a_bug_in_a_refusal_stops_no_other_request(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "search_for", None)
    batch = carried_out(opened, cores("a", 1), cores("b", 40), cores("c", 1))
    assert [each.outcome for each in batch.decided] == ["served", INTERNAL_ERROR, "served"]
    assert set(batch.ledger.claims) == {"a", "c"}


def test_a_database_that_others_lock_is_a_failed_commit(path: Path, opened: Store) -> None:
    another = sqlite3.connect(path, isolation_level=None)
    another.execute("BEGIN IMMEDIATE")
    batch = carried_out(opened, cores("a", 1))
    another.close()
    assert "database is locked" in batch.decided[0].outcome
    assert batch.commit_failed
