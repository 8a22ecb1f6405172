# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Store: a committed change comes back, and a change by another process is never overwritten."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from epa_orchestrator.allocation.claims import Change, ClaimChange, PagesChange
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.state.errors import CommitError, DatabaseChanged
from epa_orchestrator.state.loading import load, load_copy
from epa_orchestrator.state.opening import open_store
from epa_orchestrator.state.store import Store
from tests.unit.state.builders import GONE, GROWN, LEDGER, PEER, PLACED, claim, commit, content, log_of, run_sql


def test_committed_changes_come_back(path: Path) -> None:
    opened, loaded = open_store(path)
    ledger = loaded.ledger
    for change in (
        Change((*GROWN.claims, *GONE.claims)),
        Change((ClaimChange(None, claim("c", "2")),)),
        Change(pages=PagesChange("a", (0, 2048), 4, 0)),
        Change(pages=PagesChange("c", (0, 2048), 0, 9)),
    ):
        commit(opened, change)
        ledger = ledger.apply(change)
    # Without closing, as after a crash: another connection recovers the content of the log.
    assert content(load_copy(path).ledger) == content(ledger)
    opened.close()
    assert content(load(path).ledger) == content(ledger)


def test_a_change_that_is_only_staged_does_not_come_back(path: Path) -> None:
    opened, _ = open_store(path)
    opened.stage(GROWN, PEER, "allocate_cores", 2.0)
    assert content(load_copy(path).ledger) == content(LEDGER)
    opened.close()
    assert content(load(path).ledger) == content(LEDGER)


def test_placements_come_back(path: Path) -> None:
    opened, _ = open_store(path)
    commit(opened, GONE, Change((ClaimChange(claim("b", "5"), None),)))
    commit(opened, Change(tuple(ClaimChange(None, each) for each in PLACED.claims.values())))
    opened.close()
    ledger = load(path).ledger
    assert ledger.claims == PLACED.claims
    assert ledger.withheld == CpuSet.parse("10-11,14-15")


def test_seen_cpus_come_back(path: Path) -> None:
    opened, loaded = open_store(path)
    assert loaded.seen == LastSeen()
    opened.stage(GROWN, PEER, "allocate_cores", 2.0)
    opened.stage_seen(LastSeen({0: CpuSet.parse("0-3"), 4: CpuSet.parse("")}, (CpuSet.parse("2,4"),)))
    opened.commit()
    opened.close()
    assert load(path).seen == LastSeen({0: CpuSet.parse("0-3"), 4: CpuSet.parse("")}, (CpuSet.parse("2,4"),))


def test_staged_changes_lock_the_database_until_the_commit(path: Path, opened: Store) -> None:
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    opened.stage(GROWN, PEER, "allocate_cores", 2.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    opened.commit()
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_locked_database_is_an_error_at_once_and_nothing_is_staged(path: Path, opened: Store) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CommitError, match="locked"):
        opened.stage(GONE, PEER, "allocate_cores", 3.0)
    other.execute("ROLLBACK")
    other.close()
    commit(opened, Change(pages=PagesChange("a", (0, 2048), 4, 5)))
    ledger = load_copy(path).ledger
    assert set(ledger.claims) == {"a", "b"}
    assert ledger.pages["a"][0, 2048] == 5


def test_tidying_empties_the_log(path: Path, opened: Store) -> None:
    commit(opened, GROWN)
    assert log_of(path).stat().st_size > 0
    opened.tidy()
    assert log_of(path).stat().st_size == 0


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm"])
def test_a_replaced_file_is_noticed(name: str, path: Path, opened: Store) -> None:
    commit(opened, GROWN)
    file = path.with_name(name)
    copy = shutil.copyfile(file, path.with_name("copy"))
    copy.rename(file)
    assert not opened.in_place()


def test_a_change_by_another_process_is_not_overwritten(path: Path, opened: Store) -> None:
    run_sql(path, "DELETE FROM claim WHERE service = 'a'")
    with pytest.raises(DatabaseChanged, match="another process has changed the database"):
        opened.stage(GONE, PEER, "allocate_cores", 2.0)


def test_a_foreign_change_outside_the_claims_does_not_stop_the_store(path: Path, opened: Store) -> None:
    run_sql(path, "UPDATE event SET service = 'damaged'")
    assert not opened.untouched()
    opened.verify()
    assert opened.untouched()
    commit(opened, Change(claims=(ClaimChange(None, claim("later", "7")),)))
    assert load(path).ledger.claims.keys() == {"a", "b", "later"}


def test_the_log_moves_into_the_database_while_changes_go_on(path: Path) -> None:
    opened, _ = open_store(path)
    size = path.stat().st_size
    for count in range(1, 601):
        commit(opened, Change(pages=PagesChange(f"{count:03}{'x' * 250}", (0, 2048), 0, count)))
        assert opened.untouched(), "its own commits and checkpoints are no changes by others"
    assert path.stat().st_size > size + 100_000
    assert log_of(path).stat().st_size < 8 * 1024 * 1024
    assert opened.tidy() is False
    assert opened.untouched()
    opened.close()
