# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Orchestrator: takes one request from its model to its committed answer.

Readings are answered from the committed ledger (see reader). Changes gather while a batch of them is under way (see
batch), and no answer leaves before its commit. A failed commit undoes every decision of the batch, in memory as on
disk. In quiet moments the upkeep works (see upkeep).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.outdated import Review
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.archive import Archive
from epa_orchestrator.daemon.auditor import Auditor
from epa_orchestrator.daemon.batch import Batch, Decided, Waiting
from epa_orchestrator.daemon.current import Current, State, Subject
from epa_orchestrator.daemon.feed import Feed
from epa_orchestrator.daemon.metrics_port import view_of
from epa_orchestrator.daemon.pace import Pace
from epa_orchestrator.daemon.reader import Reader
from epa_orchestrator.daemon.replies import INTERNAL_ERROR, Reply, error_answer, send, send_error
from epa_orchestrator.daemon.room import RoomSearches
from epa_orchestrator.daemon.upkeep import Upkeep
from epa_orchestrator.daemon.watchers import Watchers
from epa_orchestrator.daemon.worker import Call, Done, Worker
from epa_orchestrator.metrics.counts import Rule, counts
from epa_orchestrator.peer import UNNAMED, Peer, PeerNames
from epa_orchestrator.protocol.readings import ArchiveReading, ListAllocations, Reading, Watch
from epa_orchestrator.protocol.requests import Request

if TYPE_CHECKING:
    from epa_orchestrator.isolation.host_files import HostFiles
    from epa_orchestrator.metrics.figures import View

log = logging.getLogger(__name__)

#: How long (seconds) answers are sent in one turn of the event loop.
_SENDING: Final = 0.003


