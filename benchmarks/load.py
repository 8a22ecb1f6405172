# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The load: clients that behave like real ones, and leave most of a small machine to the daemon that they measure.

Each request is a connection of its own: connect, one send, read to EOF, close. One client is a plain blocking loop.
Many clients are connections of one process that waits for them with epoll; each has one request under way, and sends
the next one when it has read its answer. Threads would compete for the interpreter lock, and 64 processes for the
processors that the daemon needs; both would measure the scheduler. The price: an answer can wait here until earlier
answers are read, so latencies with many clients include some of the generator's own time, for the echoes too.
"""

from __future__ import annotations

import gc
import select
import signal
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

#: Larger than any answer, so that one read takes everything that has arrived. Allocating it costs more than a read.
_BUFFER: Final = bytearray(1 << 20)
_VIEW: Final = memoryview(_BUFFER)

#: The longest time for one answer; after that the run fails.
_PATIENCE_S: Final = 15.0

#: The mark of an error, and how close to the begin of an answer it stands: right after the version.
_ERROR: Final = b'"error"'
_ERROR_WITHIN: Final = 40

#: The requests that a client repeats, from the first to the last.
Script = Sequence[bytes]


class LoadError(Exception):
    """A server did not answer, or answered with an error."""


@dataclass(frozen=True)
class Load:
    """The result of one run."""

    clients: int
    requests: int
    #: Also the uncounted ones at the start of the run.
    all_requests: int
    seconds: float
    p50_us: float
    p99_us: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def typical_us(self) -> float:
        """The time of one request: the median of a lone client, which other work hardly changes; else 1 / rate."""
        return self.p50_us if self.clients == 1 else 1e6 / self.rate


def ask(path: str, request: bytes) -> bytes:
    """Send one request, and return its answer."""
    with _patience(_PATIENCE_S), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.send(request)
        return bytes(_VIEW[: _read(connection)])


def run(path: str, scripts: Sequence[Script], seconds: float) -> Load:
    """Let one client for each script repeat it for some seconds. All end their scripts, so that nothing stays claimed.

    Raises LoadError when an answer is an error or none comes.
    """
    repeat = _repeat_one if len(scripts) == 1 else _repeat_many
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _patience(seconds + _PATIENCE_S):
            uncounted = repeat(path, scripts, seconds / 10)  # fills all caches
            begin = time.monotonic_ns()
            took = repeat(path, scripts, seconds)
            elapsed = time.monotonic_ns() - begin
    finally:
        if collecting:
            gc.enable()
    took.sort()
    return Load(
        clients=len(scripts),
        requests=len(took),
        all_requests=len(uncounted) + len(took),
        seconds=elapsed / 1e9,
        p50_us=took[len(took) // 2] / 1e3,
        p99_us=took[len(took) * 99 // 100] / 1e3,
    )


def once(path: str, requests: Sequence[bytes], clients: int = 32) -> None:
    """Send each request once, `clients` at a time."""
    for first in range(0, len(requests), clients):
        with _patience(_PATIENCE_S):
            _repeat_many(path, [[request] for request in requests[first : first + clients]], 0)


def _repeat_one(path: str, scripts: Sequence[Script], seconds: float) -> list[int]:
    """One client. Every call blocks, so there are no system calls but those of the request itself."""
    clock = time.monotonic_ns
    took: list[int] = []
    end = clock() + int(seconds * 1e9)
    while clock() < end:
        for request in scripts[0]:
            begin = clock()
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            connection.send(request)
            size = _read(connection)
            connection.close()
            took.append(clock() - begin)
            _check(size)
    return took


def _repeat_many(path: str, scripts: Sequence[Script], seconds: float) -> list[int]:
    """Many clients in one process."""
    clock = time.monotonic_ns
    took: list[int] = []
    poller = select.epoll()
    #: By file descriptor: the connection, its client, its begin, and the bytes of the answer read so far.
    open_now: dict[int, tuple[socket.socket, int, int, int]] = {}
    steps = [0] * len(scripts)

    def send(client: int) -> None:
        begin = clock()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        connection.send(scripts[client][steps[client]])
        poller.register(connection, select.EPOLLIN)
        open_now[connection.fileno()] = (connection, client, begin, 0)

    try:
        end = clock() + int(seconds * 1e9)
        for client in range(len(scripts)):
            send(client)
        while open_now:
            for descriptor, _ in poller.poll():
                connection, client, begin, size = open_now[descriptor]
                got, finished = _read_some(connection)
                if size == 0:
                    _check(got)
                if not finished:
                    open_now[descriptor] = (connection, client, begin, size + got)
                    continue
                del open_now[descriptor]
                connection.close()
                now = clock()
                took.append(now - begin)
                steps[client] = (steps[client] + 1) % len(scripts[client])
                if steps[client] or now < end:
                    send(client)
    finally:
        poller.close()
        for connection, *_ in open_now.values():
            connection.close()
    return took


def _read(connection: socket.socket) -> int:
    """Read to EOF into the buffer, and return the number of bytes."""
    size = connection.recv_into(_BUFFER)
    while got := connection.recv_into(_VIEW[size:]):
        size += got
    return size


def _read_some(connection: socket.socket) -> tuple[int, bool]:
    """Read everything that has arrived. Returns the number of bytes, and whether EOF was reached."""
    size = 0
    try:
        while got := connection.recv_into(_VIEW[size:], 0, socket.MSG_DONTWAIT):
            size += got
    except BlockingIOError:
        return size, False
    return size, True


def _check(size: int) -> None:
    if not size:
        raise LoadError("the server closed the connection without an answer")
    if _BUFFER.find(_ERROR, 0, min(size, _ERROR_WITHIN)) >= 0:
        raise LoadError(f"the server answered {bytes(_VIEW[: min(size, 300)]).decode('utf-8', 'replace')}")


@contextmanager
def _patience(seconds: float) -> Generator[None]:
    """Raise LoadError when the body takes longer. One timer does, as a timeout for each call costs a system call."""

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise LoadError(f"no answer within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except OSError as error:
        raise LoadError(f"a connection failed: {error}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
