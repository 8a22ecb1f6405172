"""Orchestrator: takes one request from its model to its committed answer.

Readings are answered at once, from what is committed. Mutations that wait together are decided one after the other,
each on the ledger that the one before leaves, and committed together with one sync in another thread; no answer leaves
before its commit. While a commit is under way the next mutations gather. A failed commit undoes every decision in it,
in memory as on disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from epa_orchestrator.decisions import decide, refusal
from epa_orchestrator.host import Host
from epa_orchestrator.ledger import Change, Ledger, Refused
from epa_orchestrator.pools import Pools
from epa_orchestrator.protocol import AllocateHugepages, ErrorAnswer, Mutation, Reading, Request
from epa_orchestrator.readings import Readings
from epa_orchestrator.settings import Settings
from epa_orchestrator.store import CommitError, Origin, Store
from epa_orchestrator.worker import Worker

log = logging.getLogger(__name__)

#: After this time (seconds) without a mutation the store tidies up.
_IDLE = 1.0

Reply = Callable[[bytes], None]


class State(NamedTuple):
    """What the daemon starts from: an open store, or else the problem that keeps it read-only.

    `ledger` is None when the claims are not known.
    """

    ledger: Ledger | None
    store: Store | None
    problem: str | None


class _Waiting(NamedTuple):
    request: Mutation
    origin: Origin
    reply: Reply


class _Decided(NamedTuple):
    """`tentative`: the answer rests on a change that is not committed yet."""

    waiting: _Waiting
    answer: bytes
    tentative: bool


class Orchestrator:
    """Serves requests on one event loop; call everything in the loop's thread."""

    def __init__(self, host: Host, settings: Settings, state: State) -> None:
        self._host = host
        self.settings = settings
        self._ledger = state.ledger or Ledger()
        self._store = state.store
        self._problem = state.problem
        self._readings = Readings(host, state.problem, ledger_known=state.ledger is not None, ledger=state.ledger)
        self._waiting: list[_Waiting] = []
        self._committing = False
        self._worker = Worker()
        self._idle: asyncio.TimerHandle | None = None
        self._stored_nodes = dict(host.nodes)

    def use(self, settings: Settings) -> None:
        """Serve by other settings from now on. No claim moves."""
        self.settings = settings
        self._host.use(settings)

    def submit(self, request: Request, origin: Origin, reply: Reply) -> None:
        """Serve a request; `reply` is called once, at once or when the request's change is durable."""
        if isinstance(request, Reading):
            reply(self._read(request, origin))
        elif self._store is None:
            _log_served(origin, request.service_name, self._problem)
            reply(_error(f"{self._problem}; until then only list_allocations and get_memory_info are served"))
        else:
            self._waiting.append(_Waiting(request, origin, reply))
            self._schedule()

    @property
    def busy(self) -> bool:
        """Whether mutations wait for their commit."""
        return self._committing or bool(self._waiting)

    def close(self) -> None:
        """Let the commit under way end, and close the store."""
        if self._idle is not None:
            self._idle.cancel()
        self._worker.close()
        if self._store is not None:
            self._store.close()

    def _schedule(self) -> None:
        if not self._committing:
            self._committing = True
            asyncio.get_running_loop().call_soon(self._decide_batch)

    def _decide_batch(self) -> None:
        batch, self._waiting = self._waiting, []
        assert self._store is not None
        decided: list[_Decided] = []
        ledger = self._ledger
        now = time.time()
        try:
            pools = self._host.pools()
        except Exception:  # noqa: BLE001  # a mistake of ours in discovery must not leave clients unanswered
            answers = [_Decided(waiting, _internal_error(waiting.origin), tentative=False) for waiting in batch]
            self._finish(answers, ledger, None)
            return
        try:
            for waiting in batch:
                change, ledger, answer = self._decide(ledger, pools, waiting)
                if change:
                    self._store.stage(change, waiting.origin, now)
                decided.append(_Decided(waiting, answer, ledger is not self._ledger))
            if ledger is not self._ledger and self._host.nodes != self._stored_nodes:
                self._store.stage_nodes(self._host.nodes)
        except CommitError as error:
            undecided = [_Decided(waiting, b"", tentative=True) for waiting in batch[len(decided) :]]
            self._finish([*decided, *undecided], ledger, error)
            return
        if ledger is self._ledger:
            self._finish(decided, ledger, None)
            return
        nodes = dict(self._host.nodes)

        def committed(error: Exception | None) -> None:
            if error is None:
                self._stored_nodes = nodes
            elif not isinstance(error, CommitError):
                log.error("commit failed unexpectedly", exc_info=error)
            self._finish(decided, ledger, error)

        self._worker.run(self._store.commit, committed)

    def _finish(self, decided: list[_Decided], ledger: Ledger, error: Exception | None) -> None:
        """Send the answers of a batch, and go on with what has gathered meanwhile."""
        if error is None:
            self._ledger = ledger
        else:
            log.error("nothing was changed because the state could not be stored: %s", error)
        for waiting, answer, tentative in decided:
            if error is not None and tentative:
                answer = _error(f"Nothing was changed because the state could not be stored: {error}")
            waiting.reply(answer)
        self._committing = False
        if self._waiting:
            self._schedule()
        else:
            self._tidy_later()

    def _decide(self, ledger: Ledger, pools: Pools, waiting: _Waiting) -> tuple[Change, Ledger, bytes]:
        """What a mutation changes, the ledger after it, and its answer; a refusal changes nothing."""
        request, origin, _ = waiting
        try:
            change, after, answer = decide(ledger, self._host, pools, request)
        except Refused as refused:
            _log_served(origin, request.service_name, str(refused))
            return Change(), ledger, refusal(request, refused).encode()
        except Exception:  # noqa: BLE001  # a mistake of ours in one request must not stop the others
            return Change(), ledger, _internal_error(origin)
        dry_run = not isinstance(request, AllocateHugepages) and request.dry_run
        _log_served(origin, request.service_name, "dry run, nothing changed" if dry_run else None)
        return change, after, answer.encode()

    def _read(self, request: Reading, origin: Origin) -> bytes:
        try:
            answer = self._readings.answer(self._ledger, request)
        except Refused as refusal:
            _log_served(origin, request.service_name, str(refusal))
            return _error(str(refusal))
        except Exception:  # noqa: BLE001  # a mistake of ours in one request must not stop the others
            return _internal_error(origin)
        _log_served(origin, request.service_name, None)
        return answer

    def _tidy_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE, self._tidy)

    def _tidy(self) -> None:
        """Let the store tidy up in the commit thread; mutations that come meanwhile wait for it as for a commit."""
        self._idle = None
        if self._committing or self._store is None:
            return
        self._committing = True
        self._worker.run(self._store.tidy, self._tidied)

    def _tidied(self, _: Exception | None) -> None:
        self._committing = False
        if self._waiting:
            self._schedule()


def _error(sentence: str) -> bytes:
    return ErrorAnswer(error=sentence).encode()


def _internal_error(origin: Origin) -> bytes:
    """The answer where our own code fails: this client is told, the others are served on."""
    log.exception("%s from pid=%d failed", origin.action, origin.pid)
    return _error("Internal error: nothing was changed; please report it with the daemon's log")


def _log_served(origin: Origin, service: str | None, outcome: str | None) -> None:
    log.info("pid=%d uid=%d gid=%d %s %r: %s", *origin, service or "", outcome or "served")
