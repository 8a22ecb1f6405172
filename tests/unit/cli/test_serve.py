# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`serve` starts a daemon, or ends with one sentence."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from epa_orchestrator.hardware.sysfs import dump_recording
from tests.functional.harness import Process, wait_until
from tests.unit.cli.builders import Command, Daemon
from tools.synthetic import Shape, build, write_tree


def test_second_daemon_with_the_same_state_fails(daemon: Daemon) -> None:
    result = daemon.run_process("serve", "--machine", "vm-8")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("epa-orchestrator: Another daemon already uses the state in ")
    assert daemon.run("status").exit_code == 0, "the first daemon still serves"


def test_second_daemon_at_the_same_socket_fails(daemon: Daemon, tmp_path: Path) -> None:
    result = daemon.run_process("serve", "--machine", "vm-8", SNAP_COMMON=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"epa-orchestrator: Another process already serves {daemon.socket}: stop it first"
    )
    assert daemon.run("status").exit_code == 0, "the first daemon still serves"


@pytest.mark.parametrize("recorded", [False, True])
def test_serve_without_isolated_cpus_logs_a_warning(recorded: bool, offline: Command) -> None:
    """It serves, and on a real host the warning names a recorded machine to try."""
    files = build(Shape(cores_per_l3=2))
    write_tree(files, offline.base / "sys")
    recording = offline.base / "plain.json"
    recording.write_text(dump_recording("plain", "made for a test", files, {}))
    with tempfile.TemporaryDirectory() as directory:  # short enough for a socket's address
        command = Command(Path(directory))
        machine = ["--machine", str(recording)] if recorded else []
        process = command.start("serve", *machine, EPA_SYSFS=str(offline.base / "sys"))
        try:
            wait_until(lambda: command.run("status").exit_code != 3, "the daemon answers")
            assert "there are no CPUs to grant: set isolcpus= on the kernel command line" in command.text("status")
            refusal = command.failure(1, "allocate", "nova", "1")
            assert refusal == "No CPUs available: No Isolated CPUs configured"
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
        finally:
            process.close()
    (warning,) = (line for line in process.output().splitlines() if "isolates no CPUs" in line)
    assert ("epa-orchestrator serve --machine vm-8" in warning) is not recorded
    assert ("the recorded machine plain" in warning) is recorded


@contextmanager
def serving(command: Command, *arguments: str) -> Generator[Process]:
    """A daemon of this command line, until the end of the block."""
    process = command.start("serve", *arguments)
    try:
        wait_until(lambda: command.run("status").exit_code == 0, "the daemon answers")
        yield process
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        process.close()


@pytest.fixture
def command() -> Iterator[Command]:
    """A command line in a directory that is short enough for a socket's address."""
    with tempfile.TemporaryDirectory() as directory:
        yield Command(Path(directory))


def services(command: Command) -> list[str]:
    return [claim["service_name"] for claim in command.json("list", "--json")["allocations"]]


def test_serve_says_where_its_socket_and_its_state_are(command: Command) -> None:
    with serving(command, "--machine", "demo-48") as process:
        pass
    assert f"INFO serving at {command.socket}\n" in process.output()
    assert f"the claims on the recorded machine demo-48 are kept in {command.base / 'common'}\n" in process.output()


def test_claims_on_a_recorded_machine_outlive_a_restart(command: Command) -> None:
    with serving(command, "--machine", "demo-48"):
        assert command.run("allocate", "nova", "4").exit_code == 0
    with serving(command, "--machine", "demo-48"):
        assert services(command) == ["nova"]


def test_fresh_removes_the_claims_and_the_history(command: Command) -> None:
    with serving(command, "--machine", "demo-48"):
        assert command.run("allocate", "nova", "4").exit_code == 0
    with serving(command, "--machine", "demo-48", "--fresh"):
        assert services(command) == []
        assert json.loads(command.run("history", "--json").stdout) == []


def test_fresh_keeps_the_claims_of_a_real_host(command: Command) -> None:
    write_tree(build(Shape(isolated="1-3")), command.base / "sys")
    real = {"EPA_SYSFS": str(command.base / "sys")}
    command.environment |= real
    with serving(command):
        assert command.run("allocate", "nova", "2").exit_code == 0
    result = command.run_process("serve", "--machine", "demo-48", "--fresh")
    assert result.returncode == 1
    assert "may hold the claims of a real host: move it away yourself" in result.stderr
    with serving(command):
        assert services(command) == ["nova"]


def test_fresh_is_refused_while_a_daemon_serves(command: Command) -> None:
    with serving(command, "--machine", "demo-48"):
        assert command.run("allocate", "nova", "4").exit_code == 0
        result = command.run_process("serve", "--machine", "demo-48", "--fresh")
        assert result.returncode == 1
        assert "Another daemon already uses the state" in result.stderr
        assert services(command) == ["nova"]


def test_fresh_without_a_machine_is_wrong_use(offline: Command) -> None:
    result = offline.run("serve", "--fresh")
    assert result.exit_code == 2
    assert "--fresh goes with --machine only" in result.stderr
    assert not (offline.base / "common").exists()


def test_the_snap_serves_no_recorded_machine(offline: Command) -> None:
    result = offline.run_process("serve", "--machine", "demo-48", SNAP_NAME="epa-orchestrator")
    assert result.returncode == 1
    assert result.stderr.startswith("epa-orchestrator: The snap serves its own host only")
    assert not (offline.base / "common").exists()


def test_serve_with_a_missing_machine_fails(offline: Command) -> None:
    result = offline.run_process("serve", "--machine", "vm-9")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("epa-orchestrator: There is no file 'vm-9'")
    assert not (offline.base / "common").exists()


def test_serve_with_an_invalid_recording_fails(offline: Command) -> None:
    (offline.base / "machine.json").write_text("{}")
    result = offline.run_process("serve", "--machine", str(offline.base / "machine.json"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "cannot be used" in result.stderr
    assert not (offline.base / "common").exists()


def test_status_of_a_daemon_with_unusable_settings_shows_them() -> None:
    daemon = Daemon({"numa-policy": "sideways"})
    try:
        warnings = [line for line in daemon.text("status").splitlines() if line.startswith("warning: ")]
    finally:
        daemon.stop()
    assert any("numa-policy='sideways' is not valid" in warning for warning in warnings)
