# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Archive: answers the readings that take long, one after the other, in a thread of its own.

Any user may ask, and an answer may take a second where it looks through all events of the history. So a bounded number
of requests waits, a part of them of one user, and the event loop never does. Root and the daemon's own user come first,
with places of their own; the others take turns by user. The thread imports what only it needs.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.service_names import resolve
from epa_orchestrator.daemon.current import Current
from epa_orchestrator.daemon.peers import is_own
from epa_orchestrator.daemon.replies import INTERNAL_ERROR, Reply, send, send_error
from epa_orchestrator.daemon.worker import Worker
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.metrics.counts import Rule
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.answers import add_warnings
from epa_orchestrator.protocol.fields import VERSION
from epa_orchestrator.protocol.readings import ArchiveReading, GetClaim, GetHistory, GetIsolation
from epa_orchestrator.state.errors import StateError

if TYPE_CHECKING:
    from epa_orchestrator.daemon.audit import Audit

log = logging.getLogger(__name__)

#: How many requests may wait: of root, of the daemon's own user, of all others together, and of one of these.
_MOST_WAITING: Final = 64
_MOST_OF_ONE_USER: Final = 8
#: How long (seconds) the history is searched for one request, rests included; the next one waits for it.
_MOST_SECONDS: Final = 5.0
#: After this number of bytes an answer takes up no further event.
_MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024


class SearchTooLong(EpaError):
    """A search that ends because its time is over."""


class Archive:
    """Answers get_history, get_claim and get_isolation. Use it in the event loop's thread.

    `audit` gives the last audit, None before the first one.
    """

    def __init__(self, current: Current, audit: Callable[[], Audit | None]) -> None:
        self._current = current
        self._audit = audit
        self._worker: Worker | None = None
        #: The requests that wait, by user; the user whose turn it is comes first.
        self._waiting: dict[int, deque[_Job]] = {}
        self._running: _Job | None = None

    def read(
        self, request: ArchiveReading, peer: Peer, reply: Reply, is_gone: Callable[[], bool] = lambda: False
    ) -> None:
        """Answer a request later; `reply` is called once. `is_gone` says whether nobody waits for the answer."""
        if not self._has_place(peer.uid):
            sentence = "Too many requests for the history wait: try again in a moment"
            send_error(reply, sentence, peer, request, "quota")
            return
        job = _Job(self._current, self._audit(), request, peer, reply, is_gone)
        self._waiting.setdefault(peer.uid, deque()).append(job)
        if self._running is None:
            self._run_next()

    def close(self) -> None:
        """End the search under way. Requests that wait get no answer."""
        self._waiting.clear()
        if self._running is not None:
            self._running.ends_at = 0.0
        if self._worker is not None:
            self._worker.close()

    def _has_place(self, uid: int) -> bool:
        of_user = len(self._waiting.get(uid, ()))
        if is_own(uid):
            return of_user < _MOST_WAITING
        of_others = sum(len(jobs) for user, jobs in self._waiting.items() if not is_own(user))
        return of_user < _MOST_OF_ONE_USER and of_others < _MOST_WAITING

    def _run_next(self) -> None:
        """Take up the next request whose client still waits."""
        while self._waiting:
            job = self._take()
            if job.is_gone():
                send_error(job.reply, "The client has left", job.peer, job.request, "timeout")
                continue
            if self._worker is None:  # most daemons are never asked
                self._worker = Worker()
            self._running = job
            job.ends_at = time.monotonic() + _MOST_SECONDS
            self._worker.run(job.run, self._end)
            return

    def _take(self) -> _Job:
        """The next request: of root or the daemon's own user, or else of the user whose turn it is."""
        uid = next(filter(is_own, self._waiting), next(iter(self._waiting)))
        jobs = self._waiting.pop(uid)
        job = jobs.popleft()
        if jobs:
            self._waiting[uid] = jobs
        return job

    def _end(self, error: Exception | None) -> None:
        """Answer the request that was taken up, and take up the next one."""
        job, self._running = self._running, None
        assert job is not None
        job.answer(error)
        self._run_next()


