# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Lock: one daemon uses a state directory, and others find it by its process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epa_orchestrator.state.lock import Locked, daemon_pid, sole_daemon
from tests.functional.harness import clean_environment

#: Holds the lock until its input ends.
HOLDER = """
import sys
from pathlib import Path
from epa_orchestrator.state.lock import sole_daemon
with sole_daemon(Path(sys.argv[1])) as problem:
    print(problem, flush=True)
    sys.stdin.read()
"""

Hold = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Starts a process that holds the lock of the test's directory."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(tmp_path)]
        process = subprocess.Popen(
            command, env=clean_environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "None\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def pid_seen_elsewhere(directory: Path) -> int | None:
    """The answer in another process: the kernel does not show a lock to the process that holds it."""
    program = (
        "import sys; from pathlib import Path; from epa_orchestrator.state.lock import daemon_pid;"
        " print(daemon_pid(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, str(directory)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    return None if done.stdout == "None\n" else int(done.stdout)


def test_there_is_no_pid_without_a_daemon(tmp_path: Path) -> None:
    assert daemon_pid(tmp_path) is None
    assert daemon_pid(tmp_path / "nothing") is None
    assert list(tmp_path.iterdir()) == []


def test_the_pid_names_the_process_that_holds_the_lock(tmp_path: Path, hold: Hold) -> None:
    process = hold()
    assert daemon_pid(tmp_path) == process.pid


def test_asking_for_the_pid_does_not_take_the_lock(tmp_path: Path, hold: Hold) -> None:
    for _ in range(2):
        assert daemon_pid(tmp_path) is None
    process = hold()
    for _ in range(2):
        assert daemon_pid(tmp_path) == process.pid


def test_a_second_daemon_is_refused(tmp_path: Path, hold: Hold) -> None:
    process = hold()
    with (
        pytest.raises(Locked, match=f"^Another daemon already uses the state in {tmp_path}: stop it first$"),
        sole_daemon(tmp_path),
    ):
        pass
    assert daemon_pid(tmp_path) == process.pid


def test_directories_have_separate_locks(tmp_path: Path, hold: Hold) -> None:
    hold()
    with sole_daemon(tmp_path / "other") as problem:
        assert problem is None
        assert pid_seen_elsewhere(tmp_path / "other") == os.getpid()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_daemon_leaves_no_lock(number: signal.Signals, tmp_path: Path, hold: Hold) -> None:
    process = hold()
    process.send_signal(number)
    process.wait()
    assert daemon_pid(tmp_path) is None


def test_the_pid_names_the_next_daemon_after_a_kill(tmp_path: Path, hold: Hold) -> None:
    first = hold()
    first.kill()
    first.wait()
    second = hold()
    assert daemon_pid(tmp_path) == second.pid


def test_the_lock_ends_with_its_block(tmp_path: Path, hold: Hold) -> None:
    with sole_daemon(tmp_path) as problem:
        assert problem is None
        assert pid_seen_elsewhere(tmp_path) == os.getpid()
    assert daemon_pid(tmp_path) is None
    hold()


def test_the_lock_ends_with_a_failure_in_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_daemon(tmp_path):
        raise KeyError
    assert daemon_pid(tmp_path) is None


def test_child_processes_do_not_inherit_the_lock(tmp_path: Path) -> None:
    with sole_daemon(tmp_path), subprocess.Popen(["sleep", "60"]) as child:
        held = (tmp_path / "lock").stat().st_ino
        fds = Path(f"/proc/{child.pid}/fd")
        deadline = time.monotonic() + 30
        while Path(f"/proc/{child.pid}/comm").read_text() != "sleep\n":
            assert time.monotonic() < deadline
        assert held not in {fd.stat().st_ino for fd in fds.iterdir()}
        child.kill()


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    with sole_daemon(tmp_path / "a" / "b") as problem:
        assert problem is None
    assert (tmp_path / "a" / "b" / "lock").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with sole_daemon(tmp_path / "file" / "b") as problem:
        assert problem == "cannot be created: Not a directory"


def test_a_directory_in_proc_is_reported() -> None:
    """In /proc, mkdir(2) says that the directory above is missing, although it is there."""
    with sole_daemon(Path("/proc/epa-orchestrator")) as problem:
        assert problem == "cannot be created: No such file or directory"
