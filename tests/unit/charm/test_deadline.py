# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A deadline ends whatever the body waits for."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time

import pytest
from charmlibs import snap

import deadline as module
from deadline import DeadlineError, deadline


def is_armed() -> bool:
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def test_long_wait_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineError, match=r"took more than 0\.1 seconds: see 'snap changes'"), deadline(0.1):
        subprocess.run(["sleep", "20"], check=False)
    assert time.monotonic() - start < 10
    assert not is_armed()


def test_short_body_is_left_alone() -> None:
    with deadline(10):
        pass
    assert not is_armed()


def test_dropped_error_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.05)

    @deadline(0.05)
    def wait_twice() -> None:
        with contextlib.suppress(snap.Error):
            time.sleep(20)
        time.sleep(20)

    with pytest.raises(DeadlineError):
        wait_twice()


@pytest.mark.parametrize(("outer", "inner"), [(0.1, 10.0), (10.0, 0.1)])
def test_earlier_of_two_deadlines_counts(outer: float, inner: float) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineError), deadline(outer), deadline(inner):
        time.sleep(20)
    assert time.monotonic() - start < 9
    assert not is_armed()


def test_outer_deadline_goes_on_after_an_inner_one() -> None:
    @deadline(0.3)
    def wait_twice() -> None:
        with contextlib.suppress(DeadlineError), deadline(0.1):
            time.sleep(20)
        time.sleep(20)

    with pytest.raises(DeadlineError):
        wait_twice()
    assert not is_armed()
