# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Reader: serves the requests that change nothing, from the committed ledger.

Most are answered at once. Those that come before the host is known, or before everything that changed is encoded, wait
and are answered in turns, so that none of them holds the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.outdated import Review
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.daemon.current import Current
from epa_orchestrator.daemon.queries import Queries
from epa_orchestrator.daemon.replies import INTERNAL_ERROR, Reply, send, send_error
from epa_orchestrator.daemon.worker import Worker
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.metrics.counts import Rule
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.readings import PresentReading

log = logging.getLogger(__name__)

#: How long (seconds) requests are served in one turn of the event loop.
_TURN: Final = 0.003


class _Waiting(NamedTuple):
    """A request that waits for its answer."""

    request: PresentReading
    peer: Peer
    reply: Reply
    #: Gets the first line for a watcher, while `reply` gets a refusal.
    begin: Reply | None = None


class Reader:
    """Answers readings.

    `worker` reads a changed host; `on_host_read` is called after that, with the pools if it could be read.
    `before_watch` is called right before a watcher gets its first line, with the pools that the line is about.
    """

    def __init__(
        self,
        current: Current,
        review: Review,
        worker: Worker,
        on_host_read: Callable[[Pools | None], None],
        before_watch: Callable[[Pools], None],
    ) -> None:
        self._current = current
        self._worker = worker
        self._on_host_read = on_host_read
        self._before_watch = before_watch
        pools = current.known_pools()
        self._queries = Queries(
            current.host,
            current.problem,
            ledger_known=current.ledger_known,
            review=review,
            warnings=current.warnings,
            # Encoding takes long with many claims, so it is done now, and not when the first client waits.
            ledger=current.ledger_on(pools) if pools else current.ledger,
            configured=pools.configured if pools else EMPTY,
        )
        self._waiting_for_host: list[_Waiting] = []
        self._reading_host = False
        self._waiting_for_encoding: deque[_Waiting] = deque()

    def fail(self, problem: str) -> None:
        """Say in every answer from now on why nothing may be changed."""
        self._queries.fail(problem)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings in every listing."""
        return self._queries.warnings

    def warnings_changed(self) -> None:
        """Show the present warnings of the daemon in every listing from now on."""
        self._queries.warn(self._current.warnings)

    def read(self, request: PresentReading, peer: Peer, reply: Reply, begin: Reply | None = None) -> None:
        """Answer a request, now or later; `reply` is called once, or for a watcher `begin` if it is granted."""
        waiting, pools = _Waiting(request, peer, reply, begin), self._current.known_pools()
        if pools is None:
            self._waiting_for_host.append(waiting)
            self.read_host()
        elif not self._waiting_for_encoding and self._encode(pools, request):
            self._answer(pools, waiting)
        else:
            self._wait_for_encoding([waiting])

    def _answer(self, pools: Pools, waiting: _Waiting) -> None:
        request, peer, reply, begin = waiting
        try:
            if begin is not None:
                self._before_watch(pools)
            answer = self._queries.answer(self._current.ledger, pools, request)
        except Refused as refusal:
            send_error(reply, str(refusal), peer, request, refusal.rule)
        except SysfsError as error:
            send_error(reply, str(error), peer, request, "host")
        except Exception:  # a bug in one request must not stop the others
            log.exception("%s from pid=%d failed", request.action, peer.pid)
            send_error(reply, INTERNAL_ERROR, peer, request, "internal")
        else:
            send(begin or reply, answer, peer, request, "served", refuse=reply)

    def _encode(self, pools: Pools, request: PresentReading) -> bool:
        """Encode some of the parts that changed; returns whether the request can be answered."""
        try:
            return self._queries.prepare(self._current.ledger_on(pools), pools, request)
        except Exception:  # a bug; answering fails in the same way and reports it
            log.exception("%s could not be prepared", request.action)
            return True

    def _wait_for_encoding(self, waiting: Iterable[_Waiting]) -> None:
        """Answer requests after those that already wait for their parts to be encoded."""
        if not self._waiting_for_encoding:
            asyncio.get_running_loop().call_soon(self._encode_and_answer)
        self._waiting_for_encoding.extend(waiting)

    def _encode_and_answer(self) -> None:
        """Encode and answer for one turn of the event loop; the rest follows in later turns."""
        turn_ends = time.monotonic() + _TURN
        while self._waiting_for_encoding:
            waiting, pools = self._waiting_for_encoding[0], self._current.host.latest_pools
            assert pools is not None  # requests wait here only when the host has been read
            if self._encode(pools, waiting.request):
                self._waiting_for_encoding.popleft()
                self._answer(pools, waiting)
            if self._waiting_for_encoding and time.monotonic() > turn_ends:
                asyncio.get_running_loop().call_soon(self._encode_and_answer)
                return

    def read_host(self) -> None:
        """Discover the host in another thread, then answer the requests that wait for it."""
        if not self._reading_host:
            self._read_host()

    def _read_host(self) -> None:
        """Discover the host.

        Not in the thread that commits: a disk that does not respond must not block readings.
        """
        self._reading_host = True
        waiting, self._waiting_for_host = self._waiting_for_host, []
        ledger = self._current.ledger
        found: list[Ledger] = []

        def read() -> None:
            pools = self._current.host.pools()
            found.append(ledger.on(pools.cores))  # takes 10 ms with 2,000 claims that have their cores alone

        def done(error: Exception | None) -> None:
            self._reading_host = False
            self._current.note_unreadable(error)
            if error is None:
                if self._current.ledger is ledger:
                    self._current.ledger = found[0]
                self._wait_for_encoding(waiting)
            else:
                self._refuse(waiting, error)
            if self._waiting_for_host:
                self._read_host()
            self._on_host_read(self._current.host.latest_pools if error is None else None)

        self._worker.run(read, done)

    @staticmethod
    def _refuse(waiting: Iterable[_Waiting], error: Exception) -> None:
        rule: Rule = "host" if isinstance(error, SysfsError) else "internal"
        sentence = str(error) if isinstance(error, SysfsError) else INTERNAL_ERROR
        for request, peer, reply, _ in waiting:
            send_error(reply, sentence, peer, request, rule)
