# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A report has the facts of one reading, what the audit finds in them, and the claims of a daemon that tells them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epa_orchestrator.cli.report_isolation import ReportedIsolation, isolation_of
from epa_orchestrator.client import Client
from epa_orchestrator.errors import EpaError
from epa_orchestrator.isolation.findings import CHECKS
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from tests.small_hosts import host
from tests.unit.cli.builders import Command, HostileServer
from tools.synthetic import Shape, build, write_tree


class CountedHost(RecordedHost):
    """Counts how often the kernel line is read."""

    lines = 0

    def read(self, path: str) -> str | Unread:
        self.lines += path == "proc/uptime"
        return super().read(path)


def test_facts_and_findings_are_of_one_reading(tmp_path: Path) -> None:
    files = CountedHost(host("isolcpus=managed_irq,2-3", isolated=""))
    reported = ReportedIsolation(files, 5.0, Client(tmp_path / "x"), None)
    found = isolation_of(reported)
    assert reported.facts["at"] == 5.0
    assert files.lines == 1
    assert [check["id"] for check in found["checks"]] == list(CHECKS)
    assert "claims" not in found


def test_options_count(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"nohz-full": "none"}')
    results: list[str] = []
    for settings in (None, tmp_path / "settings.json"):
        reported = ReportedIsolation(RecordedHost(host("isolcpus=2-3")), 5.0, Client(tmp_path / "x"), settings)
        results += [check["result"] for check in reported.found["checks"] if check["id"] == "C1"]
    assert results == ["fail", "pass"]


def test_recorded_machine_without_facts_says_so() -> None:
    with pytest.raises(EpaError, match="the recorded machine has no facts about isolation"):
        isolation_of(None)


def test_older_daemon_tells_no_claims(tmp_path: Path) -> None:
    server = HostileServer(tmp_path / "a" / "epa.sock", escapes="")
    try:
        found = ReportedIsolation(RecordedHost(host()), 5.0, Client(server.path), None).found
    finally:
        server.stop()
    assert list(found) == ["checks"]


def test_report_of_a_recorded_machine_misses_the_isolation_only(offline: Command) -> None:
    document = json.loads(offline.run("report", "--machine", "vm-8").stdout)
    assert document["missing"]["isolation"] == "the recorded machine has no facts about isolation"
    assert "host" not in document["recording"]


def test_fault_of_the_audit_loses_no_recording(offline: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    write_tree(build(Shape()), offline.base / "sys")
    offline.environment["EPA_SYSFS"] = str(offline.base / "sys")
    monkeypatch.setattr("epa_orchestrator.cli.report_isolation.record_host", broken)
    document = json.loads(offline.run("report").stdout)
    assert document["missing"]["isolation"] == "RuntimeError: boom"
    assert document["missing"]["facts of the isolation"] == "RuntimeError: boom"
    assert "devices/system/cpu/present" in document["recording"]["files"]
