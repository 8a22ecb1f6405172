# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claims and their owners come from the daemon or a report; otherwise the reason is told."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import typer

from epa_orchestrator.cli.claim_owners import Claims, ask_claims, recorded_claims
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Owner
from tests.unit.cli.builders import HostileServer

CLAIM: dict[str, Any] = {
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


def test_report_tells_the_owners() -> None:
    assert recorded_claims({"isolation": {"claims": [CLAIM]}}) == Claims((OWNER,))


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"pools": {}}, "they are not in this recording, and a report has them"),
    ({"isolation": 1}, "they are not in this recording, and a report has them"),
    ({"isolation": {"claims": 1}}, "those in this report cannot be read"),
    ({"isolation": {"claims": [CLAIM | {"allocated_cores": "x"}]}}, "those in this report cannot be read"),
    ({"isolation": {"claims": [{}]}}, "those in this report cannot be read"),
]


@pytest.mark.parametrize(("document", "reason"), UNUSABLE)
def test_recording_without_usable_claims_says_so(document: dict[str, Any], reason: str) -> None:
    assert recorded_claims(document) == Claims(None, reason)


def test_host_without_a_daemon_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAP_DATA", str(tmp_path))
    claims = ask_claims(None, needed=False)
    assert claims.owners is None
    assert claims.reason.startswith(f"No daemon serves {tmp_path}")


def test_older_daemon_says_so(tmp_path: Path) -> None:
    server = HostileServer(tmp_path / "older" / "epa.sock", escapes="")
    try:
        claims = ask_claims(server.path, needed=False)
    finally:
        server.stop()
    assert claims == Claims(None, "this daemon is older than this command: upgrade the daemon")


def test_newer_daemon_tells_the_owners(tmp_path: Path) -> None:
    server = HostileServer(tmp_path / "newer" / "epa.sock", escapes="", features=["get-isolation"])
    other = server.handler
    answer: dict[str, Any] = {"version": "1.0", "read_at": 9.0, "checks": [], "claims": [CLAIM]}

    def handle(connection: socket.socket) -> None:
        if server.requests[-1]["action"] == "get_isolation":
            connection.sendall(json.dumps(answer).encode())
        else:
            other(connection)

    server.handler = handle
    try:
        assert ask_claims(server.path, needed=True) == Claims((OWNER,))
        answer["read_at"] = None
        unread = ask_claims(server.path, needed=True)
        assert unread.owners is None
        assert unread.reason == "the daemon has not read this host: it serves a recorded machine, or has just started"
    finally:
        server.stop()


def test_service_without_cpus_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        Claims((OWNER,)).cpus_of("nowa")
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == ("epa-orchestrator: The service 'nowa' holds no CPUs; did you mean 'nova'?\n")


def test_service_has_the_cpus_of_both_pools() -> None:
    other = Owner("nova", CpuSet.parse("1"), "general")
    assert Claims((OWNER, other)).cpus_of("nova") == CpuSet.parse("1-3")


def test_service_of_unknown_claims_is_wrong_use() -> None:
    with pytest.raises(
        typer.BadParameter, match="--service needs the claims: they are not in this recording, and a report has them"
    ):
        Claims(None, "they are not in this recording, and a report has them").cpus_of("nova")
