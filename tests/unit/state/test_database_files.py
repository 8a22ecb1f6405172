# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Database files: every change of a name is noticed, also right after a check, and every change of the content."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epa_orchestrator.state.database_files import FILE_NAME, INDEX, JOURNAL, LOG, Content, Files, exists, with_suffix


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
def test_a_name_that_leads_to_another_file_is_noticed(
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


def test_a_backup_that_was_unpacked_over_the_files_is_noticed(path: Path) -> None:
    """Like `tar -x`, which gives a directory the time of modification that it had in the archive."""
    before = path.parent.stat().st_mtime_ns
    files = Files(path)
    settle(path)
    assert files.in_place()
    replace(path)
    os.utime(path.parent, ns=(before, before))
    assert not files.in_place()


def test_writing_into_the_files_does_not_replace_them(path: Path) -> None:
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


@pytest.fixture
def known(path: Path) -> Iterator[Content]:
    """The content of the database and its log, as it is remembered."""
    with path.open("rb") as database:
        content = Content(path, database.fileno())
        yield content
        content.close()


@pytest.mark.parametrize("suffix", ["", LOG])
def test_a_write_by_others_is_noticed_until_it_is_remembered(suffix: str, path: Path, known: Content) -> None:
    assert known.is_unchanged()
    with_suffix(path, suffix).write_text("longer")
    assert not known.is_unchanged()
    known.remember()
    assert known.is_unchanged()


def test_remembering_the_log_reports_a_write_to_the_database(path: Path, known: Content) -> None:
    with_suffix(path, LOG).write_text("a commit")
    assert known.remember_log()
    path.write_text("longer")
    assert not known.remember_log()


@pytest.mark.parametrize("suffix", ["", LOG, JOURNAL])
def test_a_trace_of_a_database_counts_as_one(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert not exists(path)
    with_suffix(path, suffix).touch()
    assert exists(path)
