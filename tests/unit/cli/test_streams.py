# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Output that nobody takes: real processes with streams that are closed, full, or without a reader."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.builders import Command, Daemon

#: Commands that print in each of the ways that there are.
PRINTING = (
    *("list", "list --json", "list -o name", "list -o csv", "map", "map --svg -", "map --json", "status", "why held"),
    *("history", "history -o wide", "history --json", "hugepages", "machine", "machine --machine vm-8 --record -"),
    *("report", "explain new 2", "allocate new 2 --dry-run", "completion bash", "--help", "list --help", "--version"),
)
WITHOUT_STDOUT = {
    ">&-": (1, "stdout is closed"),
    ">/dev/full": (1, "stdout cannot be written: No space left on device"),
    "| true": (141, None),
}
#: stderr is where nothing can be written.
WITHOUT_STDERR = ("2>/dev/full", "2>&-", "2> >(true)")


def run(command: Command, text: str, where: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command with such streams."""
    program = f"{shlex.quote(sys.executable)} -m epa_orchestrator {text} {where}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", program],
        env=command.process_environment(PYTHONUNBUFFERED=""),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("where", WITHOUT_STDOUT)
@pytest.mark.parametrize("text", PRINTING)
def test_lost_result_is_a_failure(text: str, where: str, daemon: Daemon) -> None:
    daemon.client.allocate("held", 2)
    code, reason = WITHOUT_STDOUT[where]
    returned, _, stderr = run(daemon, text, where)
    assert returned == code
    assert "Traceback" not in stderr
    sentences = [line for line in stderr.splitlines() if line.startswith("epa-orchestrator: ")]
    assert sentences == ([] if reason is None else [f"epa-orchestrator: {reason}"])


@pytest.mark.parametrize("where", WITHOUT_STDOUT)
@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("allocate new 2", "'new' has CPUs 4-5"),
        ("allocate new 2 --json", "'new' has CPUs 4-5"),
        ("release held", "'held' released CPUs"),
        ("hugepages new --count 3", "recorded 3 hugepages of 2M on NUMA node 0"),
    ],
)
def test_change_whose_result_is_lost_is_named(text: str, change: str, where: str, daemon: Daemon) -> None:
    daemon.client.allocate("held", 2)
    code, _ = WITHOUT_STDOUT[where]
    returned, _, stderr = run(daemon, text, where)
    assert returned == code
    assert stderr.endswith(f". The change was made: {change}\n")


@pytest.mark.parametrize("where", WITHOUT_STDERR)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(("bogus", 2), ("list --no-such", 2), ("list --cpu x", 2), ("history --since noon", 2), ("allocate new", 2)),
        *(("list", 0), ("allocate new 2", 0), ("release nobody", 1), ("list --socket /nowhere", 3)),
    ],
)
def test_exit_code_does_not_depend_on_stderr(text: str, code: int, where: str, daemon: Daemon) -> None:
    assert run(daemon, text, where)[0] == code


def test_result_is_whole_when_stderr_is_full(daemon: Daemon) -> None:
    assert run(daemon, "allocate new 2", "2>/dev/full")[1] == "2-3\n"


@pytest.mark.parametrize("where", [">&- 2>&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
def test_exit_code_is_1_when_nothing_can_be_written(where: str, daemon: Daemon) -> None:
    """Python's own exit code for such a process is 120."""
    assert run(daemon, "list", where)[0] == 1


def test_wrong_use_is_2_when_nothing_can_be_written(daemon: Daemon) -> None:
    assert run(daemon, "bogus", "<&- >&- 2>&-")[0] == 2


def test_command_that_prints_nothing_needs_no_stdout(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "map.svg"
    assert run(daemon, f"map --svg {file}", ">&-")[0] == 0
    assert file.read_text().endswith("</svg>\n")


def test_closed_stdin_answers_no_question(daemon: Daemon) -> None:
    daemon.client.allocate("held", 6)
    code, _, stderr = run(daemon, "allocate new 2 --numa-node 0", "<&-")
    assert code == 1
    assert "Add --take to allow it" in stderr


@pytest.mark.parametrize("text", ["report", "machine --record", "map --svg"])
def test_reader_of_a_named_pipe_that_ends(text: str, daemon: Daemon, tmp_path: Path) -> None:
    """The picture is larger than a pipe, or its reader has ended before."""
    code, _, stderr = run(daemon, f"{text} >(exec 0<&-; sleep 1)", "")
    assert (code, stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_reader_ends_a_follower(encoding: str, unbuffered: str, daemon: Daemon) -> None:
    program = f"{shlex.quote(sys.executable)} -m epa_orchestrator list --watch | true; exit ${{PIPESTATUS[0]}}"
    environment = daemon.process_environment(PYTHONIOENCODING=encoding, PYTHONUNBUFFERED=unbuffered)
    done = subprocess.run(
        ["bash", "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
