# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Batch: the mutations that wait together, decided one after the other and committed with one sync.

A commit runs in a thread of its own, and so do decisions that may take long (see pace), so neither a hard placement
nor a slow disk blocks the event loop. Each request is decided on the ledger that results from the one before it. A
batch ends early when its decisions take long: what is decided is committed, and the rest waits for the next batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from epa_orchestrator.allocation.claims import Change, ClaimChange
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.daemon.mutations import decide, refusal
from epa_orchestrator.daemon.notes import note_of
from epa_orchestrator.daemon.replies import INTERNAL_ERROR, Reply, error_answer
from epa_orchestrator.daemon.room import Search, search_for
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.metrics.counts import Rule
from epa_orchestrator.peer import UNNAMED, Peer, PeerNames
from epa_orchestrator.protocol.requests import Mutation
from epa_orchestrator.state.errors import CommitError, DatabaseChanged
from epa_orchestrator.state.events import NOTHING_NOTED, Note
from epa_orchestrator.state.store import Store

log = logging.getLogger(__name__)

#: After this time (seconds) of decisions a batch commits what is decided.
_LONG: Final = 0.05
#: The event loop decides for this time (seconds) at most, because all clients wait for it.
_TURN: Final = 0.003


class Waiting(NamedTuple):
    """A mutation that waits for its turn."""

    request: Mutation
    peer: Peer
    reply: Reply
    names: PeerNames = UNNAMED


class Decided(NamedTuple):
    """A mutation with its answer, and its outcome for the log.

    `tentative`: it depends on changes not yet committed. `rule` is the kind of refusal, None if it is served.
    `search` finds what else to say in a refusal, in a thread of its own.
    """

    waiting: Waiting
    answer: bytes
    outcome: str
    tentative: bool
    rule: Rule | None = None
    search: Search | None = None


_NO_CHANGE: Final = Change()


class _Outcome(NamedTuple):
    """The ledger after a mutation, the rest of `Decided`, what it changes, and what the events of the change keep."""

    after: Ledger
    answer: bytes
    outcome: str
    rule: Rule | None = None
    search: Search | None = None
    change: Change = _NO_CHANGE
    note: Note = NOTHING_NOTED


class Step(NamedTuple):
    """What one decision changes, and all claims that differ then: others may withhold other CPUs than before."""

    change: Change
    claims: tuple[ClaimChange, ...]


