# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""One deadline for everything that an event waits for: snapd, the store, the daemon."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Generator
from types import FrameType
from typing import Final

from charmlibs import snap

#: The error is raised again after so many seconds, in case that code has caught and dropped it.
_AGAIN: Final = 5.0
_SOON: Final = 0.001


class DeadlineError(snap.Error):
    """The deadline has passed.

    It is no TimeoutError: the library for snapd would take it for one of its own, and `with_retries` would retry it.
    """


@contextlib.contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Raise DeadlineError in the body when it takes longer than this, or than a deadline around it.

    The library waits for a change of snapd without any limit, so only a signal can end that. snapd goes on with the
    change: the next event finds it finished, or under way.
    """
    outer, _ = signal.getitimer(signal.ITIMER_REAL)
    if 0 < outer <= seconds:
        yield
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise DeadlineError(f"snapd and the daemon took more than {seconds:g} seconds: see 'snap changes'")

    start = time.monotonic()
    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - start), _SOON), _AGAIN)