class Orchestrator:
    """Serves requests on one event loop; call everything in the loop's thread."""

    def __init__(
        self, host: Host, settings: Settings, state: State, open_host: Callable[[], HostFiles | None] | None = None
    ) -> None:
        self.settings = settings
        self._current = Current(host, state)
        self._auditor = Auditor(self._current, lambda: self.settings, open_host)
        self._waiting: list[Waiting] = []
        self._busy = False
        #: Whether the last batch had one request, so that probably no other will come in this turn of the loop.
        self._alone = False
        self._unsent: deque[Decided] = deque()
        self._pace = Pace()
        self._worker = Worker()
        self._reviewer = Worker()
        self._room_searches = RoomSearches()
        review = self._review = Review()
        self._upkeep = Upkeep(
            self._current,
            review,
            self._reviewer,
            lambda: self._busy,
            self._run_alone,
            self._lose_state,
            self._auditor.notice,
        )
        self.watchers = Watchers()
        self._reader = Reader(self._current, review, self._reviewer, self._host_read, self._begin_watch)
        self._feed = Feed(self._current, review, self.watchers, lambda: self._reader.warnings, self._reader.read_host)
        self._archive = Archive(self._current, lambda: self._auditor.last)
        self._upkeep.start()

    def use(self, settings: Settings) -> None:
        """Serve by other settings from now on. No claim moves."""
        self.settings = settings
        self._current.host.use(settings)
        self._upkeep.rest()
        self._feed.look()

    def read_host_again(self) -> None:
        """Read the whole machine again before the next request, whatever the kernel's lists show."""
        self._current.host.look_again()
        self._upkeep.read_host()

    def warn(self, about: Subject, sentences: tuple[str, ...]) -> None:
        """Show these warnings in every listing from now on, in place of earlier ones about the same."""
        self._current.warn(about, sentences)
        self._reader.warnings_changed()
        self._feed.look()

    def view(self, connections: int) -> View:
        """All that is known now, for the metrics; the one method that any thread may call."""
        return view_of(self._current, self._review, self._auditor.last, connections)

    def submit(
        self,
        request: Request,
        peer: Peer,
        reply: Reply,
        names: PeerNames = UNNAMED,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Serve a request; `reply` is called once, at once or when the request's change is durable.

        `is_gone` says whether the client has left; a reading that waits is not made then.
        """
        if isinstance(request, ArchiveReading):
            self._archive.read(request, peer, reply, is_gone)
        elif isinstance(request, Reading):
            self._reader.read(request, peer, reply)
            if isinstance(request, ListAllocations):
                self._upkeep.review_for_listing()
        elif self._current.problem is not None:
            problem = self._current.problem
            answer = error_answer(f"{problem}; until then only the reading actions are served")
            send(reply, answer, peer, request, problem, "read-only")
        else:
            self._waiting.append(Waiting(request, peer, reply, names))
            if self._alone and not self._busy:  # the turn in which others could join would cost a lone client 16 µs
                self._busy = True
                self._begin_batch()
            else:
                self._start()

    def watch(self, request: Watch, peer: Peer, reply: Reply, begin: Reply) -> None:
        """Serve a request to watch: `begin` gets the first line and adds a watcher, or else `reply` gets a refusal."""
        self._reader.read(request, peer, reply, begin)

    @property
    def busy(self) -> bool:
        """Whether changes wait for their commit, or for their answers."""
        return self._busy or bool(self._waiting) or bool(self._unsent) or self._room_searches.busy

    def close(self) -> None:
        """Let the commit under way end, and close the store."""
        self._feed.close()
        self._upkeep.close()
        self._auditor.close()
        self._archive.close()
        self._reviewer.close()
        self._room_searches.close()
        self._worker.close()
        if self._current.store is not None:
            self._upkeep.store_seen_at_end()
            self._current.store.close()

    # --- one batch after the other ---

    def _start(self) -> None:
        """Begin a batch at the end of this turn of the loop, with all that has come until then."""
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._begin_batch)

    def _begin_batch(self) -> None:
        current = self._current
        assert current.store is not None
        waiting, self._waiting = self._waiting, []
        self._alone = len(waiting) == 1
        batch = Batch(current.store, current.host, current.ledger, current.stored_seen, waiting)
        pools = current.known_pools()
        if pools is not None and self._pace.is_quick(pools, current.ledger, [each.request for each in waiting]):
            batch.known_quick = True
            batch.begin(pools)
            self._go_on_deciding(batch)
        else:
            self._carry_out(batch, batch.carry_out)

    def _go_on_deciding(self, batch: Batch) -> None:
        """Decide a batch in several turns of the loop, as long as its decisions are quick."""
        if batch.has_time and self._pace.is_quick_enough(batch.slowest):
            asyncio.get_running_loop().call_soon(self._decide_more, batch)
        elif batch.ended:
            self._end_batch(batch)
            self._end_turn()
        else:
            self._carry_out(batch, batch.finish)

    def _decide_more(self, batch: Batch) -> None:
        batch.go_on()
        self._go_on_deciding(batch)

    def _carry_out(self, batch: Batch, call: Call) -> None:
        """Do the rest of a batch in the other thread."""

        def done(error: Exception | None) -> None:
            if error is None:
                self._end_batch(batch)
            else:
                log.error("a batch ended unexpectedly", exc_info=error)
                self._refuse([each.waiting for each in batch.decided], INTERNAL_ERROR, "internal")
                self._refuse(batch.left, INTERNAL_ERROR, "internal")

        self._run_alone(call, done)

    def _run_alone(self, call: Call, done: Done) -> None:
        """Run a call in the thread that commits, while changes wait; then `done`, and the next batch."""

        def end(error: Exception | None) -> None:
            try:
                done(error)
            finally:
                self._end_turn()

        self._busy = True
        self._worker.run(call, end)

    def _end_batch(self, batch: Batch) -> None:
        """Send the answers of a batch; the requests that it left are the first of the next one."""
        if batch.ledger is not self._current.ledger:
            self._upkeep.note_change()
        if counts.on and (batch.commit_failed or batch.commit_seconds is not None):
            counts.committed(len(batch.changing), batch.commit_seconds or 0.0, failed=batch.commit_failed)
        self._current.ledger, self._current.stored_seen = batch.ledger, batch.seen
        self._waiting[:0] = batch.left
        sending = bool(self._unsent)
        self._unsent.extend(batch.decided)
        if self.watchers:
            self._feed.batch_ended(batch)
        if batch.store_problem is not None:
            self._lose_state(batch.store_problem)
        if not sending:
            self._send()
        if batch.pools is not None and not (batch.known_quick and self._pace.is_quick_enough(batch.slowest)):
            self._pace.note(batch.pools, batch.ledger, batch.changing, batch.slowest)

    def _send(self) -> None:
        """Send the answers that are ready, in several turns of the loop when they are many."""
        turn_ends = time.monotonic() + _SENDING
        while self._unsent:
            (request, peer, reply, _), answer, outcome, _, rule, search = decided = self._unsent.popleft()
            if search is None:
                send(reply, answer, peer, request, outcome, rule)
            else:
                self._room_searches.run(search, peer.uid, partial(self._send_found, decided))
            if self._unsent and time.monotonic() > turn_ends:
                asyncio.get_running_loop().call_soon(self._send)
                return

    @staticmethod
    def _send_found(decided: Decided, answer: bytes) -> None:
        """Send a refusal with what a search has found."""
        request, peer, reply, _ = decided.waiting
        send(reply, answer, peer, request, decided.outcome, decided.rule)

    def _end_turn(self) -> None:
        """Begin the next batch if changes have gathered."""
        self._busy = False
        if self._current.problem is not None and self._waiting:
            waiting, self._waiting = self._waiting, []
            self._refuse(waiting, self._current.problem, "read-only")
        if self._waiting:
            self._start()
        else:
            self._upkeep.rest()

    def _refuse(self, waiting: Iterable[Waiting], sentence: str, rule: Rule) -> None:
        for request, peer, reply, _ in waiting:
            send_error(reply, sentence, peer, request, rule)

    def _lose_state(self, reason: str) -> None:
        """Serve readings only from now on."""
        self._reader.fail(self._current.lose_state(reason))
        self._feed.look()

    def _begin_watch(self, pools: Pools) -> None:
        """A watcher is about to get its first line, which is about these pools."""
        self._feed.begin(pools)

    def _host_read(self, pools: Pools | None) -> None:
        """The host was read in another thread: tell those who watch, and judge the placements on it."""
        if pools is not None:
            self._feed.catch_up(pools)
        self._upkeep.rest()
