# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A client that watches a running daemon, and knows what it was told."""

from __future__ import annotations

import json
import select
import time
from typing import Self

from tests.replica import Replica

from .harness import PATIENCE, Daemon, Json, connect, encode


class Watching:
    """A connection that watches; a context manager that closes it."""

    def __init__(self, daemon: Daemon, **fields: object) -> None:
        self.client = connect(daemon.socket_path)
        self.client.sendall(encode("watch", fields))
        self._received = b""
        self.first = self.line()
        self.replica = Replica(self.first)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def line(self) -> Json:
        """The next line. Raises EOFError at the end of the stream."""
        while b"\n" not in self._received:
            piece = self.client.recv(1 << 20)
            if not piece:
                raise EOFError
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def next(self) -> Json:
        """The next line, applied to what is known."""
        line = self.line()
        self.replica.apply(line)
        return line

    def is_quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a time."""
        return not self._received and not select.select([self.client], [], [], seconds)[0]

    def catch_up(self, daemon: Daemon) -> None:
        """Apply lines until what is known is what the listings say."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                for pool in ("isolated", "general"):
                    self.replica.check(daemon.listing(pool=pool))
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                if not self.is_quiet(0.1):
                    self.next()
            else:
                return
