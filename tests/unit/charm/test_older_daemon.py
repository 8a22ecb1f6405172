# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The older daemon ran after ours: how that is found out, and how the claims of either are kept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import installation
import older_daemon
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files, opening
from older_daemon import Intrusion
from snap_sources import FileSource, StoreSource
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME

from .workload import error_of

STATE: dict[str, Any] = {
    "version": 1,
    "allocations_db": {"allocations": {"ceph-osd": "14-15"}},
    "hugepages_db": {"allocations": {}},
}


@pytest.fixture
def data(fake: Snapd) -> Path:
    """The directory of the snap's data, without a file of our daemon."""
    directory = fake.blobs.parent / "data"
    (directory / "common").mkdir(parents=True)
    return directory


@pytest.fixture
def upgraded(fake: Snapd, data: Path, file: FileSource) -> Snapd:
    """The older snap ran first, then ours."""
    fake.store.publish(NAME, "2026.1/stable", 3, "1.0", older=True)
    installation.install(StoreSource("2026.1/stable", 3))
    installation.install(file)
    start_ours(data)
    return fake


def start_ours(data: Path) -> None:
    """Leave the files of our daemon's first start."""
    (data / "common" / "lock").touch()
    opening.create(data / "common" / database_files.FILE_NAME, Ledger(), Peer(1, 0, 0), time.time())


def found(settled: float = 0.0) -> str | None:
    """The revision of the older daemon that ran in between."""
    intrusion = older_daemon.find(settled)
    return intrusion.revision if intrusion else None


@pytest.mark.usefixtures("data")
def test_missing_snap_is_no_intrusion() -> None:
    assert found() is None


@pytest.mark.usefixtures("upgraded")
def test_older_daemon_before_ours_is_no_intrusion() -> None:
    assert found() is None


def test_older_daemon_before_ours_is_no_intrusion_while_it_still_runs(fake: Snapd, data: Path) -> None:
    fake.store.publish(NAME, "2026.1/stable", 3, "1.0", older=True)
    installation.install(StoreSource("2026.1/stable", 3))
    assert found() is None


def test_older_daemon_that_runs_now_is_found(upgraded: Snapd) -> None:
    upgraded.revert(NAME, "3")
    assert found() == "3"


def test_older_daemon_that_ran_in_between_is_found(upgraded: Snapd) -> None:
    upgraded.revert(NAME, "3")
    upgraded.revert(NAME, "x1")
    assert found() == "3"
    intrusion = older_daemon.find(0.0)
    assert intrusion is not None
    assert found(intrusion.at) is None, "it was settled"


def test_failed_revert_is_no_intrusion(upgraded: Snapd) -> None:
    upgraded.revert(NAME, "3")
    upgraded.revert(NAME, "x1")
    upgraded.history[-2]["tasks"][0]["status"] = "Undone"
    assert found() is None


def test_revisions_of_ours_are_no_intrusion(upgraded: Snapd, other_file: FileSource) -> None:
    for source in (other_file, StoreSource("latest/stable", 4), StoreSource("latest/stable", 5)):
        installation.install(source)
    upgraded.revert(NAME, "4")
    assert found() is None


def test_first_start_is_known_from_the_history_if_the_lock_was_made_again(upgraded: Snapd, data: Path) -> None:
    database = data / "common" / database_files.FILE_NAME
    database.unlink()
    ledger = older_daemon.read_legacy_state(state_file(data, "x1", STATE))
    assert ledger is not None
    opening.create(database, ledger, Peer(1, 0, 0), time.time())
    upgraded.revert(NAME, "3")
    upgraded.revert(NAME, "x1")
    os.utime(data / "common" / "lock", (time.time() + 60, time.time() + 60))
    assert found() == "3"


def test_state_file_of_another_snap_is_no_evidence(upgraded: Snapd, data: Path) -> None:
    """A connected snap can write it, with any time, as long as it has the directory open."""
    for revision in ("3", "x1"):
        state = state_file(data, revision, STATE)
        os.utime(state, (time.time() + 3600, time.time() + 3600))
    assert found() is None


def test_sentence_names_two_commands() -> None:
    assert Intrusion("3", 0.0).sentence("epa/0") == (
        "choose which claims count: run 'juju run epa/0 settle-claims keep=ours' or 'juju run epa/0 settle-claims"
        " keep=older': the older daemon (revision 3) ran on 1970-01-01 00:00 UTC, and knew nothing of the claims that"
        " this one holds"
    )


def state_file(data: Path, revision: str, state: dict[str, Any]) -> Path:
    path = data / revision / "data" / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(state), encoding="utf-8")
    return path


@pytest.fixture
def both(upgraded: Snapd, data: Path) -> Snapd:
    """Both daemons have claims; ours is the current one."""
    state_file(data, "3", STATE)
    state_file(data, "x1", {})
    (data / "current").symlink_to("x1")
    return upgraded


def test_take_over_puts_the_database_aside_and_restarts_the_daemon(both: Snapd, data: Path) -> None:
    actions: list[str] = []
    both.on_service = lambda _name, action: actions.append(action)
    before = (data / "common" / database_files.FILE_NAME).read_bytes()
    aside = Path(older_daemon.take_over("3"))
    assert aside.read_bytes() == before
    assert not database_files.exists(data / "common" / database_files.FILE_NAME)
    assert json.loads((data / "current" / "data" / "state.json").read_text()) == STATE
    assert actions == ["stop", "start"]


@pytest.mark.parametrize("content", [None, "rubbish", '{"allocations_db": {"allocations": {"a": "1", "b": "1"}}}'])
def test_unusable_state_of_the_older_daemon_changes_nothing(content: str | None, both: Snapd, data: Path) -> None:
    state = data / "3" / "data" / "state.json"
    state.unlink()
    if content is not None:
        state.write_text(content, encoding="utf-8")
    sentence = error_of(lambda: older_daemon.take_over("3"))
    assert sentence.startswith("the state of the older daemon cannot be taken over (")
    assert sentence.endswith("run settle-claims with keep=ours")
    assert database_files.exists(data / "common" / database_files.FILE_NAME)
    assert both.request_count("POST apps") == 0


def test_link_in_the_place_of_a_state_file_is_not_followed(both: Snapd, data: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe", encoding="utf-8")
    ours = data / "x1" / "data" / "state.json"
    ours.unlink()
    ours.symlink_to(victim)
    older_daemon.take_over("3")
    assert victim.read_text() == "safe"
    assert json.loads(ours.read_text()) == STATE
    theirs = data / "3" / "data" / "state.json"
    theirs.unlink()
    theirs.symlink_to(ours)
    assert "cannot be taken over" in error_of(lambda: older_daemon.take_over("3"))
