# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The nth call fails while a daemon starts or stops: it serves or ends with one sentence, and the state is unchanged.

Each n needs a start, so the short form takes a sample.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.state.lock import daemon_pid
from tests.functional.harness import PATIENCE

from .nth import CALLS, ERRORS, Table
from .preload import compile_library
from .states import State, of_daemon, opened
from .subject import Subject, Wrong, conclude

SEED: Final = int(os.environ.get("EPA_SEED", "20251126"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls fail."""
    return compile_library("nth_failure.c", tmp_path_factory.mktemp("nth"))


@contextlib.contextmanager
def copy_of(directory: Path) -> Generator[Path]:
    """A copy of a state directory, so that opening it leaves the original as it is."""
    with tempfile.TemporaryDirectory(prefix="epa-") as temporary:
        copy = Path(temporary, "common")
        shutil.copytree(directory, copy)
        yield copy


def found_at_a_start(subject: Subject) -> State | str:
    """The state that the next start finds, or the reason why it cannot write."""
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
    """A description of bad output of a start that ended with an error; None when the output is one sentence."""
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
        """Start from the original files; whether the daemon answers, otherwise it has ended."""
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
                raise Wrong("only readings are served, without a line in the log")
            return "readings only"
        if daemon_pid(subject.daemon.common) != subject.daemon.pid:
            raise Wrong("it serves changes without holding the lock")
        if of_daemon(subject.daemon) != self.expected:
            raise Wrong(f"it shows {of_daemon(subject.daemon)}")
        return "served"


@pytest.mark.parametrize("first", [True, False], ids=["the first start", "a start"])
def test_start_survives_a_failing_call(
    library: Path, capsys: pytest.CaptureFixture[str], long: bool, first: bool
) -> None:
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
    """A stop while the nth call fails, of a daemon with a change that is still in its log."""
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


def test_stop_survives_a_failing_call(library: Path, capsys: pytest.CaptureFixture[str], long: bool) -> None:
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
