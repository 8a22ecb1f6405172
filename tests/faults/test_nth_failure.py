"""The nth open, socket, accept, sync, write, … fails, for all n: an answer, a live watcher, a log line, a clean state.

One call fails once, in a real daemon. Only a start may end with an error, and then with one sentence. The short form
takes a sample of starts and stops, and one error for each n, the long one all.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator import store
from epa_orchestrator.lock import daemon_pid
from tests.functional.harness import PATIENCE, SMALL, Daemon, Json, connect, decode, encode, read_to_end, wait_until

from .nth import CALLS, ERRORS, Control, Table
from .recording import compile_library
from .states import State, of_daemon, of_ledger, opened

SEED: Final = 20251126
#: A daemon that does not answer within this time (seconds) hangs.
ANSWERS_WITHIN: Final = 5.0
#: After so many wrong outcomes the rest of a kind is left out: a daemon that hangs costs a time-out each time.
_ENOUGH: Final = 3

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
]
#: The isolated CPUs of the host.
CPUS: Final = 12
READINGS: Final = ("list_allocations", "get_memory_info")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls fail."""
    compiled = compile_library("nth_failure.c", tmp_path_factory.mktemp("nth"))
    if compiled is None:
        pytest.skip("no C compiler")
    return compiled


class Subject:
    """A daemon whose calls can fail, with a service manager that listens, and what is known of its state."""

    def __init__(self, library: Path, table: Table) -> None:
        self.daemon = Daemon(SMALL)
        self.table = table
        self.control = Control(library, self.daemon.base / "control", [self.daemon.base, self.daemon.host.root])
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(self.daemon.base / "notify"))
        self.environment = {**self.control.environment, "NOTIFY_SOCKET": str(self.daemon.base / "notify")}

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        process = self.daemon.process
        if process is not None:
            process.close()
        self.daemon.process = None
        with self.daemon, self._manager:
            self.control.close()

    def start(self) -> None:
        """Start it without a fault, with claims that nothing may touch."""
        self.control.disarm()
        self.daemon.start(self.environment)
        self.daemon.numa("kept", 0, 2, preemption_policy="non-preemptive")
        self.daemon.pages("kept", 1, 2048, 2)

    def call(self, action: str, fields: Json) -> Json | None:
        """The answer; None when the connection ends without one."""
        with connect(self.daemon.socket_path, ANSWERS_WITHIN) as client:
            try:
                with contextlib.suppress(BrokenPipeError):  # the daemon may have answered and closed already
                    client.sendall(encode(action, fields))
                answer = read_to_end(client)
            except (ConnectionError, TimeoutError):
                return None
        return decode(answer) if answer else None

    def stored(self) -> State:
        """What a start would find now, as after SIGKILL; fails when that does not verify."""
        return of_ledger(store.load(self.daemon.common / store.FILE_NAME).ledger)

    def said(self, since: int) -> str:
        """What the log says since then."""
        return self.daemon.log()[since:]

    def says(self, pattern: str, since: int) -> bool:
        """Whether a line of the log matches; the log may be a moment late."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: re.search(pattern, self.said(since), re.MULTILINE) is not None, "the log says it", 1.0)
            return True
        return False

    def wrong(self, since: int) -> str | None:
        """What is wrong with the daemon now that the fault is over, None when all is well."""
        self.control.disarm()
        process = self.daemon.process
        assert process is not None
        if not process.running:
            return f"the daemon has ended: {self.said(since)[-900:]}"
        try:
            shown, stored = of_daemon(self.daemon), self.stored()
        except (OSError, ValueError, KeyError, AssertionError, store.StateError) as error:
            return f"{type(error).__name__}: {error}; log: {self.said(since)[-900:]}"
        if "Traceback" in self.said(since) or "Exception in callback" in self.said(since):
            return f"a traceback: {self.said(since)[-900:]}"
        return None if shown == stored else f"it shows {shown}, stored is {stored}"

    def comes_back(self) -> str | None:
        """Whether the watcher lives: the socket file is removed and must come back."""
        self.control.disarm()
        self.daemon.socket_path.unlink(missing_ok=True)
        try:
            wait_until(self.answers, "the socket file is back", ANSWERS_WITHIN)
        except AssertionError as error:
            return str(error)
        return None

    def answers(self) -> bool:
        """Whether a client that connects by the socket file is answered."""
        try:
            return self.call("list_allocations", {}) is not None
        except OSError:
            return False

    def renew(self) -> None:
        """Let a daemon that something was wrong with be followed by one with a state of its own."""
        process = self.daemon.process
        assert process is not None
        process.close()
        for path in self.daemon.common.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.start()

    def killed_and_started(self) -> str | None:
        """Whether the same state is there after SIGKILL and a start."""
        before = of_daemon(self.daemon)
        self.daemon.kill()
        self.daemon.start(self.environment)
        after = of_daemon(self.daemon)
        return None if after == before else f"after SIGKILL: {after}, before: {before}"


def all_nth(subject: Subject, call: str, kind: str, long: bool, once: Callable[[int, int], str | None]) -> None:
    """Run `once` with n = 1, 2, 3, …, until the call is not made so often; it returns its outcome, or raises Wrong."""
    first, wrongs = CALLS.index(call), 0
    for nth in itertools.count(1):
        missed = True
        for number in ERRORS if long else (ERRORS[(nth + first) % len(ERRORS)],):
            try:
                outcome = once(nth, number)
            except Wrong as wrong:
                subject.table.problem(call, kind, nth, number, str(wrong))
                subject.renew()
                missed = False
                wrongs += 1
                if wrongs == _ENOUGH:
                    return
                continue
            if outcome is not None:
                subject.table.add(call, kind, outcome)
                missed = False
        if missed:
            return


class Wrong(Exception):
    """What a failure must not lead to."""


def conclude(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    """Print the table, and fail when something was wrong."""
    with capsys.disabled():
        print(f"\n{table.text()}")
    assert not table.problems, "\n".join([table.text(), *table.problems])


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
            raise Wrong(f"{action} {fields}: refused without a word in the log")
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
    """Check that what was granted is there."""
    service = fields.get("service_name", "")
    wanted = fields.get("num_of_cores", fields.get("percent", fields.get("hugepages_requested", 0)))
    held = service in after["claims"] or any(key.startswith(f"{service} ") for key in after["pages"])
    if action in READINGS or fields.get("dry_run"):
        if after != before:
            raise Wrong(f"{action}: {before} became {after}")
    elif held != (wanted > 0):
        raise Wrong(f"{action} {fields} was granted, but {before} became {after}")


@pytest.mark.parametrize("part", range(2))
def test_requests(library: Path, capsys: pytest.CaptureFixture[str], long: bool, part: int) -> None:
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


def test_putting_the_socket_back(library: Path, capsys: pytest.CaptureFixture[str], long: bool) -> None:
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


def test_reading_the_settings_again(library: Path, capsys: pytest.CaptureFixture[str], long: bool) -> None:
    def reload(subject: Subject, nth: int, number: int, call: str) -> str | None:
        since = len(subject.daemon.log())
        before = of_daemon(subject.daemon)
        subject.daemon.configure({"log-level": "info"})
        subject.control.arm(call, nth, number)
        subject.daemon.send_signal(signal.SIGHUP)
        told = ("settings read again", "settings in use stay")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: any(text in subject.said(since) for text in told), "it tells", ANSWERS_WITHIN)
        time.sleep(0.02)  # READY=1 follows
        hit = subject.control.hit
        if wrong := subject.wrong(since):
            raise Wrong(wrong)
        if not any(text in subject.said(since) for text in told):
            raise Wrong("nothing in the log")
        if of_daemon(subject.daemon) != before:
            raise Wrong("the state changed")
        kept = told[1] in subject.said(since)
        if kept and not hit:
            raise Wrong("the settings were not read although nothing failed")
        return ("settings kept" if kept else "settings read") if hit else None

    def job(subject: Subject, call: str) -> None:
        all_nth(subject, call, "SIGHUP", long, lambda nth, number: reload(subject, nth, number, call))
        said = len(subject.daemon.log())
        subject.control.disarm()
        subject.daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings read again" in subject.said(said), "the settings are read without a fault")
        if wrong := subject.comes_back():
            subject.table.problem(call, "SIGHUP", 0, ERRORS[0], wrong)

    conclude(in_parallel(library, ("open", "socket", "connect", "send"), job), capsys)


def test_tidies(library: Path, capsys: pytest.CaptureFixture[str], long: bool) -> None:
    def tidy(subject: Subject, nth: int, number: int, call: str) -> str | None:
        subject.control.disarm()
        log = subject.daemon.common / f"{store.FILE_NAME}-wal"
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
        all_nth(subject, call, "a tidy", long, lambda nth, number: tidy(subject, nth, number, call))
        if wrong := subject.comes_back() or subject.killed_and_started():
            subject.table.problem(call, "a tidy", 0, ERRORS[0], wrong)

    conclude(in_parallel(library, ("open", "sync", "write", "allocate"), job), capsys)


@contextlib.contextmanager
def copy_of(directory: Path) -> Generator[Path]:
    """A copy of a state directory, so that opening it leaves the original as it is."""
    with tempfile.TemporaryDirectory(prefix="epa-") as temporary:
        copy = Path(temporary, "common")
        shutil.copytree(directory, copy)
        yield copy


def found_at_a_start(subject: Subject) -> State | str:
    """What the next start finds; why it cannot write, when it cannot."""
    with copy_of(subject.daemon.common) as copy:
        state, opened_store, problem = opened(copy, subject.daemon.data / "data" / "state.json")
        if opened_store is not None:
            opened_store.close()
        return state if state is not None and problem is None else f"not usable: {problem}"


def sample(calls: int, most: int, chance: random.Random) -> list[int]:
    """Some n up to this number, spread over the range, the first and the last among them."""
    if calls <= most:
        return list(range(1, calls + 1))
    inner = (1 + (calls - 1) * (index + chance.random()) // (most - 1) for index in range(1, most - 1))
    return sorted({1, calls, *map(int, inner)})


def ended(output: str) -> str | None:
    """What is wrong with the output of a start that ended with an error, None when it is one sentence."""
    if "Traceback" in output:
        return f"a traceback: {output[-900:]}"
    lines = [line for line in output.splitlines() if not re.match(r"(DEBUG|INFO|WARNING|ERROR) ", line)]
    text = " ".join(" ".join(line.strip(" │╭╮╰╯─") for line in lines).split())
    return None if text.count(". ") == 0 and 10 < len(text) < 500 else f"not one sentence: {output[-900:]}"


class Starts:
    """Starts of one daemon, each from the same files."""

    def __init__(self, subject: Subject, first: bool) -> None:
        self.subject = subject
        self.kind = "the first start" if first else "a start"
        legacy = subject.daemon.data / "data" / "state.json"
        legacy.parent.mkdir(exist_ok=True)
        legacy.write_text(json.dumps({"version": 1, "allocations_db": {"allocations": {"old": "1-3"}}}))
        if not first:
            subject.start()
            subject.daemon.kill()
        self._files = {path.name: path.read_bytes() for path in subject.daemon.common.iterdir()}
        self.expected = found_at_a_start(subject)
        assert isinstance(self.expected, dict), self.expected

    def launch(self) -> bool:
        """Start from the files of the beginning; whether it answers, else it has ended."""
        daemon = self.subject.daemon
        if daemon.process is not None:
            daemon.process.close()
        for path in daemon.common.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, content in self._files.items():
            (daemon.common / name).write_bytes(content)
        process = daemon.launch(self.subject.environment)
        deadline = time.monotonic() + PATIENCE
        while process.running and time.monotonic() < deadline:
            if self.subject.answers():
                return True
            time.sleep(0.01)
        if process.running:
            raise Wrong(f"it neither answers nor ends: {daemon.log()[-900:]}")
        process.wait()
        return False

    def once(self, call: str, nth: int, number: int) -> str | None:
        """One start while the nth call fails."""
        subject = self.subject
        subject.control.arm(call, nth, number)
        answers = self.launch()
        hit = subject.control.hit
        subject.control.disarm()
        process = subject.daemon.process
        assert process is not None
        if not answers:
            if process.popen.returncode == 0:
                raise Wrong("it ended with exit code 0")
            if wrong := ended(subject.daemon.log()):
                raise Wrong(wrong)
            outcome = "ended with a sentence"
        else:
            outcome = self._running()
        process.close()
        if (found := found_at_a_start(subject)) != self.expected:
            raise Wrong(f"{outcome}; then a start finds {found}, not {self.expected}")
        return outcome if hit else None

    def _running(self) -> str:
        """Check a daemon that answers although a call has failed."""
        subject = self.subject
        if "Traceback" in subject.daemon.log():
            raise Wrong(f"a traceback: {subject.daemon.log()[-900:]}")
        listing = subject.call("list_allocations", {})
        assert listing is not None
        if "state_error" in listing:
            if "ERROR" not in subject.daemon.log():
                raise Wrong("only readings are served, without a word in the log")
            return "readings only"
        if daemon_pid(subject.daemon.common) != subject.daemon.pid:
            raise Wrong("it serves changes without holding the lock")
        if of_daemon(subject.daemon) != self.expected:
            raise Wrong(f"it shows {of_daemon(subject.daemon)}")
        return "served"


@pytest.mark.parametrize("first", [True, False], ids=["the first start", "a start"])
def test_starts(library: Path, capsys: pytest.CaptureFixture[str], long: bool, first: bool) -> None:
    table, chance = Table(), random.Random(SEED)
    with Subject(library, table) as subject:
        starts = Starts(subject, first)
        for call in CALLS:
            subject.control.count(call)
            assert starts.launch()
            time.sleep(0.05)
            total = subject.control.seen(call)
            for nth in range(1, total + 1) if long else sample(total, 3, chance):
                for number in ERRORS if long else (chance.choice(ERRORS),):
                    try:
                        outcome = starts.once(call, nth, number)
                    except Wrong as wrong:
                        table.problem(call, starts.kind, nth, number, str(wrong))
                    else:
                        table.add(call, starts.kind, outcome or "not reached")
    conclude(table, capsys)


def unsaved_change(subject: Subject) -> None:
    """A change that has not been tidied into the database yet."""
    held = "last" in of_daemon(subject.daemon)["claims"]
    subject.daemon.cores("last", -1 if held else 1)


def stop_once(subject: Subject, call: str, nth: int, number: int) -> str | None:
    """A stop while the nth call fails; started before, with a change that it has not tidied away."""
    subject.control.disarm()
    process = subject.daemon.process
    if process is None or not process.running:
        subject.daemon.start(subject.environment)
    unsaved_change(subject)
    expected = of_daemon(subject.daemon)
    subject.control.arm(call, nth, number)
    subject.daemon.send_signal(signal.SIGTERM)
    try:
        code = subject.daemon.wait(PATIENCE)
    finally:
        hit = subject.control.hit
        subject.control.disarm()
    if code != 0 or "Traceback" in subject.daemon.log():
        raise Wrong(f"exit code {code}: {subject.daemon.log()[-900:]}")
    if (found := found_at_a_start(subject)) != expected:
        raise Wrong(f"then a start finds {found}, not {expected}")
    return "stopped" if hit else None


def test_stops(library: Path, capsys: pytest.CaptureFixture[str], long: bool) -> None:
    table, chance = Table(), random.Random(SEED)
    with Subject(library, table) as subject:
        subject.start()
        for call in CALLS:
            unsaved_change(subject)
            subject.control.count(call)
            assert subject.daemon.stop() == 0
            total = subject.control.seen(call)
            for nth in range(1, total + 1) if long else sample(total, 2, chance):
                for number in ERRORS if long else (chance.choice(ERRORS),):
                    try:
                        outcome = stop_once(subject, call, nth, number)
                    except Wrong as wrong:
                        table.problem(call, "a stop", nth, number, str(wrong))
                    else:
                        table.add(call, "a stop", outcome or "not reached")
            subject.control.disarm()
            subject.daemon.start(subject.environment)
    conclude(table, capsys)
