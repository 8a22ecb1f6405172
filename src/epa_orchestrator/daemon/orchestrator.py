"""Orchestrator: takes one request from its model to its committed answer.

Readings are answered at once, from what is committed. Mutations gather while a batch of them is under way (see batch),
and no answer leaves before its commit. A failed commit undoes every decision in the batch, in memory as on disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Claim, Ledger, Refused
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.daemon import peer_log
from epa_orchestrator.daemon.batch import INTERNAL_ERROR, Batch, Decided, Reply, Waiting, error_answer
from epa_orchestrator.daemon.pace import Pace
from epa_orchestrator.daemon.queries import Readings
from epa_orchestrator.daemon.worker import Call, Worker
from epa_orchestrator.hardware.machine import LastSeen
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.requests import Reading, Request
from epa_orchestrator.state.errors import REPLACED, DatabaseChanged
from epa_orchestrator.state.store import Store

log = logging.getLogger(__name__)

#: After this time (seconds) without a mutation the claims are reviewed, and after this one the store tidies up.
_REVIEW_AFTER: Final = 0.1
_TIDY_AFTER: Final = 1.0
#: How long (seconds) the review goes on before its verdicts are shown.
_REVIEW_SLICE: Final = 0.05
#: How long (seconds) answers are sent at a stretch.
_TELLING: Final = 0.003
#: How often (seconds) to look whether the database is still the one that was opened.
_LOOK_AFTER_STATE: Final = 1.0


class State(NamedTuple):
    """What the daemon starts from: an open store, or else the problem that keeps it read-only.

    `ledger` is None when the claims are not known. `seen` is what the store has of where CPUs were last seen.
    """

    ledger: Ledger | None
    store: Store | None
    problem: str | None
    seen: LastSeen = LastSeen()  # a named tuple


class Orchestrator:
    """Serves requests on one event loop; call everything in the loop's thread."""

    def __init__(self, host: Host, settings: Settings, state: State) -> None:
        self._host = host
        self.settings = settings
        self._store = state.store
        self._problem = state.problem
        # What takes its time with many claims is done now, and not when the first client waits.
        pools = self._known_pools()
        ledger, granted = state.ledger or Ledger(), pools.granted if pools else EMPTY
        self._ledger = ledger.on(pools.cores) if pools else ledger
        known = state.ledger is not None
        self._readings = Readings(host, state.problem, ledger_known=known, ledger=self._ledger, granted=granted)
        self._waiting: list[Waiting] = []
        self._busy = False
        #: Whether the last batch had one mutation, so that probably no other will come in this turn of the loop.
        self._alone = False
        self._untold: deque[Decided] = deque()
        self._pace = Pace()
        self._unread: list[tuple[Reading, Peer, Reply]] = []
        self._looking_at_host = False
        #: Readings that wait until what they show is encoded.
        self._unprepared: deque[tuple[Pools, Reading, Peer, Reply]] = deque()
        self._worker = Worker()
        self._reviewer = Worker()
        self._reviewing = False
        self._closing = False
        self._untidy = False
        self._idle: asyncio.TimerHandle | None = None
        self._quiet_since = 0.0
        self._stored_seen = self._tried_seen = state.seen
        self._look_after_state()
        self._rest()

    def use(self, settings: Settings) -> None:
        """Serve by other settings from now on. No claim moves."""
        self.settings = settings
        self._host.use(settings)
        self._rest()

    def submit(self, request: Request, peer: Peer, reply: Reply) -> None:
        """Serve a request; `reply` is called once, at once or when the request's change is durable."""
        if isinstance(request, Reading):
            self._read(request, peer, reply)
            return
        if self._problem is not None:
            sentence = f"{self._problem}; until then only list_allocations and get_memory_info are served"
            answer, outcome = error_answer(sentence), self._problem
        else:
            self._waiting.append(Waiting(request, peer, reply))
            if self._alone and not self._busy:  # the turn in which others could join would cost a lone client 16 µs
                self._busy = True
                self._begin_batch()
            else:
                self._start()
            return
        _answer(reply, answer, peer, request, outcome)

    @property
    def busy(self) -> bool:
        """Whether mutations wait for their commit, or for their answers."""
        return self._busy or bool(self._waiting) or bool(self._untold)

    def close(self) -> None:
        """Let the commit under way end, and close the store."""
        self._closing = True
        for timer in (self._idle, self._looking):
            if timer is not None:
                timer.cancel()
        self._reviewer.close()
        self._worker.close()
        if self._store is not None:
            self._keep_seen_at_last(self._store)
            self._store.close()

    def _start(self) -> None:
        """Begin a batch at the end of this turn of the loop, with all that has come until then."""
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._begin_batch)

    def _begin_batch(self) -> None:
        assert self._store is not None
        waiting, self._waiting = self._waiting, []
        self._alone = len(waiting) == 1
        batch = Batch(self._store, self._host, self._ledger, self._stored_seen, waiting)
        pools = self._known_pools()
        if pools is not None and self._pace.is_quick(pools, self._ledger, [each.request for each in waiting]):
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
        """Let the other thread do what is left of a batch."""

        def done(error: Exception | None) -> None:
            try:
                if error is None:
                    self._end_batch(batch)
                else:
                    log.error("a batch ended unexpectedly", exc_info=error)
                    self._refuse([each.waiting for each in batch.decided], INTERNAL_ERROR)
                    self._refuse(batch.left, INTERNAL_ERROR)
            finally:
                self._end_turn()

        self._worker.run(call, done)

    def _end_batch(self, batch: Batch) -> None:
        """Send the answers of a batch; the mutations that it left are the first of the next one."""
        self._untidy = self._untidy or batch.ledger is not self._ledger
        self._ledger, self._stored_seen = batch.ledger, batch.seen
        self._waiting[:0] = batch.left
        if batch.overtaken is not None:
            self._lose_state(batch.overtaken)
        telling = bool(self._untold)
        self._untold.extend(batch.decided)
        if not telling:
            self._tell()
        if batch.pools is not None and not (batch.known_quick and self._pace.is_quick_enough(batch.slowest)):
            self._pace.note(batch.pools, batch.ledger, batch.changing, batch.slowest)

    def _tell(self) -> None:
        """Send the answers that are ready, in several turns of the loop when they are many."""
        enough = time.monotonic() + _TELLING
        while self._untold:
            (request, peer, reply), answer, outcome, _ = self._untold.popleft()
            _answer(reply, answer, peer, request, outcome)
            if self._untold and time.monotonic() > enough:
                asyncio.get_running_loop().call_soon(self._tell)
                return

    def _refuse(self, waiting: Iterable[tuple[Request, Peer, Reply]], sentence: str) -> None:
        for request, peer, reply in waiting:
            _answer(reply, error_answer(sentence), peer, request, sentence)

    def _end_turn(self) -> None:
        """Begin the next batch if mutations have gathered."""
        self._busy = False
        if self._problem is not None and self._waiting:
            waiting, self._waiting = self._waiting, []
            self._refuse(waiting, self._problem)
        if self._waiting:
            self._start()
        else:
            self._rest()

    def _read(self, request: Reading, peer: Peer, reply: Reply) -> None:
        pools = self._known_pools()
        if pools is None:
            self._unread.append((request, peer, reply))
            if not self._looking_at_host:
                self._look_at_host()
        elif not self._unprepared and self._prepare(pools, request):
            self._read_on(pools, request, peer, reply)
        else:
            self._read_later(pools, [(request, peer, reply)])

    def _known_pools(self) -> Pools | None:
        try:
            return self._host.known_pools()
        except SysfsError as error:
            log.warning("%s", error)
        except Exception:  # a bug; discovery will raise it again and report it
            log.exception("the host could not be read")
        return None

    def _prepare(self, pools: Pools, request: Reading) -> bool:
        """Encode some of what a reading shows; whether it can be answered."""
        try:
            self._ledger = self._ledger.on(pools.cores)
            return self._readings.prepare(self._ledger, pools, request)
        except Exception:  # a bug; whatever still fails is answered as an error
            log.exception("%s could not be prepared", request.action)
            return True

    def _read_later(self, pools: Pools, readings: Iterable[tuple[Reading, Peer, Reply]]) -> None:
        """Answer readings after those that already wait for their preparation."""
        if not self._unprepared:
            asyncio.get_running_loop().call_soon(self._read_prepared)
        self._unprepared.extend((pools, *each) for each in readings)

    def _read_prepared(self) -> None:
        """Prepare and answer readings for a while; the others have their turn later."""
        enough = time.monotonic() + _TELLING
        while self._unprepared:
            pools, request, peer, reply = self._unprepared[0]
            if self._prepare(pools, request):
                self._unprepared.popleft()
                self._read_on(pools, request, peer, reply)
            if self._unprepared and time.monotonic() > enough:
                asyncio.get_running_loop().call_soon(self._read_prepared)
                return

    def _read_on(self, pools: Pools, request: Reading, peer: Peer, reply: Reply) -> None:
        try:
            answer, outcome = self._readings.answer(self._ledger, pools, request), "served"
        except (Refused, SysfsError) as refusal:
            answer, outcome = error_answer(str(refusal)), str(refusal)
        except Exception:  # a bug in one request must not stop the others
            log.exception("%s from pid=%d failed", request.action, peer.pid)
            answer, outcome = error_answer(INTERNAL_ERROR), INTERNAL_ERROR
        _answer(reply, answer, peer, request, outcome)

    def _look_at_host(self) -> None:
        """Discover the host in another thread, then answer the readings that wait for it.

        Not in the thread that commits: a disk that stands still must not keep readings waiting.
        """
        self._looking_at_host = True
        unread, self._unread = self._unread, []
        ledger = self._ledger
        found: list[tuple[Pools, Ledger]] = []

        def look() -> None:
            pools = self._host.pools()
            found.append((pools, ledger.on(pools.cores)))  # takes 10 ms with 2,000 claims that have their cores alone

        def done(error: Exception | None) -> None:
            self._looking_at_host = False
            if found:
                pools, ledger_there = found[0]
                if self._ledger is ledger:
                    self._ledger = ledger_there
                self._read_later(pools, unread)
            elif isinstance(error, SysfsError):
                log.warning("%s", error)
                self._refuse(unread, str(error))
            else:
                log.error("the host could not be read", exc_info=error)
                self._refuse(unread, INTERNAL_ERROR)
            if self._unread:
                self._look_at_host()
            self._rest()

        self._reviewer.run(look, done)

    def _look_after_state(self) -> None:
        """Notice a replaced database even when nothing is written."""
        if self._store is not None and self._problem is None:
            if not self._store.in_place():
                self._lose_state(REPLACED)
            elif not self._busy and not self._store.untouched():
                self._verify_state(self._store)
        self._looking = asyncio.get_running_loop().call_later(_LOOK_AFTER_STATE, self._look_after_state)

    def _verify_state(self, state: Store) -> None:
        """Read, in the other thread, what others have written; mutations wait for it as for a batch."""
        self._busy = True

        def done(error: Exception | None) -> None:
            if isinstance(error, DatabaseChanged):
                self._lose_state(str(error))
            elif error is not None:
                log.error("the state could not be verified", exc_info=error)
            self._end_turn()

        self._worker.run(state.verify, done)

    def _lose_state(self, why: str) -> None:
        """Change nothing from now on, because the state on disk is not the one in memory."""
        assert self._store is not None
        self._problem = (
            f"The state database {self._store.path} can no longer be written, because {why}: make sure that no other"
            " process writes it and that the right file is in its place, then restart this daemon"
        )
        log.error("%s", self._problem)
        self._readings.fail(self._problem)

    def _rest(self) -> None:
        """Wait for a quiet moment, then review and tidy up."""
        self._quiet_since = time.monotonic()
        if self._idle is None:
            self._rest_later(_REVIEW_AFTER)

    def _rest_later(self, seconds: float) -> None:
        self._idle = asyncio.get_running_loop().call_later(seconds, self._resting)

    def _resting(self) -> None:
        # One timer that checks how long it has been quiet; a new timer for each batch would cost 4 µs.
        self._idle = None
        quiet = time.monotonic() - self._quiet_since
        if self._busy:
            return  # the end of the batch calls _rest again
        if quiet < _REVIEW_AFTER:
            self._rest_later(_REVIEW_AFTER - quiet)
            return
        self._review()
        if self._store is not None and self._must_keep_seen() and self._host.seen is not self._tried_seen:
            self._keep_seen(self._store)
        elif self._untidy and quiet < _TIDY_AFTER:
            self._rest_later(_TIDY_AFTER - quiet)
        elif self._untidy:
            self._tidy()

    def _review(self) -> None:
        """Judge in a thread of its own which claims would now be placed otherwise, until all are judged."""
        if self._reviewing or self._closing or (pools := self._known_pools()) is None:
            return
        self._ledger = self._ledger.on(pools.cores)
        pending = self._readings.pending_review(self._ledger, pools)
        if pending is None:
            return
        verdicts: list[tuple[Claim, bool]] = []
        enough = time.monotonic() + _REVIEW_SLICE

        def done(error: Exception | None) -> None:
            self._reviewing = False
            if error is not None:
                log.error("the claims could not be reviewed", exc_info=error)
            else:
                self._readings.take_verdicts(pending, verdicts)
                self._review()

        self._reviewing = True
        self._reviewer.run(
            lambda: verdicts.extend(pending.judge(lambda: self._closing or time.monotonic() > enough)), done
        )

    def _must_keep_seen(self) -> bool:
        """Whether something new is known of the cores or nodes of CPUs, which the kernel does not show once offline."""
        return bool(self._ledger.claims) and self._problem is None and self._host.seen is not self._stored_seen

    def _keep_seen(self, state: Store) -> None:
        """Store where CPUs were last seen, in the other thread; mutations wait for it as for a batch."""
        self._busy, seen = True, self._host.seen
        self._tried_seen = seen

        def keep() -> None:
            state.stage_seen(seen)
            state.commit()

        def done(error: Exception | None) -> None:
            if error is None:
                self._stored_seen = seen
            elif isinstance(error, DatabaseChanged):
                self._lose_state(str(error))
            else:  # the next change, or the end of the daemon, tries it again
                log.error("where CPUs were last seen could not be stored: %s", error)
            self._end_turn()

        self._worker.run(keep, done)

    def _keep_seen_at_last(self, state: Store) -> None:
        """Store it at the end of the daemon, where no quiet moment has come since."""
        if self._busy or not self._must_keep_seen():
            return
        try:
            state.stage_seen(self._host.seen)
            state.commit()
        except Exception as error:  # noqa: BLE001  # nothing may prevent the end
            log.error("where CPUs were last seen could not be stored: %s", error)

    def _tidy(self) -> None:
        """Tidy up the store in the other thread; mutations wait for it as for a batch."""
        if self._store is None or self._problem is not None:
            return
        self._busy, more = True, list[bool]()
        state = self._store

        def done(error: Exception | None) -> None:
            if error is not None:
                log.error("the state could not be tidied up", exc_info=error)
            self._busy, self._untidy = False, any(more)
            if self._waiting:
                self._start()
            elif self._untidy:
                self._rest()

        self._worker.run(lambda: more.append(state.tidy()), done)


def _answer(reply: Callable[[bytes], None], answer: bytes, peer: Peer, request: Request, outcome: str) -> None:
    """Send and log an answer; a bug in one connection must not stop the others."""
    try:
        reply(answer)
        peer_log.note(*peer, "%s %r: %s", request.action, request.service_name or "", outcome)
    except Exception:
        log.exception("an answer to pid=%d could not be sent", peer.pid)
