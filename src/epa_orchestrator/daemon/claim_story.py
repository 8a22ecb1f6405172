# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claim story: what a service holds or who has a CPU, how it came to that, and what has changed since."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.cpu_states import Absence, cpu_states, no_longer_withheld, unavailable
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.service_names import resolve
from epa_orchestrator.allocation.settings_text import settings_text
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import with_siblings
from epa_orchestrator.protocol.answers import Allocation, PageRecord
from epa_orchestrator.protocol.history import ClaimAnswer, HistoryEvent, Options, Origin
from epa_orchestrator.protocol.readings import GetClaim
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.events import Event
from epa_orchestrator.state.reading import EventReader, Wanted, go_on, open_events

#: The most changes that an answer has, and the most neighbours that it names.
_MOST_CHANGES: Final = 50
_MOST_NEIGHBOURS: Final = 50


class _Past(NamedTuple):
    """What the history says: see ClaimAnswer."""

    granted: Event | None = None
    origins: tuple[Origin, ...] = ()
    changes: tuple[Event, ...] = ()
    more: bool = False
    settings: Options | None = None
    error: str | None = None


class ClaimStory:
    """Tells about one service or CPU, from a ledger and the pools as they are, and the history in a database.

    `check` is called often while the history is searched, and ends that by an exception.
    """

    def __init__(
        self,
        ledger: Ledger,
        pools: Pools,
        database: Path | None,
        problem: str | None,
        *,
        ledger_known: bool,
        check: Callable[[], None] = go_on,
    ) -> None:
        self._ledger = ledger
        self._pools = pools
        self._database = database
        self._problem = problem
        self._ledger_known = ledger_known
        self._check = check

    def tell(self, request: GetClaim) -> ClaimAnswer:
        """The answer to a request.

        Raises Refused.
        """
        if (request.service_name is None) == (request.cpu is None):
            raise Refused("get_claim needs either service_name or cpu: give exactly one of them")
        if not self._ledger_known:
            raise Refused(f"The claims are not known: {self._problem}")
        if request.cpu is not None:
            service, of_cpu = self._about_cpu(request.cpu)
        else:
            name = cast("str", request.service_name)
            service, of_cpu = resolve(name, lambda each: each in self._ledger.claims or each in self._ledger.pages), {}
        claim = self._ledger.claims.get(service) if service is not None else None
        past = self._past(service, claim, request.cpu) if service is not None else _Past()
        return ClaimAnswer.model_construct(
            **of_cpu,
            **(self._about_claim(claim, request.cpu) if claim is not None else {}),
            service_name=service,
            hugepages=self._hugepages(service),
            granted=_event(past.granted) if past.granted is not None else None,
            origins=list(past.origins),
            changes=[_event(event) for event in past.changes],
            more_changes=past.more,
            settings_then=past.settings,
            settings_now=json.loads(settings_text(self._pools.settings).document),
            history_error=past.error,
            state_error=self._problem,
            warnings=request.warnings,
        )

    # --- the present ---

    def _about_cpu(self, cpu: int) -> tuple[str | None, dict[str, Any]]:
        """The owner of a CPU, and what else there is to say about it. Refuses a CPU that does not exist."""
        states = cpu_states(self._ledger, self._pools)
        state = next((state for state, cpus in states.items() if cpu in cpus), None)
        if state is None:
            known = EMPTY
            for cpus in states.values():
                known |= cpus
            raise Refused(
                f"This host has no CPU {cpu}: its CPUs are {known}" if known else "No CPU of this host is known"
            )
        owner = next((claim.service for claim in self._ledger.claims.values() if cpu in claim.cpus), None)
        core = self._threads(CpuSet([cpu]))
        found: dict[str, Any] = {"cpu": cpu, "state": state, "core": str(core)}
        if state == "withheld":
            keepers = (claim.service for claim in self._ledger.claims.values() if cpu in claim.withheld)
            found["withheld_by"] = next(keepers, None)
        if owner is None:
            found["core_neighbours"] = self._owners(core, None)
        return owner, found

    def _about_claim(self, claim: Claim, cpu: int | None) -> dict[str, Any]:
        machine = self._pools.machine
        nodes = [node.id for node in machine.nodes if node.cpus & claim.cpus] if machine else []
        l3_domains = sum(1 for cpus in machine.l3_domains if cpus & claim.cpus) if machine else 0
        cores = self._threads(claim.cpus if cpu is None else CpuSet([cpu]))
        withheld = claim.withheld & self._pools.configured
        return {
            "claim": Allocation(
                service_name=claim.service,
                pool=claim.pool,
                allocated_cores=str(claim.cpus),
                cores_count=len(claim.cpus),
                is_explicit=bool(claim.explicit),
                preemption_policy=claim.preemption_policy,
                withheld_cpus=str(withheld) or None,
            ),
            "unavailable": _lists(unavailable(claim, self._pools)),
            "no_longer_withheld": _lists(no_longer_withheld(claim, self._pools)),
            "numa_nodes": str(CpuSet(nodes)),
            "l3_domains": l3_domains,
            "core_neighbours": self._owners(cores, claim.service),
        }

    def _threads(self, cpus: CpuSet) -> CpuSet:
        """All threads of the cores of these CPUs."""
        return CpuSet.from_mask(with_siblings(cpus.mask, self._pools.cores))

    def _owners(self, cpus: CpuSet, but: str | None) -> dict[str, str]:
        """The services that own some of these CPUs, and which, without one of them."""
        others = (claim for claim in self._ledger.claims.values() if claim.service != but and claim.cpus & cpus)
        return {claim.service: str(claim.cpus & cpus) for claim in islice(others, _MOST_NEIGHBOURS)}

    def _hugepages(self, service: str | None) -> list[PageRecord]:
        counts = self._ledger.pages.get(service) if service is not None else None
        return [
            PageRecord(node_id=node_id, size_kb=size_kb, hugepages=count)
            for (node_id, size_kb), count in sorted(counts.items() if counts else ())
        ]

    # --- the past ---

    def _past(self, service: str, claim: Claim | None, cpu: int | None) -> _Past:
        if self._database is None:
            return _Past(error="There is no state database")
        try:
            with open_events(self._database, self._check) as events:
                if claim is not None:
                    return _past_of_claim(events, claim, cpu)
                pages = self._ledger.pages.get(service)
                return _past_since(events, Wanted(service), events.newest_record(service, pages) if pages else None)
        except StateError as error:
            return _Past(error=f"The state database {self._database} {error}")


