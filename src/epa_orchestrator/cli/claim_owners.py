# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The claims and their owners, as the audit needs them: from the daemon or a report, or the reason why not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from epa_orchestrator import paths
from epa_orchestrator.cli.connect import connect, require_feature
from epa_orchestrator.cli.output import Misuse, fail
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.case import Owner
from epa_orchestrator.nearest import did_you_mean

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.isolation import ClaimIsolation

FEATURE: Final = "get-isolation"
#: How long (seconds) the audit waits for a daemon that it does not need.
_PATIENCE: Final = 3.0


@dataclass(frozen=True)
class Claims:
    """The owners of all claims; None where they are not known, for a `reason`."""

    owners: tuple[Owner, ...] | None
    reason: str = ""

    def cpus_of(self, service: str) -> CpuSet:
        """The CPUs of a service. The command ends where it holds none, or where that is not known."""
        from epa_orchestrator.client.checks import is_same_name

        if self.owners is None:
            raise Misuse(f"--service needs the claims: {self.reason}")
        held = [owner for owner in self.owners if is_same_name(owner.service, service)]
        if not held:
            names = sorted({owner.service for owner in self.owners})
            fail(f"The service '{printable(service)}' holds no CPUs{did_you_mean(service, names) or ''}")
        found = CpuSet()
        for owner in held:
            found |= owner.cpus
        return found


def ask_claims(socket: Path | None, *, needed: bool) -> Claims:
    """The claims of the daemon at a socket, or of this host's.

    If they are `needed` or a socket was given, the command ends where no daemon answers; else the reason is returned.
    """
    from epa_orchestrator.client import Client, DaemonError

    if needed or socket is not None:
        with connect(socket) as client:
            if needed:
                require_feature(client, FEATURE, "tell who owns which CPUs")
            return _ask(client)
    try:
        return _ask(Client(paths.client_socket_path(), _PATIENCE))
    except DaemonError as error:
        return Claims(None, str(error))


def _ask(client: Client) -> Claims:
    if not client.supports(FEATURE):
        return Claims(None, "this daemon is older than this command: upgrade the daemon")
    answer = client.isolation()
    if answer.read_at is None:
        return Claims(None, "the daemon has not read this host: it serves a recorded machine, or has just started")
    return Claims(owners_of(answer.claims))


def owners_of(claims: Iterable[ClaimIsolation]) -> tuple[Owner, ...]:
    """The owners in an answer to get_isolation."""
    return tuple(
        Owner(
            service=claim.service_name,
            cpus=CpuSet.parse(claim.allocated_cores),
            pool=claim.pool,
            snap=claim.owner.snap,
            unit=claim.owner.unit,
            pid=claim.owner.pid,
            asked_at=claim.owner.asked_at,
            cgroups=tuple(claim.owner.cgroups),
        )
        for claim in claims
    )


def recorded_claims(document: Any) -> Claims:
    """The claims in a report; a recording of a machine has none."""
    from pydantic import TypeAdapter, ValidationError

    from epa_orchestrator.protocol.isolation import ClaimIsolation

    isolation = cast("dict[str, Any]", document).get("isolation")
    claims = cast("dict[str, Any]", isolation).get("claims") if isinstance(isolation, dict) else None
    if claims is None:
        return Claims(None, "they are not in this recording, and a report has them")
    try:
        return Claims(owners_of(TypeAdapter(list[ClaimIsolation]).validate_python(claims)))
    except (ValidationError, ValueError):
        return Claims(None, "those in this report cannot be read")
