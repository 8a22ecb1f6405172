# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Files: only regular files of a limited size are read, without waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epa_orchestrator.files import UnsuitableFileError, read_regular_file


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"x", bytes(range(256)) * 4096):
        path.write_bytes(content)
        assert read_regular_file(path, len(content), follow_link=False) == content
        assert read_regular_file(str(path), 1 << 30, follow_link=True) == content


def test_a_larger_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsuitableFileError, match=r"^it has more than 100 bytes$"):
        read_regular_file(path, 100, follow_link=True)


def test_a_file_that_reports_no_size_is_limited_too() -> None:
    """Files in /proc report a size of 0, and a file may grow while it is read."""
    with pytest.raises(UnsuitableFileError, match=r"^it has more than 4 bytes$"):
        read_regular_file("/proc/self/status", 4, follow_link=True)


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    before = open_files()
    with pytest.raises(UnsuitableFileError, match=r"^it is not a regular file$"):
        read_regular_file(path, 100, follow_link=True)
    assert open_files() == before


def test_a_link_is_followed_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    link = tmp_path / "link"
    link.symlink_to("file")
    assert read_regular_file(link, 1, follow_link=True) == b"x"
    with pytest.raises(OSError, match="symbolic links"):
        read_regular_file(link, 1, follow_link=False)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "missing", 1, follow_link=True)
