# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Unblocked: the writer never waits, whatever is at the other end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import socket
import stat
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epa_orchestrator.daemon import unblocked
from epa_orchestrator.daemon.unblocked import UnblockedWriter

LINE = b"x" * 99 + b"\n"

Ends = tuple[int, int]


def a_pipe() -> Ends:
    return os.pipe()


def a_socket() -> Ends:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


def a_terminal() -> Ends:
    reader, writer = pty.openpty()
    attributes = termios.tcgetattr(writer)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(writer, termios.TCSANOW, attributes)
    return reader, writer


@pytest.fixture(params=[a_pipe, a_socket, a_terminal])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    make: Callable[[], Ends] = request.param
    reader, writer = make()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def written_until_full(writer: UnblockedWriter) -> int:
    """Write until nothing more fits. A terminal has room again a moment later, when the kernel has moved its bytes."""
    done = pauses = 0
    while pauses < 5:
        count = writer.write(LINE * 100)
        if count:
            done += count
            pauses = 0
        else:
            pauses += 1
            time.sleep(0.02)
    return done


def test_a_full_end_takes_nothing_until_it_is_read(ends: Ends) -> None:
    reader, fd = ends
    writer = UnblockedWriter(fd)
    full = written_until_full(writer)
    assert full
    assert writer.write(LINE) < len(LINE)
    read = 0
    while read < full:
        read += len(os.read(reader, 65536))
    assert writer.write(LINE) == len(LINE)
    writer.close()


def test_the_shared_description_stays_blocking(ends: Ends) -> None:
    writer = UnblockedWriter(ends[1])
    writer.write(LINE)
    assert not fcntl.fcntl(ends[1], fcntl.F_GETFL) & os.O_NONBLOCK
    writer.close()
    os.fstat(ends[1])


def test_bytes_arrive_whole_and_in_order() -> None:
    reader, fd = os.pipe()
    writer = UnblockedWriter(fd)
    assert writer.write(LINE * 100) == 10_000
    assert os.read(reader, 4000) + os.read(reader, 65536) == LINE * 100
    writer.close()
    os.close(reader)
    os.close(fd)


def test_each_piece_ends_with_a_line() -> None:
    """So lines of two writers into one pipe are not mixed."""
    data = LINE * 100
    pieces: list[bytes] = []
    while (done := sum(map(len, pieces))) < len(data):
        pieces.append(UnblockedWriter._piece(data, done))
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in pieces)


def test_a_line_longer_than_a_piece_arrives_whole() -> None:
    reader, fd = os.pipe()
    writer = UnblockedWriter(fd)
    text = b"y" * 10_000 + b"\n"
    assert writer.write(text) == len(text)
    assert os.read(reader, 65536) == text
    writer.close()
    os.close(reader)
    os.close(fd)


def test_a_file_is_written_at_the_position_that_other_writers_share(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"before\n")
    writer = UnblockedWriter(fd)
    assert writer.write(LINE) == len(LINE)
    os.write(fd, b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\n" + LINE + b"after\n"
    writer.close()
    os.close(fd)


@pytest.mark.parametrize("make", [a_pipe, a_socket])
def test_bytes_that_nobody_can_read_count_as_written(make: Callable[[], Ends]) -> None:
    reader, fd = make()
    writer = UnblockedWriter(fd)
    os.close(reader)
    assert writer.write(LINE * 100) == 10_000
    writer.close()
    os.close(fd)


def test_bytes_for_a_closed_descriptor_count_as_written() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    os.close(fd)
    writer = UnblockedWriter(fd)
    assert writer.write(LINE) == len(LINE)
    writer.close()


def test_a_pipe_that_cannot_be_opened_again_is_polled_before_each_write() -> None:
    reader, fd = os.pipe()
    assert stat.S_ISFIFO(os.fstat(fd).st_mode)
    write = unblocked._when_ready(fd)
    for _ in range(100):
        assert write(LINE) == len(LINE)
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x")
    os.set_blocking(fd, True)
    with pytest.raises(BlockingIOError):
        write(LINE)
    os.close(reader)
    os.close(fd)
