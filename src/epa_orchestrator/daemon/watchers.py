# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watchers: all clients that watch, and how what is told reaches each of them.

Lines wait in one queue. Each is encoded once, for all watchers, and sent to one after the other, in turns that hold
the event loop for 3 ms at most. While much changes, a pause follows each round through all watchers, 50 times as long
as the round took: few watchers get a change within milliseconds, and many cost the others little.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic, thread_time
from typing import Final, NamedTuple, Protocol

log = logging.getLogger(__name__)

#: How long (seconds) a turn may hold the event loop.
_TURN_SECONDS: Final = 0.003
#: The pause after a round, in times of the CPU time of the round, and its limits (seconds). The first change after a
#: pause is sent at once. With 200 watchers and 64 clients that allocate, a fixed pause of 0.2 s made a request 12
#: percent more expensive (`benchmarks.watch`).
_PAUSE_TIMES: Final = 50
_SHORTEST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5

#: Makes the bytes of a line when it is its turn; none where a watcher would see no difference.
Line = Callable[[], bytes]


class Receiver(Protocol):
    """A client that watches."""

    def tell(self, lines: bytes) -> None:
        """Add lines to what has to be sent."""
        ...

    def send(self) -> None:
        """Send what its client has room for, without waiting."""
        ...

    def drop(self, reason: str) -> None:
        """Close the connection, and remove the receiver."""
        ...


class _Join(NamedTuple):
    """The place in the queue from which on a receiver gets the lines."""

    receiver: Receiver


class Watchers:
    """The open watchers, and what has to be told to them. False when there are none."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: dict[Receiver, None] = {}
        self._receiving: dict[Receiver, None] = {}
        self._queue: deque[Line | _Join] = deque()
        self._encoded: list[bytes] = []
        #: The receivers that have not had their turn in this round.
        self._due: dict[Receiver, None] = {}
        self._round: asyncio.Handle | None = None
        #: The CPU time (seconds) of this round so far, and when the next one may begin.
        self._spent = 0.0
        self._next_round = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, receiver: Receiver) -> None:
        """Tell a receiver everything that is told from now on."""
        self._open[receiver] = None
        self._enqueue(_Join(receiver))

    def remove(self, receiver: Receiver) -> None:
        """Tell a receiver nothing more."""
        for receivers in (self._open, self._receiving, self._due):
            receivers.pop(receiver, None)

    def drop_all(self) -> None:
        """Drop all receivers because of an error: nobody knows any longer what they know. A new one begins well."""
        log.exception("the clients that watch could not be told of a change")
        for receiver in list(self._open):
            receiver.drop("could not be told of a change, because of an internal error")

    def tell(self, line: Line) -> None:
        """Tell all receivers, after what was told before."""
        if self._open:
            self._enqueue(line)

    def send_all(self) -> None:
        """Send at once what is left, as far as each client has room for it."""
        while self._queue:
            self._take_next()
        self._distribute()
        for receiver in list(self._due):
            receiver.send()
        self._due.clear()

    def _enqueue(self, item: Line | _Join) -> None:
        self._queue.append(item)
        if self._round is None:
            wait = self._next_round - self._loop.time()
            self._round = self._loop.call_later(wait, self._go_on) if wait > 0 else self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Do as much of a round as fits into this turn of the loop."""
        begin = thread_time()
        ended = self._take_turn()
        self._spent += thread_time() - begin
        if not ended:
            self._round = self._loop.call_soon(self._go_on)
            return
        pause = min(max(_PAUSE_TIMES * self._spent, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        self._round, self._spent, self._next_round = None, 0.0, self._loop.time() + pause

    def _take_turn(self) -> bool:
        """Encode what is in the queue, then send it to each receiver; False if the time ends before that."""
        turn_ends = monotonic() + _TURN_SECONDS
        while self._queue:
            self._take_next()
            if monotonic() > turn_ends:
                return False
        self._distribute()
        while self._due:
            receiver = next(iter(self._due))
            del self._due[receiver]
            receiver.send()
            if monotonic() > turn_ends:
                return False
        return True

    def _take_next(self) -> None:
        item = self._queue.popleft()
        if not isinstance(item, _Join):
            try:
                self._encoded.append(item())
            except Exception:  # noqa: BLE001  # logged; a bug must not stop the rounds
                self.drop_all()
            return
        self._distribute()
        if item.receiver in self._open:
            self._receiving[item.receiver] = None

    def _distribute(self) -> None:
        """Give what is encoded to all receivers, the same bytes to each."""
        lines = b"".join(self._encoded)
        self._encoded.clear()
        if lines:
            for receiver in list(self._receiving):  # one that is too far behind leaves
                receiver.tell(lines)
            # Those that are still due keep their places, so that each gets its turn.
            self._due.update(self._receiving)
