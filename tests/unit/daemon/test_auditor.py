# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Auditor: its thread begins late, reads again soon after a change, works little, survives errors and ends at once."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon import auditor as module
from epa_orchestrator.daemon.auditor import Auditor
from epa_orchestrator.daemon.current import Current, State
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.isolation.host_files import HostFiles, RecordedHost, Unread
from tests.unit.daemon.audited import claim, files_of
from tools.synthetic import Shape, build

#: How long (seconds) a test waits for the thread.
_PATIENCE = 20.0


@pytest.fixture
def current() -> Current:
    return Current(Host(RecordedSysfs(build(Shape(isolated="2-3"))), Settings()), State(Ledger(), None, None))


@pytest.fixture
def auditors() -> Iterator[list[Auditor]]:
    """Auditors that end with the test."""
    made: list[Auditor] = []
    yield made
    for each in made:
        each.close()


def wait_for(what: Callable[[], object]) -> None:
    ends = time.monotonic() + _PATIENCE
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.01)


def begun(auditors: list[Auditor], current: Current, open_host: Callable[[], HostFiles | None]) -> Auditor:
    """An auditor whose thread has begun."""
    auditor = Auditor(current, Settings, open_host)
    auditors.append(auditor)
    settings = Settings()
    auditor._settings = lambda: settings
    auditor.notice()
    auditor.notice()
    return auditor


def test_the_thread_begins_with_the_second_notice(current: Current, auditors: list[Auditor]) -> None:
    auditor = Auditor(current, Settings, lambda: RecordedHost(files_of()))
    auditors.append(auditor)
    auditor.notice()
    assert (auditor._thread, auditor.last) == (None, None)
    auditor.notice()
    wait_for(lambda: auditor.last)


def test_without_a_host_nothing_is_audited(current: Current) -> None:
    auditor = Auditor(current, Settings, None)
    auditor.notice()
    auditor.notice()
    assert auditor._thread is None
    auditor.close()


def test_a_machine_without_a_host_is_not_audited(current: Current, auditors: list[Auditor]) -> None:
    auditor = begun(auditors, current, lambda: None)
    assert auditor._thread is not None
    auditor._thread.join(_PATIENCE)
    auditor.notice()
    assert (auditor._thread.is_alive(), auditor.last) == (False, None)


def test_changed_claims_are_audited_soon(
    current: Current, auditors: list[Auditor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_PAUSE", 0.01)
    auditor = begun(auditors, current, lambda: RecordedHost(files_of()))
    wait_for(lambda: auditor.last)
    first = auditor.last
    auditor.notice()
    time.sleep(0.2)
    assert auditor.last is first
    current.ledger = Ledger.of([claim("ovs", "2-3")], {})
    auditor.notice()
    wait_for(lambda: auditor.last is not first)
    assert auditor.last is not None
    assert set(auditor.last.claims) == {"ovs"}


def test_an_audit_that_fails_is_logged_and_made_again(
    current: Current, auditors: list[Auditor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_LEAST_PAUSE", 0.01)
    monkeypatch.setattr(module, "_EVERY", 0.01)
    calls: list[str] = []

    class Failing(RecordedHost):
        def read(self, path: str) -> str | Unread:
            calls.append(path)
            if len(calls) == 1:
                raise MemoryError
            return super().read(path)

    auditor = begun(auditors, current, lambda: Failing(files_of()))
    wait_for(lambda: auditor.last)
    assert "could not be audited" in caplog.text


def test_a_host_that_cannot_be_opened_ends_the_audit_only(
    current: Current, auditors: list[Auditor], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> HostFiles:
        raise ValueError("no recording")

    auditor = begun(auditors, current, fail)
    wait_for(lambda: "audited no longer" in caplog.text)
    auditor.notice()
    assert auditor.last is None


def test_the_end_does_not_wait_for_a_reading(current: Current, auditors: list[Auditor]) -> None:
    """A host with tasks without an end."""
    resting = threading.Event()

    class Endless(RecordedHost):
        def names(self, directory: str) -> list[str]:
            return [str(number) for number in range(1, 3)] if directory == "proc" else []

        def read(self, path: str) -> str:
            while True:
                auditors[0]._rest()
                resting.set()

    auditor = begun(auditors, current, lambda: Endless({}))
    assert resting.wait(_PATIENCE)
    began = time.monotonic()
    auditor.close()
    assert time.monotonic() - began < 0.5
    assert auditor._thread is not None
    assert not auditor._thread.is_alive()


def test_it_rests_ten_times_as_long_as_it_works(current: Current) -> None:
    auditor = Auditor(current, Settings, None)
    auditor._worked = time.thread_time()
    began, worked = time.monotonic(), time.thread_time()
    while time.monotonic() - began < 0.5:
        sum(range(100))
        auditor._rest()
    share = (time.thread_time() - worked) / (time.monotonic() - began)
    assert share < 0.15


def test_a_thread_that_cannot_start_is_tried_again(
    current: Current, auditors: list[Auditor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        auditor = begun(auditors, current, lambda: RecordedHost(files_of()))
        auditor.notice()
        auditor.close()  # there is nothing to wait for
    assert caplog.text.count("not audited yet") == 1
    auditor = begun(auditors, current, lambda: RecordedHost(files_of()))
    wait_for(lambda: auditor.last)


def test_a_host_that_cannot_be_opened_for_want_of_room_is_tried_again(
    current: Current, auditors: list[Auditor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.01)
    errors: list[Exception] = [MemoryError(), OSError(errno.EMFILE, "Too many open files")]

    def open_host() -> HostFiles:
        if errors:
            raise errors.pop()
        return RecordedHost(files_of())

    auditor = begun(auditors, current, open_host)
    wait_for(lambda: auditor.last)
    assert caplog.text.count("not audited yet") == 2
