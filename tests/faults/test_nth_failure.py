# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The nth open, socket, accept, sync or other call fails, for all n: the daemon answers, logs it, and keeps its state.

One call fails once, in a real daemon that serves requests, puts its socket back, reads its settings or tidies.
The short form takes one error for each n, the long one all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.state import database_files
from tests.functional.harness import Json, wait_until

from .nth import CALLS, ERRORS, Table
from .preload import compile_library
from .states import State, of_daemon
from .subject import ANSWERS_WITHIN, Subject, Wrong, all_nth, conclude

#: A request of each kind; each changes something, or shows something.
REQUESTS: Final[list[tuple[str, Json]]] = [
    ("allocate_cores", {"service_name": "a", "num_of_cores": 3}),
    ("allocate_cores", {"service_name": "a", "num_of_cores": -1}),
    ("allocate_cores_percent", {"service_name": "b", "percent": 30}),
    ("allocate_cores_percent", {"service_name": "b", "percent": 0}),
    ("allocate_numa_cores", {"service_name": "c", "numa_node": 1, "num_of_cores": 2}),
    ("allocate_numa_cores", {"service_name": "c", "numa_node": 1, "num_of_cores": -1}),
    ("allocate_cores", {"service_name": "d", "num_of_cores": 1, "dry_run": True}),
    ("allocate_hugepages", {"service_name": "e", "node_id": 0, "size_kb": 2048, "hugepages_requested": 3}),
    ("allocate_hugepages", {"service_name": "e", "node_id": 0, "size_kb": 2048, "hugepages_requested": -1}),
    ("list_allocations", {}),
    ("get_memory_info", {}),
    ("get_machine", {}),
]
#: The isolated CPUs of the host.
CPUS: Final = 12
READINGS: Final = ("list_allocations", "get_memory_info", "get_machine")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls fail."""
    return compile_library("nth_failure.c", tmp_path_factory.mktemp("nth"))


def one_request(subject: Subject, call: str, action: str, fields: Json, nth: int, number: int) -> str | None:
    """One request while the nth call fails; None when it was not made so often."""
    before, since = of_daemon(subject.daemon), len(subject.daemon.log())
    truth = subject.call(action, fields) if action in READINGS else None
    subject.control.arm(call, nth, number)
    answer = subject.call(action, fields)
    hit = subject.control.hit
    if wrong := subject.wrong(since):
        raise Wrong(f"{action} {fields}, answer {answer}: {wrong}")
    after = of_daemon(subject.daemon)
    if answer is None and call != "send":
        raise Wrong(f"{action} {fields}: no answer")
    if answer is not None and "error" in answer:
        if after != before:
            raise Wrong(f"{action} {fields}: refused with {answer}, but {before} became {after}")
        if hit and not subject.says(r"^(ERROR|WARNING|INFO .*: (?!served))", since):
            raise Wrong(f"{action} {fields}: refused without a line in the log")
    elif answer is not None and truth is not None and answer != truth:
        raise Wrong(f"{action}: the answer {answer} is not true: {truth}")
    elif answer is not None and answer.get("total_available_cpus", CPUS) != CPUS:
        raise Wrong(f"{action} {fields}: the answer {answer} is not true: {CPUS} CPUs are eligible")
    elif answer is not None:
        carried_out(action, fields, before, after)
    if not hit:
        return None
    if answer is None:
        return "no answer"
    return "refused" if "error" in answer else "granted"


def carried_out(action: str, fields: Json, before: State, after: State) -> None:
    """Check that a granted request was carried out."""
    service = fields.get("service_name", "")
    wanted = fields.get("num_of_cores", fields.get("percent", fields.get("hugepages_requested", 0)))
    held = service in after["claims"] or any(key.startswith(f"{service} ") for key in after["pages"])
    if action in READINGS or fields.get("dry_run"):
        if after != before:
            raise Wrong(f"{action}: {before} became {after}")
    elif held != (wanted > 0):
        raise Wrong(f"{action} {fields} was granted, but {before} became {after}")


@pytest.mark.parametrize("part", range(2))
def test_requests_survive_every_failing_call(
    library: Path, capsys: pytest.CaptureFixture[str], long: bool, part: int
) -> None:
    table = Table()
    with Subject(library, table) as subject:
        subject.start()
        for call in CALLS[part::2]:
            for action, fields in REQUESTS:
                all_nth(
                    subject,
                    call,
                    action,
                    long,
                    lambda nth, number, call=call, action=action, fields=fields: one_request(
                        subject, call, action, fields, nth, number
                    ),
                )
                granted = subject.call(action, fields)
                assert granted is not None
                assert "error" not in granted, granted
            if wrong := subject.comes_back() or subject.killed_and_started():
                table.problem(call, "afterwards", 0, ERRORS[0], wrong)
    conclude(table, capsys)


def in_parallel(library: Path, calls: tuple[str, ...], job: Callable[[Subject, str], None]) -> Table:
    """Run a job for each call, each with a daemon of its own, as they wait most of the time."""
    table, failures = Table(), list[BaseException]()

    def run(call: str) -> None:
        try:
            with Subject(library, table) as subject:
                subject.start()
                job(subject, call)
        except BaseException as error:  # noqa: BLE001  # passed on below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return table


def test_socket_returns_despite_every_failing_call(
    library: Path, capsys: pytest.CaptureFixture[str], long: bool
) -> None:
    def put_back(subject: Subject, nth: int, number: int, call: str) -> str | None:
        since = len(subject.daemon.log())
        before = of_daemon(subject.daemon)
        subject.control.arm(call, nth, number)
        subject.daemon.socket_path.unlink(missing_ok=True)
        try:
            wait_until(subject.answers, "the socket file is back", ANSWERS_WITHIN)
        except AssertionError as error:
            raise Wrong(f"{error}; log: {subject.said(since)[-900:]}") from None
        hit = subject.control.hit
        if wrong := subject.wrong(since):
            raise Wrong(wrong)
        if of_daemon(subject.daemon) != before:
            raise Wrong("the state changed")
        if not subject.says("^(ERROR|WARNING)", since):
            raise Wrong(f"nothing in the log: {subject.said(since)}")
        reason = os.strerror(number) in subject.said(since)
        return ("back, with the reason" if reason else "back") if hit else None

    def job(subject: Subject, call: str) -> None:
        all_nth(
            subject, call, "putting the socket back", long, lambda nth, number: put_back(subject, nth, number, call)
        )
        if wrong := subject.comes_back() or subject.killed_and_started():
            subject.table.problem(call, "putting the socket back", 0, ERRORS[0], wrong)

    calls = ("open", "socket", "accept", "rename", "connect", "send", "bind", "unlink", "mkdir")
    conclude(in_parallel(library, calls, job), capsys)


def test_reload_survives_every_failing_call(library: Path, capsys: pytest.CaptureFixture[str], long: bool) -> None:
    def reload(subject: Subject, nth: int, number: int, call: str) -> str | None:
        since = len(subject.daemon.log())
        before = of_daemon(subject.daemon)
        subject.daemon.configure({"log-level": "info"})
        subject.control.arm(call, nth, number)
        subject.daemon.send_signal(signal.SIGHUP)
        read, kept = "settings read again", "settings in use stay"
        with contextlib.suppress(AssertionError):  # a missing line is reported below
            wait_until(lambda: any(text in subject.said(since) for text in (read, kept)), "a line", ANSWERS_WITHIN)
        time.sleep(0.02)  # READY=1 follows
        hit = subject.control.hit
        if wrong := subject.wrong(since):
            raise Wrong(wrong)
        if not any(text in subject.said(since) for text in (read, kept)):
            raise Wrong("nothing in the log")
        if of_daemon(subject.daemon) != before:
            raise Wrong("the state changed")
        if kept in subject.said(since) and not hit:
            raise Wrong("the settings were not read although nothing failed")
        return ("settings kept" if kept in subject.said(since) else "settings read") if hit else None

    def job(subject: Subject, call: str) -> None:
        all_nth(subject, call, "SIGHUP", long, lambda nth, number: reload(subject, nth, number, call))
        said = len(subject.daemon.log())
        subject.control.disarm()
        subject.daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings read again" in subject.said(said), "the settings are read without a fault")
        if wrong := subject.comes_back():
            subject.table.problem(call, "SIGHUP", 0, ERRORS[0], wrong)

    conclude(in_parallel(library, ("open", "socket", "connect", "send"), job), capsys, least=3)


def test_tidy_survives_every_failing_call(library: Path, capsys: pytest.CaptureFixture[str], long: bool) -> None:
    def tidy(subject: Subject, nth: int, number: int, call: str) -> str | None:
        subject.control.disarm()
        log = subject.daemon.common / f"{database_files.FILE_NAME}-wal"
        since = len(subject.daemon.log())
        for count in (1, 2):
            subject.daemon.cores("busy", count)
        before = of_daemon(subject.daemon)
        subject.control.arm(call, nth, number)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: subject.control.hit or log.stat().st_size == 0, "it tidies", 3.0)
        time.sleep(0.05)
        hit = subject.control.hit
        if wrong := subject.wrong(since):
            raise Wrong(wrong)
        if of_daemon(subject.daemon) != before:
            raise Wrong("the state changed")
        if not hit:
            if log.stat().st_size:
                raise Wrong("it did not tidy although nothing failed")
            return None
        if log.stat().st_size and not subject.says("^(ERROR|WARNING)", since):
            raise Wrong("nothing in the log")
        return "tidied later" if log.stat().st_size else "tidied"

    def job(subject: Subject, call: str) -> None:
        all_nth(subject, call, "a tidy", long, lambda nth, number: tidy(subject, nth, number, call), gaps=True)
        if wrong := subject.comes_back() or subject.killed_and_started():
            subject.table.problem(call, "a tidy", 0, ERRORS[0], wrong)

    conclude(in_parallel(library, ("open", "sync", "write", "allocate"), job), capsys)
