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

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.current import Current

if TYPE_CHECKING:
    from epa_orchestrator.daemon.audit import Audit, Audits, Subjects
    from epa_orchestrator.isolation.host_files import HostFiles

log = logging.getLogger(__name__)

#: How often (seconds) the host is read while nothing changes.
_EVERY: Final = 60.0
#: After this CPU time (seconds) the thread rests, ten times as long as it worked.
_WORK: Final = 0.001
_REST: Final = 10
#: The pause between two readings, even if claims change all the time: so many times as long as the CPU time of the last
#: one, and at least so long (seconds).
_PAUSE_FACTOR: Final = 50
_LEAST_PAUSE: Final = 1.0
#: How long (seconds) the end of the daemon waits for the thread.
_STOP_SECONDS: Final = 1.0


class _Stopped(Exception):
    """The daemon ends, so the reading under way is of no use."""


class Auditor:
    """Audits the host whose files `open_host` gives, if there are any. `settings` returns those in use.

    Use everything but `last` in the event loop's thread. `last` is the last audit, None before the first one.
    """

    def __init__(
        self, current: Current, settings: Callable[[], Settings], open_host: Callable[[], HostFiles | None] | None
    ) -> None:
        self.last: Audit | None = None
        self._current = current
        self._settings = settings
        self._open_host = open_host
        self._seen: tuple[object, object] | None = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused = False
        self._worked = 0.0

    def notice(self) -> None:
        """Read the host soon if claims or options have changed; call it once a second. The second call begins."""
        before, self._seen = self._seen, (self._current.ledger.claims, self._settings())
        if before is None or self._open_host is None:
            return
        if self._thread is None:
            self._begin(self._open_host)
        elif before[0] is not self._seen[0] or before[1] is not self._seen[1]:
            self._wake.set()

    def _begin(self, open_host: Callable[[], HostFiles | None]) -> None:
        """Start the thread; while the host has no room for one, the next second tries again."""
        thread = threading.Thread(target=self._run, args=[open_host], name="auditor", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._refused:
                log.warning("the isolation of this host is not audited yet: %s", error)
            self._refused = True
            return
        self._thread = thread

    def close(self) -> None:
        """End the thread, also in the middle of a reading."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    # --- the thread ---

    def _run(self, open_host: Callable[[], HostFiles | None]) -> None:
        try:
            audits = self._prepare(open_host)
            while audits is not None:
                self._audit(audits)
                self._wake.wait(_EVERY)
                self._wake.clear()
                self._rest()
        except _Stopped:
            return
        except Exception:
            log.exception("the isolation of this host is audited no longer")

    def _prepare(self, open_host: Callable[[], HostFiles | None]) -> Audits | None:
        """What makes the audits. While the host has no memory or file descriptor for it, try again."""
        while True:
            try:
                return self._open(open_host)
            except (MemoryError, OSError) as error:
                log.warning("the isolation of this host is not audited yet: %r", error)
            if self._stop.wait(_EVERY):
                raise _Stopped

    def _open(self, open_host: Callable[[], HostFiles | None]) -> Audits | None:
        from epa_orchestrator.daemon.audit import Audits

        files = open_host()
        if files is None:
            return None
        database = self._current.database
        return Audits(files, self._look, database.parent if database is not None else None, self._rest)

    def _look(self) -> Subjects:
        """What is audited now."""
        from epa_orchestrator.daemon.audit import Subjects

        current = self._current
        claims = current.ledger.claims if current.ledger_known else None
        writable = current.store is not None and current.problem is None
        return Subjects(claims, self._settings(), current.database, writable)

    def _audit(self, audits: Audits) -> None:
        """Make one audit, and the pause after it. One that fails is logged; the next may do better."""
        began = self._worked = time.thread_time()
        try:
            self.last = audits.make()
        except _Stopped:
            raise
        except Exception:
            log.exception("the isolation of this host could not be audited")
        self._stop.wait(max(_LEAST_PAUSE, _PAUSE_FACTOR * (time.thread_time() - began)))

    def _rest(self) -> None:
        """Rest after some work. Raises _Stopped when the daemon ends."""
        worked = time.thread_time() - self._worked
        if worked >= _WORK:
            self._stop.wait(_REST * worked)
            self._worked = time.thread_time()
        if self._stop.is_set():
            raise _Stopped
