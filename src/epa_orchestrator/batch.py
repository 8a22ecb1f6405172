"""Batch: the mutations that wait together, decided one after the other and committed with one sync.

Runs in a thread of its own, so that neither a hard placement nor a slow disk keeps the event loop from anything. Each
request is decided on the ledger that the one before leaves. A batch ends early when deciding takes long: the rest waits
for the next one, and those that are decided get their answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from epa_orchestrator.decisions import decide, refusal
from epa_orchestrator.host import Host
from epa_orchestrator.ledger import Change, Ledger, Refused
from epa_orchestrator.machine import Seen
from epa_orchestrator.pools import Pools
from epa_orchestrator.protocol import AllocateHugepages, ErrorAnswer, Mutation
from epa_orchestrator.store import CommitError, Origin, Overtaken, Store
from epa_orchestrator.sysfs import SysfsError

log = logging.getLogger(__name__)

#: After so many seconds of deciding, what has been decided is committed first.
_LONG: Final = 0.05

INTERNAL_ERROR: Final = "Internal error: nothing was changed; please report it with the daemon's log"

Reply = Callable[[bytes], None]


class Waiting(NamedTuple):
    """A mutation that waits for its turn."""

    request: Mutation
    origin: Origin
    reply: Reply


class Decided(NamedTuple):
    """A mutation with its answer, and what the log says of it; `tentative`: it rests on what is not committed yet."""

    waiting: Waiting
    answer: bytes
    outcome: str
    tentative: bool


@dataclass
class Batch:
    """What is decided on, and what becomes of it.

    `ledger` is the one before, and after `carry_out` the one that is committed; so is `seen`, where CPUs were last
    seen. `left` are those that were not decided; `overtaken` says why the store must not be used any more.
    """

    store: Store
    host: Host
    ledger: Ledger
    seen: Seen
    waiting: Sequence[Waiting]
    decided: list[Decided] = field(default_factory=list[Decided])
    left: Sequence[Waiting] = ()
    overtaken: str | None = None

    def carry_out(self) -> None:
        """Decide, and commit. Afterwards everyone who waited is in `decided` or `left`."""
        self.left = self.waiting
        try:
            pools = self.host.pools()
            self.ledger = self.ledger.on(pools.cores)
            after = self._decide_all(pools)
            if after is not self.ledger:
                self._commit()
                self.ledger = after
        except CommitError as error:
            self._fail(f"Nothing was changed because the state could not be stored: {error}")
            self.overtaken = str(error) if isinstance(error, Overtaken) else None
            log.error("nothing was changed because the state could not be stored: %s", error)
        except SysfsError as error:
            log.warning("%s", error)
            self._fail(str(error))
        except Exception:  # a mistake of ours must not leave clients unanswered
            log.exception("a batch failed")
            self.store.undo()
            self._fail(INTERNAL_ERROR)

    def _decide_all(self, pools: Pools) -> Ledger:
        now, enough = time.time(), time.monotonic() + _LONG
        ledger = self.ledger
        for number, waiting in enumerate(self.waiting):
            if number and time.monotonic() > enough:
                self.left = self.waiting[number:]
                break
            self.left = self.waiting[number + 1 :]
            change, ledger, answer, outcome = self._decide(ledger, pools, waiting)
            self.decided.append(Decided(waiting, answer, outcome, ledger is not self.ledger))
            if change:
                self.store.stage(change, waiting.origin, now)
        return ledger

    def _commit(self) -> None:
        seen = self.host.seen
        if seen is not self.seen:
            self.store.stage_seen(seen)
        self.store.commit()
        self.seen = seen

    def _decide(self, ledger: Ledger, pools: Pools, waiting: Waiting) -> tuple[Change, Ledger, bytes, str]:
        """What a mutation changes, the ledger after it, its answer, and for the log; a refusal changes nothing."""
        request, origin, _ = waiting
        try:
            change, after, answer = decide(ledger, self.host, pools, request)
            encoded = answer.encode()
        except SysfsError as error:
            return Change(), ledger, error_answer(str(error)), str(error)
        except Refused as refused:
            return Change(), ledger, refusal(request, refused).encode(), str(refused)
        except Exception:  # a mistake of ours in one request must not stop the others
            log.exception("%s from pid=%d failed", origin.action, origin.pid)
            return Change(), ledger, error_answer(INTERNAL_ERROR), INTERNAL_ERROR
        dry_run = not isinstance(request, AllocateHugepages) and request.dry_run
        return change, after, encoded, "dry run, nothing changed" if dry_run else "served"

    def _fail(self, sentence: str) -> None:
        """Nothing of the batch is committed: answer so those who were told otherwise, and all who were not decided."""
        answer = error_answer(sentence)
        self.decided = [
            each._replace(answer=answer, outcome=sentence) if each.tentative else each for each in self.decided
        ]
        self.decided += [Decided(waiting, answer, sentence, tentative=True) for waiting in self.left]
        self.left = ()


def error_answer(sentence: str) -> bytes:
    """A refusal on the wire."""
    return ErrorAnswer(error=sentence).encode()
