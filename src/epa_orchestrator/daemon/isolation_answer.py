# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation answer: joins the last audit with the claims as they are now, for get_isolation.

Only the archive's thread imports this module.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.askers import UNKNOWN, Askers, claim_owner
from epa_orchestrator.protocol.isolation import ClaimIsolation, ClaimOwner, IsolationAnswer

if TYPE_CHECKING:
    from epa_orchestrator.daemon.audit import Audit

_TOO_YOUNG: Final = "The host has not been read since the service got these CPUs: ask again in a few seconds"
#: How long (seconds) the history is searched for the owners of claims that no audit knows.
_MOST_SECONDS: Final = 1.0


class _TooLongError(Exception):
    """The history was searched for long enough."""


def young_owners(
    audit: Audit | None, claims: Mapping[str, Claim], settings: Settings, database: Path | None
) -> dict[str, ClaimOwner]:
    """The owners of the claims that are younger than the audit, by service.

    Without them, an owner would pass for a stranger until the next reading.
    """
    young = {service: claim for service, claim in claims.items() if _found(audit, claim) is None}
    ends_at = time.monotonic() + _MOST_SECONDS

    def check_time() -> None:
        if time.monotonic() >= ends_at:
            raise _TooLongError

    try:
        askers = Askers(check_time).of(young, database) if young else {}
    except _TooLongError:
        askers = {}
    return {service: claim_owner(claim, askers.get(service, UNKNOWN), settings) for service, claim in young.items()}


def isolation_answer(
    audit: Audit | None,
    claims: Iterable[Claim],
    owners: Mapping[str, ClaimOwner],
    problem: str | None,
    warnings: tuple[str, ...],
) -> IsolationAnswer:
    """The answer about these claims, ordered by service name.

    `audit` is None before the first reading; `owners` are those of claims that it does not know.
    """
    return IsolationAnswer(
        read_at=audit.read_at if audit is not None else None,
        checks=list(audit.checks) if audit is not None else [],
        claims=[
            _found(audit, claim) or _unjudged(claim, owners[claim.service])
            for claim in sorted(claims, key=lambda claim: claim.service)
        ],
        state_error=problem,
        warnings=warnings,
    )


def _found(audit: Audit | None, claim: Claim) -> ClaimIsolation | None:
    """What the audit found out about the claim; None if it had other CPUs then."""
    found = audit.claims.get(claim.service) if audit is not None else None
    if found is not None and (found.pool, found.allocated_cores) == (claim.pool, str(claim.cpus)):
        return found
    return None


def _unjudged(claim: Claim, owner: ClaimOwner) -> ClaimIsolation:
    return ClaimIsolation(
        service_name=claim.service,
        pool=claim.pool,
        allocated_cores=str(claim.cpus),
        owner=owner,
        since=None,
        noise=None,
        now=None,
        strangers=[],
        outside=[],
        stacked=[],
        culprit=None,
        remedy=None,
        problem=_TOO_YOUNG,
    )