class _Job:
    """One request, with the state that it is answered from: it was the current one when the request came.

    `ends_at` is the time (monotonic clock) from which the history is searched no longer.
    """

    def __init__(
        self,
        current: Current,
        audit: Audit | None,
        request: ArchiveReading,
        peer: Peer,
        reply: Reply,
        is_gone: Callable[[], bool],
    ) -> None:
        self.request = request
        self.peer = peer
        self.reply = reply
        self.is_gone = is_gone
        self.ends_at = 0.0
        self._audit = audit
        self._found = b""
        self._database = current.database
        self._host = current.host
        self._pools = current.known_pools()
        self._ledger = current.ledger_on(self._pools) if self._pools is not None else current.ledger
        self._problem = current.problem
        self._ledger_known = current.ledger_known

    def run(self) -> None:
        """Find the answer, in any thread."""
        if isinstance(self.request, GetHistory):
            self._found = self._history(self.request)
        elif isinstance(self.request, GetIsolation):
            self._found = self._isolation(self.request)
        else:
            self._found = self._story(self.request)

    def _isolation(self, request: GetIsolation) -> bytes:
        from epa_orchestrator.daemon.isolation_answer import isolation_answer, young_owners

        claims = self._ledger.claims
        if request.service_name is not None:
            service = resolve(request.service_name, claims.__contains__)
            claims = {service: claims[service]} if service in claims else {}
        settings = (self._pools if self._pools is not None else self._host.pools()).settings
        owners = young_owners(self._audit, claims, settings, self._database)
        return isolation_answer(self._audit, claims.values(), owners, self._problem, request.warnings).encode()

    def _story(self, request: GetClaim) -> bytes:
        from epa_orchestrator.daemon.claim_story import ClaimStory

        pools = self._pools if self._pools is not None else self._host.pools()
        ledger = self._ledger.on(pools.cores)
        story = ClaimStory(
            ledger, pools, self._database, self._problem, ledger_known=self._ledger_known, check=self._check_time
        )
        return story.tell(request).encode()

    def answer(self, error: Exception | None) -> None:
        """Send what was found, or why nothing was."""
        match error:
            case None:
                send(self.reply, self._found, self.peer, self.request, "served")
            case Refused():
                self._refuse(str(error), error.rule)
            case SearchTooLong():
                self._refuse(str(error), "timeout")
            case SysfsError():
                self._refuse(str(error), "host")
            case StateError():
                sentence = f"The history cannot be read, because the state database {self._database} {error}"
                self._refuse(sentence, "storage")
            case _:
                log.error("%s from pid=%d failed", self.request.action, self.peer.pid, exc_info=error)
                self._refuse(INTERNAL_ERROR, "internal")

    def _refuse(self, sentence: str, rule: Rule) -> None:
        send_error(self.reply, sentence, self.peer, self.request, rule)

    def _check_time(self) -> None:
        if time.monotonic() >= self.ends_at:
            raise SearchTooLong(
                f"The history was searched for {_MOST_SECONDS:g} seconds, which is the limit: ask for less, for example"
                " with since, or try again later"
            )

    def _history(self, request: GetHistory) -> bytes:
        from epa_orchestrator.state.reading import Wanted, open_events

        if self._database is None:
            raise StateError("does not exist")
        wanted = Wanted(request.service_name, request.cpu, request.since, request.until, request.after)
        found: list[bytes] = []
        size, more = 0, False
        with open_events(self._database, self._check_time) as reader:
            # From an event on, a client reads all the later ones, an answer after the other.
            events = reader.newest_first(wanted) if request.after is None else reader.oldest_first(wanted)
            for event in islice(events, request.limit + 1):
                if len(found) == request.limit or size > _MAX_ANSWER_BYTES:
                    more = True
                    break
                found.append(to_json(event.document()))
                size += len(found[-1])
        if request.after is None:
            found.reverse()
        head = b'{"version":%b,"events":[%b],"more":%b' % (to_json(VERSION), b",".join(found), to_json(more))
        problem = b',"state_error":' + to_json(self._problem) if self._problem is not None else b""
        return add_warnings(head + problem + b"}", request.warnings)
