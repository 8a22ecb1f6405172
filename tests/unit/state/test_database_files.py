"""Database files: every change of a name is noticed, even right after a check."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from epa_orchestrator.state.database_files import INDEX, LOG, Files, with_suffix


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "common" / "state.db"
    path.parent.mkdir()
    for suffix in ("", LOG, INDEX):
        with_suffix(path, suffix).write_text("x")
    return path


def settle(path: Path) -> None:
    """Wait until nothing has changed in the directory for a while."""
    while time.time_ns() - path.parent.stat().st_ctime_ns < 60_000_000:
        time.sleep(0.01)


def replace(file: Path) -> None:
    new = file.with_name("new")
    new.write_text("x")
    new.replace(file)


def move_away(file: Path) -> None:
    file.rename(file.with_name("away"))


def move_the_directory(file: Path) -> None:
    file.parent.rename(file.parent.with_name("old"))
    shutil.copytree(file.parent.with_name("old"), file.parent)


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("suffix", ["", LOG, INDEX])
@pytest.mark.parametrize("change", [Path.unlink, replace, move_away, move_the_directory])
def test_a_name_that_leads_elsewhere_is_noticed(
    change: Callable[[Path], object], suffix: str, settled: bool, path: Path
) -> None:
    files = Files(path)
    for _ in range(2):
        if settled:
            settle(path)
        assert files.in_place()
    change(with_suffix(path, suffix))
    assert not files.in_place()
    assert not files.in_place()


def test_a_backup_that_is_unpacked_over_the_files_is_noticed(path: Path) -> None:
    """Like `tar -x`, which gives a directory the time of modification that it had in the archive."""
    before = path.parent.stat().st_mtime_ns
    files = Files(path)
    settle(path)
    assert files.in_place()
    replace(path)
    os.utime(path.parent, ns=(before, before))
    assert not files.in_place()


def test_what_is_written_into_the_files_is_no_change(path: Path) -> None:
    files = Files(path)
    path.write_text("y")
    with_suffix(path, LOG).write_text("")
    (path.parent / "lock").touch()
    assert files.in_place()


def test_a_link_to_the_database_is_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    files = Files(link)
    settle(path)
    assert files.in_place()
    link.unlink()
    link.symlink_to(with_suffix(path, LOG))
    assert not files.in_place()
