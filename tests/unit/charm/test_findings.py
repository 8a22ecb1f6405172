# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Which errors of a step are noted, and as what."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NoReturn

import pytest
from charmlibs import snap

from deadline import DeadlineError
from errors import CharmError, TemporaryError
from findings import Findings

BAD_ANSWER = snap.BadResponseError("unreadable\nanswer", response={"a": "x" * 99})


def failing(error: Exception) -> Callable[[], NoReturn]:
    def step() -> NoReturn:
        raise error

    return step


def test_result_of_a_step_is_returned() -> None:
    assert Findings().attempt(lambda: 7) == 7


def test_error_that_the_operator_fixes_is_blocking() -> None:
    findings = Findings()
    assert findings.attempt(failing(CharmError("fix it"))) is None
    assert (findings.blocking, findings.waiting) == (["fix it"], [])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TemporaryError("no store"), "no store"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), f"[Errno {errno.ENOMEM}] Cannot allocate memory"),
        (snap.TimeoutError("slow"), "snapd is busy or slow (slow)"),
        (BAD_ANSWER, "snapd is busy or slow (unreadable answer)"),
        (snap.TimeoutError("x" * 900), f"snapd is busy or slow ({'x' * 400})"),
    ],
)
def test_error_that_goes_away_is_waiting(error: Exception, reason: str) -> None:
    findings = Findings()
    assert findings.attempt(failing(error)) is None
    assert (findings.blocking, findings.waiting) == ([], [f"{reason}; the next event tries again"])


def test_deadline_ends_all_steps() -> None:
    with pytest.raises(DeadlineError):
        Findings().attempt(failing(DeadlineError("too long")))
