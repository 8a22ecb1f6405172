# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Archive: answers the readings that need the history, one after the other, in a thread of its own.

Any user may ask, and an answer may take a second where it looks through all events. So a bounded number of requests
waits, a part of them of one user, and the event loop never does.
"""

from __future__ import annotations

import logging
from collections import Counter
from itertools import islice
from typing import Final

from pydantic_core import to_json

from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.daemon.claim_story import ClaimStory
from epa_orchestrator.daemon.current import Current
from epa_orchestrator.daemon.replies import INTERNAL_ERROR, Reply, send, send_error
from epa_orchestrator.daemon.worker import Worker
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.answers import add_warnings
from epa_orchestrator.protocol.fields import VERSION
from epa_orchestrator.protocol.readings import GetHistory, PastReading
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.reading import Wanted, open_events

log = logging.getLogger(__name__)

#: How many requests may wait, and how many of one user.
_MOST_WAITING: Final = 64
_MOST_OF_ONE_USER: Final = 16
#: After this number of bytes an answer takes up no further event.
_MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024


class Archive:
    """Answers get_history and get_claim. Use it in the event loop's thread."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._worker: Worker | None = None
        self._waiting: Counter[int] = Counter()

    def read(self, request: PastReading, peer: Peer, reply: Reply) -> None:
        """Answer a request later; `reply` is called once."""
        if self._waiting.total() >= _MOST_WAITING or self._waiting[peer.uid] >= _MOST_OF_ONE_USER:
            sentence = "Too many requests for the history wait: try again in a moment"
            send_error(reply, sentence, peer, request, "quota")
            return
        if self._worker is None:  # most daemons are never asked
            self._worker = Worker()
        job = _Job(self._current, request)

        def done(error: Exception | None) -> None:
            self._waiting[peer.uid] -= 1
            match error:
                case None:
                    send(reply, job.answer, peer, request, "served")
                case Refused():
                    send_error(reply, str(error), peer, request, error.rule)
                case SysfsError():
                    send_error(reply, str(error), peer, request, "host")
                case StateError():
                    sentence = f"The history cannot be read, because the state database {job.database} {error}"
                    send_error(reply, sentence, peer, request, "storage")
                case _:
                    log.error("%s from pid=%d failed", request.action, peer.pid, exc_info=error)
                    send_error(reply, INTERNAL_ERROR, peer, request, "internal")

        self._waiting[peer.uid] += 1
        self._worker.run(job.run, done)

    def close(self) -> None:
        """Wait until the requests are answered that have been taken up."""
        if self._worker is not None:
            self._worker.close()


class _Job:
    """One request, with the state that it is answered from: it was the current one when the request came."""

    def __init__(self, current: Current, request: PastReading) -> None:
        self.answer = b""
        self.database = current.database
        self._request = request
        self._host = current.host
        self._pools = current.known_pools()
        self._ledger = current.ledger_on(self._pools) if self._pools is not None else current.ledger
        self._problem = current.problem
        self._ledger_known = current.ledger_known

    def run(self) -> None:
        """Make the answer, in any thread."""
        if isinstance(self._request, GetHistory):
            self.answer = self._history(self._request)
            return
        pools = self._pools if self._pools is not None else self._host.pools()
        ledger = self._ledger.on(pools.cores)
        story = ClaimStory(ledger, pools, self.database, self._problem, ledger_known=self._ledger_known)
        self.answer = story.tell(self._request).encode()

    def _history(self, request: GetHistory) -> bytes:
        if self.database is None:
            raise StateError("does not exist")
        wanted = Wanted(request.service_name, request.cpu, request.since, request.until, request.after)
        found: list[bytes] = []
        size, more = 0, False
        with open_events(self.database) as events:
            for event in islice(events.newest_first(wanted), request.limit + 1):
                if len(found) == request.limit or size > _MAX_ANSWER_BYTES:
                    more = True
                    break
                found.append(to_json(event.document()))
                size += len(found[-1])
        head = b'{"version":%b,"events":[%b],"more":%b' % (to_json(VERSION), b",".join(found[::-1]), to_json(more))
        problem = b',"state_error":' + to_json(self._problem) if self._problem is not None else b""
        return add_warnings(head + problem + b"}", request.warnings)
