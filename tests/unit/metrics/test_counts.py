# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Counts: requests by outcome, refusals by rule, and histograms."""

from __future__ import annotations

import time
import timeit
from typing import Any

import pytest

from epa_orchestrator.metrics.counts import NO_ACTION, Counts, Histogram
from epa_orchestrator.protocol.parsing import validate

REQUEST = validate({"action": "allocate_cores", "service_name": "nova", "num_of_cores": 2})
DRY_RUN = validate({"action": "allocate_cores", "service_name": "nova", "num_of_cores": 2, "dry_run": True})
LISTING = validate({"action": "list_allocations"})


@pytest.mark.parametrize(
    ("request_", "reason", "outcome"),
    [
        (REQUEST, None, ("allocate_cores", "served")),
        (DRY_RUN, None, ("allocate_cores", "dry-run")),
        (LISTING, None, ("list_allocations", "served")),
        (REQUEST, "insufficient", ("allocate_cores", "refused")),
        (REQUEST, "storage", ("allocate_cores", "failed")),
        (REQUEST, "permission", ("allocate_cores", "denied")),
        (REQUEST, "quota", ("allocate_cores", "denied")),
        (DRY_RUN, "insufficient", ("allocate_cores", "dry-run")),
        (DRY_RUN, "internal", ("allocate_cores", "failed")),
    ],
)
def test_request_counts_by_action_and_outcome(request_: Any, reason: Any, outcome: tuple[str, str]) -> None:
    counts = Counts()
    counts.answered(request_, reason)
    assert counts.requests == {outcome: 1}
    assert counts.refusals == ({} if reason is None else {reason: 1})


def test_bytes_that_are_no_request_count_without_an_action() -> None:
    counts = Counts()
    counts.refused(NO_ACTION, "invalid")
    assert counts.requests == {("none", "refused"): 1}


def test_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0, 1, 1.5, 4, 9):
        histogram.observe(value)
    assert histogram.buckets() == [("1", 2), ("2", 3), ("4", 4), ("+Inf", 5)]
    assert histogram.sum == 15.5


def test_reply_notes_the_seconds_since_the_request_was_whole() -> None:
    counts, sent = Counts(), list[bytes]()
    counts.timed("allocate_cores", time.monotonic() - 0.2, sent.append)(b"{}")
    assert sent == [b"{}"]
    histogram = counts.answers["allocate_cores"]
    assert dict(histogram.buckets())["0.1"] == 0
    assert 0.2 <= histogram.sum < 5


def test_failed_commit_is_no_commit() -> None:
    counts = Counts()
    counts.committed(3, 0.001, failed=False)
    counts.committed(5, 0.001, failed=True)
    assert counts.failed_commits == 1
    assert counts.batches.sum == 3
    assert sum(counts.commits.values) == 1


def test_nothing_is_counted_unless_asked_for() -> None:
    assert not Counts().on


@pytest.mark.parametrize("request_", [REQUEST, LISTING], ids=["change", "listing"])
def test_counting_a_request_takes_about_a_microsecond(request_: Any) -> None:
    counts = Counts()

    def count() -> None:
        counts.timed("x", 0.0, _nothing)(b"")
        counts.answered(request_, None)

    best = min(timeit.repeat(count, number=1000, repeat=30, timer=time.thread_time)) / 1000
    assert best < 4e-6, "1.2 µs where this was measured"


def _nothing(_: bytes) -> None:
    return
