# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The isolation of a report: the facts of one reading of the host, what the audit finds in them, and the claims."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epa_orchestrator.cli.audit_screen import document
from epa_orchestrator.cli.audited_host import options_of, terms_of
from epa_orchestrator.cli.claim_owners import FEATURE, owners_of
from epa_orchestrator.client import DaemonError
from epa_orchestrator.errors import EpaError
from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.judge import judge
from epa_orchestrator.isolation.recording import record_host

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.isolation.facts import Facts
    from epa_orchestrator.isolation.host_files import HostFiles
    from epa_orchestrator.protocol.isolation import ClaimIsolation


class ReportedIsolation:
    """Reads a host once, at the time `at` (seconds since 1970), as a reading of a report and as what is found in it."""

    def __init__(self, files: HostFiles, at: float, client: Client, settings_file: Path | None) -> None:
        self._files = files
        self._at = at
        self._client = client
        self._settings_file = settings_file

    @property
    def facts(self) -> dict[str, Any]:
        """The document that a recording has."""
        return self._reading[1]

    @property
    def found(self) -> dict[str, Any]:
        """The checks, and the claims if the daemon tells them."""
        claims = self._claims()
        owners = None if claims is None else owners_of(claims)
        case = Case(self._reading[0], None, owners, terms_of(options_of(self._settings_file)))
        told = {} if claims is None else {"claims": [claim.model_dump(mode="json") for claim in claims]}
        return document(judge(case)) | told

    @cached_property
    def _reading(self) -> tuple[Facts, dict[str, Any]]:
        return record_host(self._files, self._at)

    def _claims(self) -> list[ClaimIsolation] | None:
        try:
            return self._client.isolation().claims if self._client.supports(FEATURE) else None
        except DaemonError:
            return None


def isolation_of(reported: ReportedIsolation | None) -> dict[str, Any]:
    """The part of the report. Raises EpaError where there is no host to judge."""
    if reported is None:
        raise EpaError("the recorded machine has no facts about isolation")
    return reported.found
