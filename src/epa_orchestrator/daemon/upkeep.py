# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Upkeep: work that no request asks for, most of it in quiet moments, when no change was requested for a while.

It finds outdated placements (also soon after a listing), reads the whole machine again when that is due, stores where
CPUs were last seen, removes old events from the store, and checks once a second that no other process replaced or wrote
the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.outdated import Review
from epa_orchestrator.daemon.current import Current
from epa_orchestrator.daemon.worker import Call, Done, Worker
from epa_orchestrator.state.errors import REPLACED, DatabaseChanged
from epa_orchestrator.state.store import Store

log = logging.getLogger(__name__)

#: After this time (seconds) without a change the claims are reviewed, and after this one the store tidies up.
_REVIEW_AFTER: Final = 0.1
_TIDY_AFTER: Final = 1.0
#: How long (seconds) the review goes on before its verdicts are shown, and how many claims it takes at a time.
_REVIEW_SLICE: Final = 0.05
_JUDGED_AT_ONCE: Final = 64
#: How often (seconds) a listing may start a review in a time without a quiet moment.
_REVIEW_EVERY: Final = 1.0
#: How often (seconds) to check that the database is still the one that was opened, and whether the host is due.
_CHECK_EVERY: Final = 1.0


class Upkeep:
    """Waits for quiet moments, and works in them.

    `is_busy` says whether changes are under way; `run_alone` runs a call in the thread that commits, while changes
    wait; `lose_state` makes the daemon read-only, with the reason; `notice` is called once a second.
    """

    def __init__(
        self,
        current: Current,
        review: Review,
        reviewer: Worker,
        is_busy: Callable[[], bool],
        run_alone: Callable[[Call, Done], None],
        lose_state: Callable[[str], None],
        notice: Callable[[], None],
    ) -> None:
        self._current = current
        self._review = review
        self._reviewer = reviewer
        self._is_busy = is_busy
        self._run_alone = run_alone
        self._lose_state = lose_state
        self._notice = notice
        self._reviewing = False
        self._reading_host = False
        self._reviewed_at = 0.0
        self._closing = False
        self._untidy = False
        self._quiet_since = 0.0
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._check_timer: asyncio.TimerHandle | None = None
        self._tried_seen = current.stored_seen

    def start(self) -> None:
        """Begin to check the state and the host, and to wait for the first quiet moment."""
        self._check()
        self.rest()

    def note_change(self) -> None:
        """Remember that the store has something to tidy up."""
        self._untidy = True

    def rest(self) -> None:
        """Begin to wait for a quiet moment; call it whenever changes have ended."""
        self._quiet_since = time.monotonic()
        if self._quiet_timer is None:
            self._wait(_REVIEW_AFTER)

    def close(self) -> None:
        """Stop waiting for quiet moments."""
        self._closing = True
        for timer in (self._quiet_timer, self._check_timer):
            if timer is not None:
                timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._quiet_timer = asyncio.get_running_loop().call_later(seconds, self._use_quiet_moment)

    def _use_quiet_moment(self) -> None:
        # One timer that checks how long it has been quiet; a new timer for each batch would cost 4 µs.
        self._quiet_timer = None
        quiet = time.monotonic() - self._quiet_since
        if self._is_busy():
            return  # the end of the batch calls `rest` again
        if quiet < _REVIEW_AFTER:
            self._wait(_REVIEW_AFTER - quiet)
            return
        self.review()
        store = self._current.store
        if store is not None and self._must_store_seen() and self._current.host.seen is not self._tried_seen:
            self._store_seen(store)
        elif self._untidy and quiet < _TIDY_AFTER:
            self._wait(_TIDY_AFTER - quiet)
        elif self._untidy:
            self._tidy()

    # --- outdated placements ---

    def review_for_listing(self) -> None:
        """Review the claims soon although there is no quiet moment, so that the next listing is right."""
        if time.monotonic() - self._reviewed_at >= _REVIEW_EVERY:
            self.review()

    def review(self) -> None:
        """Judge in another thread which claims would now be placed differently, until all are judged."""
        if self._reviewing or self._closing or (pools := self._current.known_pools()) is None:
            return
        self._reviewed_at = time.monotonic()
        self._review.use(self._current.ledger_on(pools), pools)
        pending = self._review.pending(_JUDGED_AT_ONCE)
        if pending is None:
            return
        verdicts: list[tuple[Claim, bool]] = []
        slice_ends = time.monotonic() + _REVIEW_SLICE

        def done(error: Exception | None) -> None:
            self._reviewing = False
            if error is not None:
                log.error("the claims could not be reviewed", exc_info=error)
                return
            self._review.take(pending, verdicts)
            if not self._is_busy():
                self.review()

        self._reviewing = True
        self._reviewer.run(
            lambda: verdicts.extend(pending.judge(lambda: self._closing or time.monotonic() > slice_ends)), done
        )

    # --- the host ---

    def read_host(self) -> None:
        """Read the whole machine in another thread. Requests that come meanwhile are decided on it as it was."""
        if self._reading_host or self._closing:
            return

        def done(error: Exception | None) -> None:
            self._reading_host = False
            self._current.note_unreadable(error)
            self.rest()

        self._reading_host = True
        self._reviewer.run(self._current.host.read_again, done)

    # --- where CPUs were last seen ---

    def _must_store_seen(self) -> bool:
        """Whether the host shows cores or nodes of CPUs that are not stored; the kernel hides those of offline CPUs."""
        current = self._current
        return bool(current.ledger.claims) and current.problem is None and current.host.seen is not current.stored_seen

    def _store_seen(self, store: Store) -> None:
        """Store where CPUs were last seen, while changes wait."""
        seen = self._tried_seen = self._current.host.seen

        def keep() -> None:
            store.stage_seen(seen)
            store.commit()

        def done(error: Exception | None) -> None:
            if error is None:
                self._current.stored_seen = seen
            elif isinstance(error, DatabaseChanged):
                self._lose_state(str(error))
            else:  # the next change, or the end of the daemon, tries again
                log.error("where CPUs were last seen could not be stored: %s", error)

        self._run_alone(keep, done)

    def store_seen_at_end(self) -> None:
        """Store where CPUs were last seen at the end of the daemon, when no quiet moment has come since."""
        store = self._current.store
        if store is None or self._is_busy() or not self._must_store_seen():
            return
        try:
            store.stage_seen(self._current.host.seen)
            store.commit()
        except Exception as error:  # noqa: BLE001  # nothing may prevent the end
            log.error("where CPUs were last seen could not be stored: %s", error)

    # --- the store ---

    def _tidy(self) -> None:
        """Remove old events from the store, while changes wait."""
        store = self._current.store
        if store is None or self._current.problem is not None:
            return
        more: list[bool] = []

        def done(error: Exception | None) -> None:
            if error is not None:
                log.error("the state could not be tidied up", exc_info=error)
            self._untidy = any(more)

        self._run_alone(lambda: more.append(store.tidy()), done)

    def _check(self) -> None:
        self._check_state()
        self._notice()
        if not self._is_busy() and time.monotonic() >= self._current.host.due:
            self.read_host()
        self._check_timer = asyncio.get_running_loop().call_later(_CHECK_EVERY, self._check)

    def _check_state(self) -> None:
        """Notice a replaced database, and one that others have written while no change is under way."""
        store = self._current.store
        if store is not None and self._current.problem is None:
            if not store.in_place():
                self._lose_state(REPLACED)
            elif not self._is_busy() and not store.untouched():
                self._verify(store)

    def _verify(self, store: Store) -> None:
        """Read in the other thread what other processes have written, while changes wait."""

        def done(error: Exception | None) -> None:
            if isinstance(error, DatabaseChanged):
                self._lose_state(str(error))
            elif error is not None:
                log.error("the state could not be verified", exc_info=error)

        self._run_alone(store.verify, done)
