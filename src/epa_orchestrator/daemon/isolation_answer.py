# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation answer: joins the last audit with the claims as they are now, for get_isolation.

Only the archive's thread imports this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.protocol.isolation import ClaimIsolation, ClaimOwner, IsolationAnswer

if TYPE_CHECKING:
    from epa_orchestrator.daemon.audit import Audit

_TOO_YOUNG: Final = "The host has not been read since the service got these CPUs: ask again in a few seconds"
_UNKNOWN: Final = ClaimOwner(snap=None, unit=None, comm=None, pid=None, asked_at=None, cgroups=[])


def isolation_answer(
    audit: Audit | None, claims: Iterable[Claim], problem: str | None, warnings: tuple[str, ...]
) -> IsolationAnswer:
    """The answer about these claims, ordered by service name; `audit` is None before the first reading."""
    return IsolationAnswer(
        read_at=audit.read_at if audit is not None else None,
        checks=list(audit.checks) if audit is not None else [],
        claims=[_of_claim(claim, audit) for claim in sorted(claims, key=lambda claim: claim.service)],
        state_error=problem,
        warnings=warnings,
    )


def _of_claim(claim: Claim, audit: Audit | None) -> ClaimIsolation:
    """What the audit found out about the claim, unless that had other CPUs then."""
    cpus = str(claim.cpus)
    found = audit.claims.get(claim.service) if audit is not None else None
    if found is not None and (found.pool, found.allocated_cores) == (claim.pool, cpus):
        return found
    return ClaimIsolation(
        service_name=claim.service,
        pool=claim.pool,
        allocated_cores=cpus,
        owner=_UNKNOWN,
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