class Batch:
    """Mutations and their decisions: `carry_out` in any thread, or `begin` and `go_on` in one and `finish` in another.

    `ledger` is the ledger before the batch, and after a commit the committed one; `seen`, where CPUs were last seen, is
    the same. `commit_seconds` is how long the commit took, None without one. `commit_failed`: the state could not be
    stored, in the commit or before it.
    `left` are the mutations without a decision, `changing` those that changed something, `slowest` is the
    time (seconds) of the slowest decision, `known_quick` says whether decisions like these have been quick before, and
    `store_problem` says why the store must not be used any longer. In the end each mutation is in `decided` or `left`.
    `begun_with` is the ledger that the decisions began with, and `steps` is the way from there to `ledger`, for those
    who watch in the end (1.7 µs for each change).
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        ledger: Ledger,
        seen: LastSeen,
        waiting: Sequence[Waiting],
    ) -> None:
        self.ledger = self.begun_with = ledger
        self.steps: list[Step] = []
        self.seen: LastSeen = seen
        self.decided: list[Decided] = []
        self.left = waiting
        self.changing: list[Mutation] = []
        self.slowest = self._seconds = 0.0
        self.commit_seconds: float | None = None
        self.commit_failed = False
        self.known_quick = False
        self.store_problem: str | None = None
        self.pools: Pools | None = None
        self._store = store
        self._host = host
        self._after = ledger

    @property
    def has_time(self) -> bool:
        """Whether mutations are left, and there is time to decide more of them before the commit."""
        return bool(self.left) and self._seconds < _LONG

    @property
    def ended(self) -> bool:
        """Whether nothing is left to be decided or committed."""
        return not self.left and self._after is self.ledger

    def carry_out(self) -> None:
        """Read the host, decide, and commit."""
        try:
            pools = self._host.pools()
        except Exception as error:  # noqa: BLE001  # _fail logs and answers it
            self._fail(error)
            return
        self.begin(pools, _LONG)
        self._commit_changes()

    def begin(self, pools: Pools, seconds: float = _TURN) -> None:
        """Decide on the pools as they are now, for some seconds."""
        try:
            self.pools = pools
            self._after = self.ledger = self.begun_with = self.ledger.on(pools.cores)
            self._decide_all(pools, seconds)
        except Exception as error:  # noqa: BLE001  # _fail logs and answers it
            self._fail(error)

    def go_on(self, seconds: float = _TURN) -> None:
        """Decide more of what is left, for some seconds."""
        try:
            if self.pools is not None:
                self._decide_all(self.pools, seconds)
        except Exception as error:  # noqa: BLE001  # _fail logs and answers it
            self._fail(error)

    def finish(self) -> None:
        """Decide more of what is left as long as there is time, and commit."""
        if self.has_time:
            self.go_on(_LONG)
        self._commit_changes()

    def _commit_changes(self) -> None:
        """Make what was decided durable."""
        if self._after is self.ledger:
            return
        seen, begin = self._host.seen, time.monotonic()
        try:
            if seen is not self.seen:
                self._store.stage_seen(seen)
            self._store.commit()
        except Exception as error:  # noqa: BLE001  # _fail logs and answers it
            self._fail(error)
        else:
            self.ledger, self.seen = self._after, seen
        self.commit_seconds = time.monotonic() - begin

    def _decide_all(self, pools: Pools, seconds: float) -> None:
        waiting, now = self.left, time.time()
        before = begin = time.monotonic()
        for number, each in enumerate(waiting, 1):
            outcome = self._decide(self._after, pools, each)
            if outcome.change:
                self.steps.append(Step(outcome.change, outcome.after.changes_since(self._after, outcome.change)))
            self._after = outcome.after
            tentative = outcome.after is not self.ledger
            self.decided.append(Decided(each, outcome.answer, outcome.outcome, tentative, outcome.rule, outcome.search))
            self.left = waiting[number:]
            if outcome.change:
                self.changing.append(each.request)
                self._store.stage(outcome.change, each.peer, each.request.action, now, outcome.note)
            ended = time.monotonic()
            self.slowest = max(self.slowest, ended - before)
            before = ended
            if ended - begin > seconds:
                break
        self._seconds += before - begin

    def _decide(self, ledger: Ledger, pools: Pools, waiting: Waiting) -> _Outcome:
        try:
            return self._grant_or_refuse(ledger, pools, waiting)
        except SysfsError as error:
            return _Outcome(ledger, error_answer(str(error)), str(error), "host")
        except Exception:  # a bug in one request must not stop the others
            log.exception("%s from pid=%d failed", waiting.request.action, waiting.peer.pid)
            return _Outcome(ledger, error_answer(INTERNAL_ERROR), INTERNAL_ERROR, "internal")

    def _grant_or_refuse(self, ledger: Ledger, pools: Pools, waiting: Waiting) -> _Outcome:
        request = waiting.request
        try:
            decision = decide(ledger, self._host, pools, request)
        except Refused as refused:
            answer = refusal(request, refused)
            search = search_for(ledger, self._host, pools, request, refused, answer)
            return _Outcome(ledger, answer.encode(), str(refused), refused.rule, search)
        note = note_of(decision, waiting.names, pools.settings) if decision.change else NOTHING_NOTED
        return _Outcome(decision.ledger, decision.answer.encode(), decision.outcome, change=decision.change, note=note)

    def _fail(self, error: Exception) -> None:
        """Nothing was committed: the error replaces tentative answers, and answers all undecided mutations."""
        sentence, rule = self._sentence(error)
        answer = error_answer(sentence)
        self._after = self.ledger
        self.steps.clear()
        self.decided = [
            each._replace(answer=answer, outcome=sentence, rule=rule, search=None) if each.tentative else each
            for each in self.decided
        ]
        self.decided += [Decided(waiting, answer, sentence, tentative=True, rule=rule) for waiting in self.left]
        self.left = ()

    def _sentence(self, error: Exception) -> tuple[str, Rule]:
        """The sentence for clients about an error, which is also logged, and its kind."""
        match error:
            case CommitError():
                self.commit_failed = True
                self.store_problem = str(error) if isinstance(error, DatabaseChanged) else None
                log.error("nothing was changed because the state could not be stored: %s", error)
                return f"Nothing was changed because the state could not be stored: {error}", "storage"
            case SysfsError():
                log.warning("%s", error)
                return str(error), "host"
            case _:  # a bug must not leave clients without an answer
                self._store.undo()
                log.error("a batch failed", exc_info=error)
                return INTERNAL_ERROR, "internal"
