# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Metrics port: serves the metrics on the port that the settings name, and none while they name none.

What serves them is imported only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from epa_orchestrator.allocation.outdated import Review
from epa_orchestrator.daemon.current import Current
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.metrics.counts import counts

if TYPE_CHECKING:
    from epa_orchestrator.daemon.audit import Audit
    from epa_orchestrator.metrics.exporter import Exporter, Renderer
    from epa_orchestrator.metrics.figures import View

log = logging.getLogger(__name__)

#: How long (seconds) the end of the daemon waits for the exporter's thread.
_STOP_SECONDS = 1.0


def view_of(current: Current, review: Review, audit: Audit | None, connections: int) -> View:
    """All that is known now, for the metrics. Any thread may call it.

    It takes no lock that a request takes, unless the host has changed: then it reads the host, as the next request
    would have to.
    """
    from epa_orchestrator.metrics.figures import View

    host = current.host
    pages: dict[int, tuple[Hugepages, ...]] = {}
    ledger = current.ledger
    try:
        pools = host.known_pools() or host.pools()
        if pools.machine is not None:
            pages = host.hugepages_by_node(pools.machine.node_ids)
    except SysfsError:  # the log says why; the next scrape tries again
        pools = None
    return View(
        ledger,
        pools,
        pages,
        read_only=current.problem is not None,
        warnings=len(current.warnings) + len(host.warnings()),
        outdated=len(review.services_with_outdated(ledger.claims)),
        connections=connections,
        audit=audit,
    )


class MetricsPort:
    """The exporter of the present settings, if any; call everything in the event loop's thread.

    `look` is called in the exporter's thread. `warn` gets the sentence for the operator when the port cannot be opened,
    and none when all is well.
    """

    def __init__(self, look: Callable[[], View], warn: Callable[[tuple[str, ...]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._look = look
        self._warn = warn
        self._port = 0
        #: The newest exporter. A stopped one may still have its port for a moment, so the next one waits for its end.
        self._exporter: Exporter | None = None
        self._problem: str | None = None

    def use(self, port: int) -> None:
        """Serve on this port from now on; 0 serves nothing."""
        if port == self._port:
            return
        self._port, before = port, self._exporter
        if before is not None:
            before.stop()
        counts.on = port != 0
        self._note(None)
        if port:
            from epa_orchestrator.metrics.exporter import Exporter

            self._exporter = Exporter(port, self._prepare, self._report, before)
            self._exporter.start()

    def close(self) -> None:
        """Serve nothing any more."""
        self.use(0)
        if self._exporter is not None:
            self._exporter.join(_STOP_SECONDS)

    def _prepare(self) -> Renderer:
        """Import what renders, in the exporter's thread: it takes 0.1 s, and nothing else needs it."""
        from epa_orchestrator.metrics.exposition import CONTENT_TYPE, Exposition

        return Exposition(self._look, counts).render, CONTENT_TYPE

    def _report(self, exporter: Exporter, problem: str | None) -> None:
        """Pass on what the exporter's thread reports."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._hear, exporter, problem)

    def _hear(self, exporter: Exporter, problem: str | None) -> None:
        if exporter is not self._exporter or not self._port:  # it was told to stop meanwhile
            return
        if problem is None:
            log.info("metrics at %s", exporter.url)
        elif problem != self._problem:
            log.warning("%s", problem)
        self._note(problem)

    def _note(self, problem: str | None) -> None:
        if problem != self._problem:
            self._problem = problem
            self._warn((problem,) if problem is not None else ())
