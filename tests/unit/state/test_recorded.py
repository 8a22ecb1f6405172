# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Only the marked state of a recorded machine is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.recorded import keep_mark, remove_state

FILES = ("state.db", "state.db-wal", "state.db-shm", "state.db-journal", "noise.json", "noise.json.part")


def make_state(directory: Path) -> None:
    for name in FILES:
        (directory / name).write_text("x")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_state_of_a_recorded_machine_is_removed(tmp_path: Path) -> None:
    keep_mark(tmp_path, recorded=True)
    make_state(tmp_path)
    (tmp_path / "lock").touch()
    remove_state(tmp_path, None)
    assert names(tmp_path) == {"lock", "recorded-machine"}


def test_missing_state_is_removed_already(tmp_path: Path) -> None:
    remove_state(tmp_path, None)
    assert names(tmp_path) == set()


def test_state_without_a_mark_stays(tmp_path: Path) -> None:
    make_state(tmp_path)
    with pytest.raises(StateError, match="may hold the claims of a real host"):
        remove_state(tmp_path, None)
    assert names(tmp_path) == set(FILES)


def test_state_without_a_lock_stays(tmp_path: Path) -> None:
    keep_mark(tmp_path, recorded=True)
    make_state(tmp_path)
    with pytest.raises(StateError, match="cannot be locked"):
        remove_state(tmp_path, "cannot be locked: why")
    assert names(tmp_path) == {*FILES, "recorded-machine"}


def test_existing_state_is_not_marked(tmp_path: Path) -> None:
    make_state(tmp_path)
    keep_mark(tmp_path, recorded=True)
    assert names(tmp_path) == set(FILES)


def test_real_host_takes_the_mark_away(tmp_path: Path) -> None:
    keep_mark(tmp_path, recorded=True)
    keep_mark(tmp_path, recorded=False)
    assert names(tmp_path) == set()


def test_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    for recorded in (True, False):
        keep_mark(tmp_path / "missing", recorded=recorded)
