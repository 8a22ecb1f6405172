# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The daemon whose calls fail, the checks of it afterwards, and the loop over all n."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.state import database_files, loading
from epa_orchestrator.state.errors import StateError
from tests.functional.harness import SMALL, Daemon, Json, connect, decode, encode, read_to_end, wait_until

from .nth import CALLS, ERRORS, Control, Table
from .states import State, of_daemon, of_ledger

#: A daemon that does not answer within this time (seconds) hangs.
ANSWERS_WITHIN: Final = 5.0
#: After this many wrong outcomes the rest of a kind is left out, because each hanging daemon costs a time-out.
_ENOUGH: Final = 3


class Subject:
    """A daemon whose calls can fail, with a service manager that listens, and checks of its state."""

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
        """Start it without a fault, with claims that must not change."""
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
        """The state that a start would find now, as after SIGKILL; fails when it does not verify."""
        return of_ledger(loading.load(self.daemon.common / database_files.FILE_NAME).ledger)

    def said(self, since: int) -> str:
        """The log since then."""
        return self.daemon.log()[since:]

    def says(self, pattern: str, since: int) -> bool:
        """Whether a line of the log matches; the log may be a moment late."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: re.search(pattern, self.said(since), re.MULTILINE) is not None, "the log says it", 1.0)
            return True
        return False

    def wrong(self, since: int) -> str | None:
        """A description of the daemon's first mistake after the fault; None when it made none."""
        self.control.disarm()
        process = self.daemon.process
        assert process is not None
        if not process.running:
            return f"the daemon has ended: {self.said(since)[-900:]}"
        try:
            shown, stored = of_daemon(self.daemon), self.stored()
        except (OSError, ValueError, KeyError, AssertionError, StateError) as error:
            return f"{type(error).__name__}: {error}; log: {self.said(since)[-900:]}"
        if "Traceback" in self.said(since) or "Exception in callback" in self.said(since):
            return f"a traceback: {self.said(since)[-900:]}"
        return None if shown == stored else f"it shows {shown}, stored is {stored}"

    def comes_back(self) -> str | None:
        """Remove the socket file; None when the daemon puts it back, else a description of its mistake."""
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
        """Replace a daemon that had a wrong outcome by a new one with its own state."""
        process = self.daemon.process
        assert process is not None
        process.close()
        for path in self.daemon.common.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.start()

    def killed_and_started(self) -> str | None:
        """Kill and start the daemon; None when the state is the same, else the difference."""
        before = of_daemon(self.daemon)
        self.daemon.kill()
        self.daemon.start(self.environment)
        after = of_daemon(self.daemon)
        return None if after == before else f"after SIGKILL: {after}, before: {before}"


def all_nth(
    subject: Subject, call: str, kind: str, long: bool, once: Callable[[int, int], str | None], gaps: bool = False
) -> None:
    """Run `once` with n = 1, 2, 3, … until the call is made fewer than n times; it returns its outcome or raises Wrong.

    With `gaps` the short form leaves out ever more n.
    """
    first, wrongs, nth = CALLS.index(call), 0, 0
    while True:
        nth += 1 + (nth // 3 if gaps and not long else 0)
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
    """A wrong outcome of a failing call."""


def conclude(table: Table, capsys: pytest.CaptureFixture[str], least: int = 10) -> None:
    """Print the table; fail when an outcome was wrong, or fewer than `least` calls failed."""
    with capsys.disabled():
        print(f"\n{table.text()}")
    assert table.failures() >= least, f"hardly any call failed:\n{table.text()}"
    assert not table.problems, "\n".join([table.text(), *table.problems])
