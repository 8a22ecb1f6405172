# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Current: the state that the daemon serves from at this moment, shared by the parts that read and change it."""

from __future__ import annotations

import logging
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.state.store import Store

log = logging.getLogger(__name__)

#: What warnings are about, the worst first.
Subject = Literal["settings", "start", "metrics"]


class State(NamedTuple):
    """The state that the daemon starts from: an open store, or else the problem that keeps it read-only.

    `ledger` is None when the claims are not known. `seen` says where CPUs were last seen, as far as it is stored.
    `warnings` are sentences about the start for the operator, which every listing shows. `database` has the
    history, None when there is none.
    """

    ledger: Ledger | None
    store: Store | None
    problem: str | None
    seen: LastSeen = LastSeen()  # a named tuple
    warnings: tuple[str, ...] = ()
    database: Path | None = None


class Current:
    """The committed ledger, the store and the host. Change it in the event loop's thread only.

    `problem` says why nothing may be changed, None when all is well. `ledger_known` is false when the claims could not
    be read. `stored_seen` is what the store knows of where CPUs were last seen. `warnings` are the sentences about the
    daemon itself, which every listing shows; any thread may read them.
    """

    def __init__(self, host: Host, state: State) -> None:
        self.host = host
        self.store = state.store
        self.problem = state.problem
        self.ledger = state.ledger or Ledger()
        self.ledger_known = state.ledger is not None
        self.stored_seen = state.seen
        self.warnings = state.warnings
        self._warnings: dict[Subject, tuple[str, ...]] = {"settings": (), "start": state.warnings, "metrics": ()}
        self.database = state.store.path if state.store is not None else state.database
        self._unreadable = ""

    def warn(self, about: Subject, sentences: tuple[str, ...]) -> None:
        """Show these warnings from now on, in place of earlier ones about the same."""
        self._warnings[about] = sentences
        self.warnings = tuple(chain.from_iterable(self._warnings.values()))

    def known_pools(self) -> Pools | None:
        """The host's pools; None where discovery is needed first, which takes too long for the event loop."""
        try:
            return self.host.known_pools()
        except Exception as error:  # noqa: BLE001  # logged; discovery will raise it again
            self.note_unreadable(error)
        return None

    def note_unreadable(self, error: Exception | None) -> None:
        """Log why the host could not be read, unless the last reading failed in the same way; None if it did not."""
        sentence = repr(error) if error is not None else ""
        if sentence == self._unreadable:
            return
        self._unreadable = sentence
        if isinstance(error, SysfsError):
            log.warning("%s", error)
        elif error is not None:
            log.error("the host could not be read", exc_info=error)

    def ledger_on(self, pools: Pools) -> Ledger:
        """The committed ledger on the cores of these pools."""
        self.ledger = self.ledger.on(pools.cores)
        return self.ledger

    def lose_state(self, reason: str) -> str:
        """Change nothing from now on, because the state on disk is not the one in memory; returns the sentence."""
        assert self.store is not None
        self.problem = (
            f"The state database {self.store.path} can no longer be written, because {reason}: make sure that no other"
            " process writes it and that the right file is in its place, then restart this daemon"
        )
        log.error("%s", self.problem)
        return self.problem
