# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claims and their owners come from the daemon or a report; otherwise the reason is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from epa_orchestrator.cli.claim_owners import Claims, ask_claims, recorded_claims
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Owner
from tests.unit.cli.builders import Daemon
from tests.unit.client.builders import FakeServer

CLAIM = {
    "service_name": "nova",
    "pool": "isolated",
    "allocated_cores": "2-3",
    "owner": {"snap": "a", "unit": "a.service", "comm": "c", "pid": 7, "asked_at": 5.0, "cgroups": ["machine.slice"]},
    "since": None,
    "noise": None,
    "now": None,
    "strangers": [],
    "outside": [],
    "stacked": [],
    "culprit": None,
    "remedy": None,
    "problem": None,
}
OWNER = Owner("nova", CpuSet.parse("2-3"), "isolated", "a", "a.service", 7, 5.0, ("machine.slice",))


def test_daemon_tells_the_owners(daemon: Daemon) -> None:
    granted = daemon.client.allocate("nova", 2).allocated_cores
    claims = ask_claims(daemon.socket, needed=True)
    assert claims.owners is not None
    assert [(owner.service, str(owner.cpus), owner.pool) for owner in claims.owners] == [("nova", granted, "isolated")]
    assert str(claims.cpus_of("NOVA" if False else "nova")) == granted


def test_report_tells_the_owners() -> None:
    assert recorded_claims({"isolation": {"claims": [CLAIM]}}) == Claims((OWNER,))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({}, "they are not in this recording"),
        ({"isolation": 1}, "they are not in this recording"),
        ({"isolation": {"claims": 1}}, "those in this report cannot be read"),
        ({"isolation": {"claims": [CLAIM | {"allocated_cores": "x"}]}}, "those in this report cannot be read"),
        ({"isolation": {"claims": [{}]}}, "those in this report cannot be read"),
    ],
)
def test_recording_without_usable_claims_says_so(document: dict[str, object], reason: str) -> None:
    assert recorded_claims(document) == Claims(None, reason)


def test_host_without_a_daemon_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAP_DATA", str(tmp_path))
    claims = ask_claims(None, needed=False)
    assert claims.owners is None
    assert claims.reason.startswith(f"No daemon serves {tmp_path}")


class OlderDaemon(FakeServer):
    """Answers listings, and knows no get_isolation."""

    def reply(self, request: bytes) -> bytes:
        del request
        return b'{"version": "1.0", "supported_cpu_features": ["get-machine"], "total_allocations": 0}'