def _lists(absent: Mapping[Absence, CpuSet]) -> dict[str, str]:
    return {reason: str(cpus) for reason, cpus in absent.items()}


def _past_of_claim(events: EventReader, claim: Claim, cpu: int | None) -> _Past:
    """How a claim came to its CPUs, and the changes since the newest event by which it got some.

    About a CPU: since the event by which it got that one, without those of hugepage records.
    """
    granted: Event | None = None
    origins: list[Origin] = []
    for cpus, event in events.grants(claim.service, claim.cpus):
        at = event.at if "at" not in event.damaged else None
        origins.append(Origin(cpus=str(cpus), id=event.id, at=at))
        if granted is None and (cpu is None or cpu in cpus):
            granted = event
            if cpu is not None:
                break
    wanted = Wanted(claim.service, member="cpus" if cpu is not None else None)
    return _past_since(events, wanted, granted, tuple(origins))


def _past_since(events: EventReader, wanted: Wanted, granted: Event | None, origins: tuple[Origin, ...] = ()) -> _Past:
    """The newest of the wanted changes after an event, or of all where no event is known."""
    since = replace(wanted, after=granted.id if granted is not None else None)
    changes = [*islice(events.newest_first(since), _MOST_CHANGES + 1)]
    newest = tuple(changes[:_MOST_CHANGES][::-1])
    return _Past(granted, origins, newest, len(changes) > _MOST_CHANGES, _settings_of(events, granted))


def _settings_of(events: EventReader, event: Event | None) -> Options | None:
    return events.settings(event.settings) if event is not None and event.settings is not None else None


def _event(event: Event) -> HistoryEvent:
    return HistoryEvent.model_construct(None, **event.document())
