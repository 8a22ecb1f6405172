# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Counts: what has happened to requests, counted with plain integers on their way.

Only the event loop's thread counts. Another thread may read at any time: it sees each number as it was at some moment.
While nobody asks for metrics, `counts.on` is false and nothing is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, Literal

from epa_orchestrator.allocation.refusal import RefusalRule
from epa_orchestrator.protocol.requests import Request

#: Why a request was not served: a rule of a decision, or what stopped the request before or after one.
Rule = (
    RefusalRule
    | Literal["permission", "quota", "invalid", "timeout", "read-only"]
    | Literal["storage", "host", "internal"]
)
Outcome = Literal["served", "dry-run", "refused", "denied", "failed"]

#: The rules that are a failure of the daemon or the host, not a refusal.
FAILURES: Final[frozenset[Rule]] = frozenset({"storage", "host", "internal"})
#: The rules that only say who asked, or how often. Any user can cause such refusals.
DENIALS: Final[frozenset[Rule]] = frozenset({"permission", "quota"})

#: The action of what was no request: bytes that are not one, or too few of them.
NO_ACTION: Final = "none"

#: The upper bounds of the buckets: seconds of an answer, seconds of a commit, requests in a batch.
ANSWER_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
COMMIT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
BATCH_REQUESTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Histogram:
    """How many values were at most each of the `bounds`, which ascend, and the sum of all values."""

    __slots__ = ("bounds", "sum", "values")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.values = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.values[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """The buckets as Prometheus has them: each upper bound as text, and how many values were at most that."""
        total, found = 0, list[tuple[str, int]]()
        for bound, values in zip((*map(str, self.bounds), "+Inf"), self.values, strict=True):
            total += values
            found.append((bound, total))
        return found


class Counts:
    """All counts since the daemon's start, or since metrics were asked for if that was later."""

    def __init__(self) -> None:
        self.on = False
        self.requests: dict[tuple[str, Outcome], int] = {}
        self.refusals: dict[Rule, int] = {}
        #: By action: the seconds from a whole request to its answer, handed over to the client's socket.
        self.answers: dict[str, Histogram] = {}
        self.commits = Histogram(COMMIT_SECONDS)
        self.batches = Histogram(BATCH_REQUESTS)
        self.failed_commits = 0
        self.refused_connections = 0
        self.timeouts = 0

    def answered(self, request: Request, rule: Rule | None) -> None:
        """Count a request that was answered; `rule` is why it was not served, None when it was."""
        # getattr on a model without the field would take 5 µs.
        is_dry_run = bool(vars(request).get("dry_run"))
        if rule is None:
            self._note(request.action, "dry-run" if is_dry_run else "served")
        else:
            self.refused(request.action, rule, dry_run=is_dry_run)

    def refused(self, action: str, rule: Rule, *, dry_run: bool = False) -> None:
        """Count a request that was not served; `action` is NO_ACTION if it was none."""
        self.refusals[rule] = self.refusals.get(rule, 0) + 1
        self._note(action, _outcome_of(rule, dry_run=dry_run))

    def _note(self, action: str, outcome: Outcome) -> None:
        key = action, outcome
        self.requests[key] = self.requests.get(key, 0) + 1

    def timed(self, action: str, begun: float, reply: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """The reply to a request that was whole at `begun` (time.monotonic), which also notes how long it took."""

        def timed_reply(answer: bytes) -> None:
            reply(answer)
            histogram = self.answers.get(action)
            if histogram is None:
                histogram = self.answers[action] = Histogram(ANSWER_SECONDS)
            histogram.observe(monotonic() - begun)

        return timed_reply

    def committed(self, requests: int, seconds: float, *, failed: bool) -> None:
        """Count a commit of a batch of so many requests that changed something."""
        if failed:
            self.failed_commits += 1
        else:
            self.commits.observe(seconds)
            self.batches.observe(requests)


def _outcome_of(rule: Rule, *, dry_run: bool) -> Outcome:
    """The outcome of a request that was not served."""
    if rule in FAILURES:
        return "failed"
    if rule in DENIALS:
        return "denied"
    return "dry-run" if dry_run else "refused"


#: The counts of this process.
counts: Final = Counts()
