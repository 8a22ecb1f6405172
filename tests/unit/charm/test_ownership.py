# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Which unit owns the snap of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import ownership
from charm_record import Record


@pytest.fixture(autouse=True)
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the units on this machine: of epa/0 and other/3."""
    for unit in ("unit-epa-0", "unit-other-3"):
        (tmp_path / unit).mkdir()
    monkeypatch.setattr(ownership, "_AGENTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("recorded", "owner"),
    [("", None), ("epa/0", None), ("other/3", "other/3"), ("other/2", None), ("gone/0", None)],
)
def test_other_owner_is_a_recorded_unit_that_is_still_here(recorded: str, owner: str | None) -> None:
    assert ownership.other_owner(Record(unit=recorded, model="m"), "epa/0") == owner


def test_owner_is_gone_with_its_directory(agents: Path) -> None:
    (agents / "unit-other-3").rmdir()
    assert ownership.other_owner(Record(unit="other/3"), "epa/0") is None
