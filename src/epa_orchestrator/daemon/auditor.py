# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Auditor: reads and judges the host's isolation, in a thread of its own that leaves the CPU to all others.

It reads once a minute, and soon after claims or options have changed, so that the noise of a new claim counts from its
beginning. The thread starts a moment after the daemon, and imports what only it needs. No request waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from epa_orchestrator.daemon.audit import Audit, Audits

log = logging.getLogger(__name__)

#: How often (seconds) the host is read while nothing changes.
_EVERY: Final = 60.0
#: After this CPU time (seconds) the thread rests, ten times as long as it worked.
_WORK: Final = 0.001
_REST: Final = 10
#: The pause (seconds) between two readings, even if claims change all the time.
_PAUSE: Final = 1.0
#: How long (seconds) the end of the daemon waits for the thread.
_STOP_SECONDS: Final = 1.0


class _Stopped(Exception):
    """The daemon ends, so the reading under way is of no use."""


class Auditor:
    """Audits while the daemon runs. `prepare` is called in the thread, with what lets it rest, and returns the audits.

    Use everything but `last` in the event loop's thread. `last` is the last audit, None before the first one.
    """

    def __init__(self, prepare: Callable[[Callable[[], None]], Audits | None]) -> None:
        self.last: Audit | None = None
        self._prepare = prepare
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._seen: tuple[object, ...] | None = None
        self._thread: threading.Thread | None = None
        self._worked = 0.0

    def notice(self, *subjects: object) -> None:
        """Read the host soon if these are other objects than last time. The first call only remembers them."""
        before, self._seen = self._seen, subjects
        if before is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="auditor", daemon=True)
            self._thread.start()
        elif any(one is not other for one, other in zip(before, subjects, strict=True)):
            self._wake.set()

    def close(self) -> None:
        """End the thread, also in the middle of a reading."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    # --- the thread ---

    def _run(self) -> None:
        try:
            audits = self._prepare(self._rest)
            while audits is not None:
                self._audit(audits)
                self._wake.wait(_EVERY)
                self._wake.clear()
                self._rest()
        except _Stopped:
            return
        except Exception:
            log.exception("the isolation of this host is audited no longer")

    def _audit(self, audits: Audits) -> None:
        """Make one audit, and the pause after it. One that fails is logged; the next may do better."""
        began = self._worked = time.thread_time()
        try:
            self.last = audits.make()
        except _Stopped:
            raise
        except Exception:
            log.exception("the isolation of this host could not be audited")
        self._stop.wait(max(_PAUSE, _REST * (time.thread_time() - began)))

    def _rest(self) -> None:
        """Rest after some work. Raises _Stopped when the daemon ends."""
        worked = time.thread_time() - self._worked
        if worked >= _WORK:
            self._stop.wait(_REST * worked)
            self._worked = time.thread_time()
        if self._stop.is_set():
            raise _Stopped
