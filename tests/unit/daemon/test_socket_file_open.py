# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The socket file: only the daemon's own socket is opened and removed, and a served path is recognised."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from epa_orchestrator.daemon.socket_file import PRIVATE_NAME, SocketFile, connect, is_served

from .sockets import (
    leave_dangling_link,
    leave_link,
    leave_stale_socket,
    listening_at,
    open_files,
)


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "data" / "epa.sock"


# --- open ---


def test_the_opened_socket_can_be_connected_to_without_its_name(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind() as listener:
        fd = socket_file.open()
        assert fd is not None
        path.unlink()
        connection = connect(fd)
        os.close(fd)
        assert connection is not None, "it uses the descriptor, not the name"
        with connection, listener.accept()[0]:
            pass


@pytest.mark.parametrize(
    "leave",
    [Path.touch, Path.mkdir, leave_dangling_link, leave_link, os.mkfifo, None],
    ids=["file", "directory", "dangling link", "link", "fifo", "nothing"],
)
def test_opens_nothing_but_a_socket(leave: Callable[[Path], None] | None, path: Path) -> None:
    path.parent.mkdir()
    if leave is not None:
        leave(path)
    before = open_files()
    assert SocketFile(path).open() is None
    assert open_files() == before


def test_opens_no_link_to_the_socket(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")
        assert socket_file.open() is None


def test_follows_no_link_to_its_directory(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.parent.rename(path.parent.with_name("moved"))
        path.parent.symlink_to("moved")
        assert socket_file.open() is None
        assert not is_served(path)


def set_access_list(path: Path, kind: str = "access") -> None:
    """Allow everybody but user 65534 everything; acl(5), in the kernel's form (posix_acl_xattr.h)."""
    everyone = 0xFFFFFFFF
    entries = [(1, 6, everyone), (2, 0, 65534), (4, 6, everyone), (0x10, 6, everyone), (0x20, 6, everyone)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, f"system.posix_acl_{kind}", packed)
    except OSError as error:
        pytest.skip(f"no access control lists on this file system: {error.strerror}")


def test_opens_no_socket_with_an_access_control_list(path: Path) -> None:
    """Such a list can exclude a user although the mode lets everybody connect."""
    file = SocketFile(path)
    with file.bind():
        set_access_list(path)
        assert stat.S_IMODE(path.lstat().st_mode) == 0o666
        assert file.open() is None
        with file.put_back():
            assert "system.posix_acl_access" not in os.listxattr(path)
            fd = file.open()
            assert fd is not None
            os.close(fd)


def test_the_socket_inherits_no_default_access_control_list(path: Path) -> None:
    file = SocketFile(path)
    with file.bind():
        set_access_list(path.parent.with_name(PRIVATE_NAME), "default")
        with file.put_back():
            assert stat.S_IMODE(path.lstat().st_mode) == 0o666
            assert "system.posix_acl_access" not in os.listxattr(path)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o667, 0o777, 0o1666, 0o4666, 0])
def test_opens_no_socket_of_another_mode(mode: int, path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.chmod(mode)
        assert socket_file.open() is None


# --- remove ---


def opened(socket_file: SocketFile) -> int:
    fd = socket_file.open()
    assert fd is not None
    return fd


def test_removes_its_own_file(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        fd = opened(socket_file)
        socket_file.remove(fd)
        assert not path.exists()
        socket_file.remove(fd)
        os.close(fd)
        assert path.parent.is_dir()
        assert os.listdir(path.parent.with_name(PRIVATE_NAME)) == []


@pytest.mark.parametrize("replacement", ["socket", "file", "link", "directory"])
def test_removes_no_file_of_somebody_else(replacement: str, path: Path) -> None:
    """Not even when the file comes after the proof."""
    socket_file = SocketFile(path)
    with socket_file.bind():
        fd = opened(socket_file)
        path.rename(path.with_name("moved"))
        if replacement == "socket":
            leave_stale_socket(path)
        elif replacement == "file":
            path.touch()
        elif replacement == "directory":
            (path / "below").mkdir(parents=True)
        else:
            path.symlink_to("moved")
        inode = path.lstat().st_ino
        socket_file.remove(fd)
        os.close(fd)
        assert path.lstat().st_ino == inode


# --- is it served? ---


def test_a_listening_socket_is_served_until_it_is_closed(path: Path) -> None:
    with listening_at(path):
        assert is_served(path)
    assert not is_served(path)


def test_a_missing_file_is_not_served(path: Path) -> None:
    assert not is_served(path)


def test_a_link_to_a_listening_socket_is_not_served(path: Path) -> None:
    with listening_at(path.with_name("elsewhere")):
        path.symlink_to("elsewhere")
        assert not is_served(path)


@pytest.mark.parametrize("leave", [Path.touch, Path.mkdir, os.mkfifo], ids=["file", "directory", "fifo"])
def test_a_file_that_is_no_socket_is_not_served(leave: Callable[[Path], None], path: Path) -> None:
    path.parent.mkdir()
    leave(path)
    assert not is_served(path)
    assert not is_served(path / "below")


def test_a_socket_that_does_not_listen_is_not_served(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert not is_served(path)
