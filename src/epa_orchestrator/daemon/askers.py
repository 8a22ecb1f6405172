# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Askers: which process asked for the CPUs of each claim, found in the history, and the owner that this makes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.errors import printable
from epa_orchestrator.peer import UNNAMED, PeerNames
from epa_orchestrator.protocol.isolation import ClaimOwner
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.events import Event
from epa_orchestrator.state.reading import open_events

log = logging.getLogger(__name__)

#: The action of events by which the daemon itself made claims from the older daemon's.
_IMPORT: Final = "import"


class Asker(NamedTuple):
    """The process that got a claim some of its CPUs by the newest such event, as far as the history knows it.

    `pid` is None where it is not known, and `at` is when it asked, in seconds since 1970.
    """

    names: PeerNames = UNNAMED
    pid: int | None = None
    at: float | None = None


UNKNOWN: Final = Asker()


def claim_owner(claim: Claim, asker: Asker, settings: Settings) -> ClaimOwner:
    """Whose threads are the owner's, as clients get it."""
    cgroups = [printable(path) for path in settings.cgroups_of(claim.service)]
    return ClaimOwner(**asker.names._asdict(), pid=asker.pid, asked_at=asker.at, cgroups=cgroups)


class Askers:
    """Finds the askers of claims, those of changed claims only; `rest` is called often during a search."""

    def __init__(self, rest: Callable[[], None]) -> None:
        self._rest = rest
        self._known: dict[str, tuple[Claim, Asker]] = {}

    def of(self, claims: Mapping[str, Claim], database: Path | None) -> dict[str, Asker]:
        """The asker of each claim, by service."""
        kept = {service: known for service, known in self._known.items() if claims.get(service) is known[0]}
        new = {service: claim.cpus for service, claim in claims.items() if service not in kept}
        found = dict.fromkeys(new, UNKNOWN)
        if database is not None and new:
            try:
                with open_events(database, self._rest) as events:
                    found |= {service: _asker(event) for service, event in events.newest_grants(new)}
            except StateError as error:  # the next reading tries again
                log.warning("the history could not be read for the audit: %s", error)
                return {service: asker for service, (_, asker) in kept.items()} | found
        self._known = kept | {service: (claims[service], asker) for service, asker in found.items()}
        return {service: asker for service, (_, asker) in self._known.items()}


def _asker(event: Event) -> Asker:
    at = event.at if "at" not in event.damaged else None
    if event.action == _IMPORT or "action" in event.damaged:
        return Asker(at=at)
    pid = event.peer.pid if event.peer.pid > 0 and "pid" not in event.damaged else None
    return Asker(event.names, pid, at)
