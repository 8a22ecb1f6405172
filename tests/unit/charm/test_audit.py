# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The unit's status names the checks that fail, and the audit never fails an event."""

from __future__ import annotations

from pathlib import Path

import pytest

import audit
import daemon_health
from deadline import DeadlineError
from epa_orchestrator.isolation.elapsed import TWO_READINGS
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from tests.small_hosts import host


@pytest.fixture(autouse=True)
def _no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_health, "SOCKET", tmp_path / "x1" / "data" / "epa.sock")


def test_good_host_has_no_note() -> None:
    assert audit.note(RecordedHost(host())) == ""


def test_failed_checks_are_named_with_the_action() -> None:
    note = audit.note(RecordedHost(host("isolcpus=managed_irq,2-3", isolated="")))
    assert note.startswith("isolation is broken: ")
    assert "A3" in note
    assert note.endswith("; run the action audit-isolation")


def test_options_of_the_snap_count(tmp_path: Path) -> None:
    files = host("isolcpus=domain,2-3")
    assert "C1 (" in audit.note(RecordedHost(files))
    settings = daemon_health.settings_file()
    settings.parent.mkdir(parents=True)
    settings.write_text('{"nohz-full": "none"}')
    assert tmp_path in settings.parents
    assert audit.note(RecordedHost(files)) == ""


class BrokenHost:
    """Raises an error when a file is read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, path: str) -> str | Unread:
        raise self._error

    def names(self, directory: str) -> list[str] | Unread:
        raise self._error


def test_error_of_the_audit_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    assert audit.note(BrokenHost(ValueError("boom"))) == ""
    assert "the host's isolation could not be judged: ValueError: boom" in caplog.text


def test_deadline_of_the_event_is_not_swallowed() -> None:
    with pytest.raises(DeadlineError):
        audit.note(BrokenHost(DeadlineError("late")))


def test_audit_that_takes_too_much_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "_MOST_CPU_TIME", -1.0)
    more = {f"proc/{pid}/{name}": text for pid in range(500, 600) for name, text in SSHD.items()}
    assert audit.note(RecordedHost(host("isolcpus=managed_irq,2-3", isolated="") | more)) == ""
    assert "it takes more than -1 s of CPU time" in caplog.text


SSHD = {path.removeprefix("proc/300/"): text for path, text in host().items() if path.startswith("proc/300/stat")}


def test_note_is_short() -> None:
    failed = [Finding(check, "fail", "x" * 500) for check in ("A1", "A2", "A3", "B1", "B2", "C1", "D2")]
    shown = f"A1 ({'x' * 89}…), A2, A3, B1, B2, 2 more"
    assert audit._sentence(failed) == f"isolation is broken: {shown}; run the action audit-isolation"


def test_text_says_how_the_action_measures() -> None:
    check = {"id": "C2", "result": "not-checked", "seen": f"needs {TWO_READINGS}", "remedy": ""}
    text = audit.text({"checks": [check]})
    assert "C2: needs two readings: run the action with measure=5" in text
