# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The socket keeper: puts the socket file back, goes on after errors, and removes only its own file."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.daemon.socket_file import ListenError

from .sockets import (
    LISTING,
    answer_at,
    keeping,
    leave_dangling_link,
    leave_full_directory,
    listening_at,
    open_files,
    run,
)

pytestmark = pytest.mark.usefixtures("patient_proofs")


# --- start ---


@pytest.mark.parametrize(
    "leave",
    [None, Path.touch, leave_full_directory, os.mkfifo, leave_dangling_link, listening_at],
    ids=["nothing", "file", "directory", "fifo", "dangling link", "other socket"],
)
def test_serves_a_handed_over_socket_whatever_is_in_its_place(
    leave: Callable[[Path], Any] | None, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            path.rename(path.with_name("moved"))
            left = leave(path) if leave is not None else None
            await keeper.start([listener])
            assert b"read-only" in await answer_at(path.with_name("moved"))
            assert b"read-only" in await answer_at(path)
            assert stat.S_IMODE(path.lstat().st_mode) == 0o666
            if isinstance(left, socket.socket):
                left.close()

    run(body())
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_leaves_a_handed_over_socket_that_leads_to_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            inode = path.lstat().st_ino
            await keeper.start([listener])
            assert path.lstat().st_ino == inode
            assert caplog.records == []

    run(body())


def test_serves_a_handed_over_socket_when_the_file_cannot_be_made(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The problem is logged once, and the keeper tries again until the obstacle is gone."""

    async def body() -> None:
        async with keeping(path) as keeper:
            elsewhere = path.parent.with_name("elsewhere")
            path.parent.rename(elsewhere)
            path.parent.symlink_to("elsewhere")
            listener = listening_at(elsewhere / "epa.sock")
            await keeper.start([listener])
            for _ in range(3):
                await keeper.check()
            assert len(caplog.records) == 1
            assert "is a link or not a directory: replace it by a directory; trying again" in caplog.text
            assert b"read-only" in await answer_at(elsewhere / "epa.sock")
            path.parent.unlink()
            await keeper.check()
            assert await keeper.leads_to_us()

    run(body())


def test_the_start_fails_without_a_handed_over_socket(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            with listening_at(path), pytest.raises(ListenError, match="already serves"):
                await keeper.start([])

    run(body())


# --- putting it back ---


def test_puts_the_file_back_again_and_again(path: Path) -> None:
    """Earlier sockets are retired one by one, and their waiting clients are served."""

    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            before = open_files()
            for _ in range(20):
                early = socket.socket(socket.AF_UNIX)
                early.connect(str(path))
                path.unlink()
                await keeper.check()
                assert await keeper.leads_to_us()
                early.setblocking(False)
                early.send(LISTING)
                assert b"read-only" in await asyncio.get_running_loop().sock_recv(early, 4096)
                early.close()
            assert open_files() <= before + 2, "one listener more, and the proven file"

    run(body())


def test_without_file_descriptors_it_tries_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest_free = os.dup(0)
            os.close(lowest_free)
            try:
                for spare in range(16):
                    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + spare, hard))
                    await keeper.check()
                    await keeper.check()
                    if path.exists():
                        break
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            messages = [record.getMessage() for record in caplog.records]
            assert messages == [
                f"The socket file {path} cannot be checked: {os.strerror(errno.EMFILE)}; trying again",
                f"The socket {path} cannot be made: {os.strerror(errno.EMFILE)}; trying again",
                f"put back the socket file {path}, which did not lead to this daemon",
            ]
            assert await keeper.leads_to_us()

    run(body())


# --- remove ---


def test_removes_its_own_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            await keeper.remove()
            assert os.listdir(path.parent) == []
            await keeper.remove()
            assert caplog.records == []

    run(body())


def test_removes_no_file_of_somebody_else(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            with listening_at(path):
                await keeper.remove()
                assert path.is_socket()

    run(body())


def test_removes_no_handed_over_file(path: Path) -> None:
    """Not even after a file of our own was in its place."""

    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            await keeper.start([listener])
            await keeper.remove()
            assert path.is_socket()
            path.rename(path.with_name("moved"))
            await keeper.check()
            path.with_name("moved").rename(path)
            await keeper.remove()
            assert path.is_socket()

    run(body())


def test_removes_a_file_that_it_has_put_back(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            await keeper.start([listener])
            path.unlink()
            await keeper.check()
            await keeper.remove()
            assert not path.exists()

    run(body())
