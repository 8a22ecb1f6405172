# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command works in scripts: lists for taskset, JSON for jq, columns for awk, and exit codes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tools.synthetic import Shape

from .harness import Daemon, clean_environment, format_cpus

#: CPUs that this process may really run on, so that taskset accepts them.
REAL: Final = sorted(os.sched_getaffinity(0))[:2]
SHAPE: Final = Shape(cores_per_l3=max(REAL) + 2, isolated=format_cpus(REAL))


class Script:
    """A shell with the command on its PATH, whose default daemon is the one of the test."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        program = home / "epa-orchestrator"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m epa_orchestrator "$@"\n')
        program.chmod(0o755)
        self._environment = clean_environment() | {
            "PATH": f"{home}:{os.environ['PATH']}",
            "EPA_SOCKET": str(daemon.socket_path),
            "COLUMNS": "80",
        }

    def run(self, text: str, code: int = 0, stdout: int = subprocess.PIPE) -> tuple[str, str]:
        """stdout and stderr of a script that ends with this exit code."""
        done = subprocess.run(
            ["sh", "-c", text],
            env=self._environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"{done.stdout}{done.stderr}"
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with Daemon(SHAPE) as made:
        made.start()
        made.host.put("class/net/eth0/device/numa_node", "0\n")
        yield made


@pytest.fixture
def script(shared: Daemon, tmp_path: Path) -> Iterator[Script]:
    yield Script(shared, tmp_path)
    shared.release_everything()


def holds(jq: str, python: str) -> str:
    """A command that ends with 0 if an expression about the JSON `d` on its stdin is true: jq, or Python without it."""
    if shutil.which("jq"):
        return f"jq -e {shlex.quote(jq)}"
    program = f"import json, sys; d = json.load(sys.stdin); sys.exit(not ({python}))"
    return f"{sys.executable} -c {shlex.quote(program)}"


RUNS_ON = f"{sys.executable} -c 'import os; print(sorted(os.sched_getaffinity(0)))'"


@pytest.mark.parametrize("near", ["", "--near eth0", "--near 0"])
def test_taskset_takes_the_list_of_allocate(near: str, script: Script) -> None:
    count = len(REAL)
    stdout, stderr = script.run(f'taskset -c "$(epa-orchestrator allocate mine {count} {near})" {RUNS_ON}')
    assert stdout == f"{REAL}\n"
    assert stderr == f"0 of {count} {'CPU' if count == 1 else 'CPUs'} still free\n"


def test_dry_run_prints_the_list_alone_too(script: Script) -> None:
    stdout, _ = script.run("epa-orchestrator allocate mine 1 --dry-run")
    assert stdout == f"{REAL[0]}\n"


@pytest.mark.parametrize(
    ("command", "code", "jq", "python"),
    [
        ("list --json", 0, ".allocations | length == 1", "len(d['allocations']) == 1"),
        (
            "list 'no*' -o json",
            0,
            '.allocations[0].service_name == "nova"',
            "d['allocations'][0]['service_name'] == 'nova'",
        ),
        ("status --json", 0, ".ok", "d['ok']"),
        ("allocate nova 1 --json", 0, ".cores_allocated == 1", "d['cores_allocated'] == 1"),
        ("allocate big 500 --json", 1, '.error | contains("Insufficient")', "'Insufficient' in d['error']"),
        ("explain big 500 --json", 1, ".error", "d['error']"),
        ("release nov --json", 1, '.error | contains("did you mean")', "'did you mean' in d['error']"),
        ("list --pool general --json", 1, ".error", "d['error']"),
        ("list --node 7 --json", 1, ".error", "d['error']"),
        ("hugepages nova --count 1 --node 9 --json", 1, ".error", "d['error']"),
        ("list --socket /nonexistent --json", 3, ".error", "d['error']"),
        ("list --socket /etc/passwd -o json", 3, '.error | contains("no socket")', "'no socket' in d['error']"),
    ],
)
def test_json_for_jq(command: str, code: int, jq: str, python: str, script: Script) -> None:
    script.run("epa-orchestrator allocate nova 1")
    stdout, _ = script.run(f"epa-orchestrator {command}", code)
    assert isinstance(json.loads(stdout), dict)
    script.run(f"epa-orchestrator {command} 2>/dev/null | {holds(jq, python)}")


def test_awk_reads_columns(script: Script) -> None:
    script.run("epa-orchestrator allocate nova 1")
    stdout, stderr = script.run("epa-orchestrator list | awk '$1 == \"nova\" {print $2, $3}'")
    assert stdout == f"{REAL[0]} 1\n"
    assert stderr.startswith("Pool isolated: ")


def test_names_alone_can_be_looped_over(script: Script) -> None:
    for name in ("vm-10", "vm-2")[: len(REAL)]:
        script.run(f"epa-orchestrator allocate {name} 1")
    stdout, _ = script.run("for name in $(epa-orchestrator list 'vm-*' -o name); do echo \"<$name>\"; done")
    assert stdout.split() == ["<vm-2>", "<vm-10>"][2 - len(REAL) :]


def test_csv_is_read_again(script: Script) -> None:
    script.run("epa-orchestrator allocate nova 1")
    program = "import csv, sys; print([row['service'] for row in csv.DictReader(sys.stdin)])"
    stdout, _ = script.run(f"epa-orchestrator list -o csv | {sys.executable} -c {shlex.quote(program)}")
    assert stdout == "['nova']\n"


def test_reader_that_stops_early_ends_the_command_silently(script: Script) -> None:
    _, stderr = script.run("epa-orchestrator list 2>&1 | head -c 1")
    assert stderr == ""


def test_no_box_and_no_escape_in_a_pipe(script: Script) -> None:
    script.run("epa-orchestrator allocate nova 1")
    for command in ("list", "list -o wide", "status", "hugepages", "machine", "explain nova 1"):
        stdout, _ = script.run(f"FORCE_COLOR=1 TERM=xterm-256color epa-orchestrator {command}")
        assert not set("│┃─━\x1b") & set(stdout)


# --- exit codes: each row of the table in docs/reference/command-line.md ---


@pytest.mark.parametrize(
    ("command", "code"), [("status", 0), ("allocate a 500", 1), ("allocate a x", 2), ("status --socket /x", 3)]
)
def test_exit_code(command: str, code: int, script: Script) -> None:
    script.run(f"epa-orchestrator {command}", code)


@pytest.mark.parametrize("command", ["status", "list", "allocate a 1", "release a", "hugepages a --count 1", "history"])
def test_exit_code_is_4_while_the_daemon_serves_readings_only(command: str, tmp_path: Path) -> None:
    with Daemon(SHAPE) as daemon:
        older = daemon.socket_path.with_name("state.json")
        older.parent.mkdir(parents=True, exist_ok=True)
        older.write_text('{"version": 1, "allocations_db": {"allocations": {"a": "no CPUs"}}}')
        daemon.start()
        _, stderr = Script(daemon, tmp_path).run(f"epa-orchestrator {command}", 4)
        assert "READ-ONLY: " in stderr or command == "status"


def test_exit_code_is_141_when_nobody_reads_the_output(script: Script) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        script.run("epa-orchestrator list --json", 141, writer)
    finally:
        os.close(writer)


def test_exit_code_is_1_when_the_output_is_full(script: Script) -> None:
    _, stderr = script.run("epa-orchestrator list --json >/dev/full", 1)
    assert "stdout cannot be written: No space left on device" in stderr
