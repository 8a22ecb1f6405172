# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Clients that watch a daemon, in one process: `python -m benchmarks.watchers SOCKET COUNT`, until its input ends.

Of ten, five read what comes, two never read, two read 1 KiB ten times a second, and one leaves after a second and comes
back. Who is dropped comes back too. At the end it prints how many lines were read, and how many clients were dropped.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Final, Literal

_WATCH: Final = b'{"version": "1.0", "action": "watch"}'
_BUFFER: Final = bytearray(1 << 18)
_SLOW_BYTES: Final = 1024
_TURN_S: Final = 0.1
_STAY_S: Final = 1.0

Kind = Literal["reading", "stuck", "slow", "leaving"]
_KINDS: Final[tuple[Kind, ...]] = (
    *("reading", "reading", "reading", "reading", "reading"),
    *("stuck", "stuck", "slow", "slow", "leaving"),
)


class Watchers:
    """All clients, and what they have seen."""

    def __init__(self, path: str, count: int) -> None:
        self._path = path
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Kind, float]] = {}
        self.lines = self.dropped = 0
        for number in range(count):
            self._connect(_KINDS[number % len(_KINDS)])

    def run(self) -> None:
        """Watch until the input ends."""
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        next_turn = time.monotonic()
        while True:
            for fd, events in self._poll.poll(max(next_turn - time.monotonic(), 0)):
                if fd == sys.stdin.fileno():
                    return
                self._serve(fd, events)
            if time.monotonic() >= next_turn:
                next_turn += _TURN_S
                self._take_turn()

    def _connect(self, kind: Kind) -> None:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self._path)
        client.send(_WATCH)
        client.setblocking(False)
        self._open[client.fileno()] = client, kind, time.monotonic()
        # The end of a connection is always told.
        self._poll.register(client.fileno(), select.EPOLLIN if kind in ("reading", "leaving") else 0)

    def _serve(self, fd: int, events: int) -> None:
        client, kind, _ = self._open[fd]
        read = client.recv_into(_BUFFER) if kind in ("reading", "leaving") else 0
        self.lines += _BUFFER.count(b"\n", 0, read)
        if not read:
            assert events & select.EPOLLHUP
            self.dropped += 1
            self._replace(fd)

    def _take_turn(self) -> None:
        now = time.monotonic()
        for fd, (client, kind, since) in list(self._open.items()):
            if kind == "slow":
                try:
                    self.lines += client.recv(_SLOW_BYTES).count(b"\n")
                except BlockingIOError:
                    continue
            elif kind == "leaving" and now - since > _STAY_S:
                self._replace(fd)

    def _replace(self, fd: int) -> None:
        client, kind, _ = self._open.pop(fd)
        self._poll.unregister(fd)
        client.close()
        self._connect(kind)


def main() -> None:
    """Watch, and print what was seen."""
    watchers = Watchers(sys.argv[1], int(sys.argv[2]))
    print("watching", flush=True)
    watchers.run()
    print(json.dumps({"lines": watchers.lines, "dropped": watchers.dropped}), flush=True)


if __name__ == "__main__":
    main()
