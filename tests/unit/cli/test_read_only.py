# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""While the daemon serves readings only, every command shows what it can, says so, and ends with exit code 4."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.functional.harness import wait_until
from tests.unit.cli.builders import ASKING, Command, Daemon

#: Commands that print what they know, and a part of that.
READING = {
    "status": "READ-ONLY: The older daemon's state",
    "list": "SERVICE",
    "hugepages": "node0",
    "machine": "NUMA nodes",
}
CHANGING = [words for words in ASKING if len(words) > 1]


def arguments(command: str) -> list[str]:
    return ["machine", "--machine", "vm-8"] if command == "machine" else [command]


@pytest.mark.parametrize("command", READING)
def test_reading_command_prints_first_and_ends_with_4(command: str, read_only: Daemon) -> None:
    result = read_only.run(*arguments(command))
    assert result.exit_code == 4
    assert READING[command] in result.stdout
    last = result.stderr.splitlines()[-1]
    assert last.startswith("READ-ONLY: The older daemon's state ")
    assert last.isprintable()


@pytest.mark.parametrize("command", READING)
def test_reading_command_prints_json(command: str, read_only: Daemon) -> None:
    result = read_only.run(*arguments(command), "--json")
    assert result.exit_code == 4
    assert command == "machine" or "state.json" in json.loads(result.stdout)["state_error"]
    assert result.stderr.startswith("READ-ONLY: ")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("command", CHANGING, ids=" ".join)
def test_refused_command_ends_with_4(command: list[str], as_json: list[str], read_only: Daemon) -> None:
    result = read_only.run(*command, *as_json)
    assert result.exit_code == 4
    assert list(json.loads(result.stdout) if as_json else {}) == (["error"] if as_json else [])
    (line,) = result.stderr.splitlines()
    assert "READ-ONLY: The older daemon's state " in line
    assert "restart" in line


def test_take_does_not_change_the_exit_code(read_only: Daemon) -> None:
    assert "READ-ONLY" in read_only.failure(4, "allocate", "a", "2", "--take")


def test_other_refusal_is_said_too(read_only: Daemon) -> None:
    sentence = read_only.failure(4, "list", "--pool", "general")
    assert sentence.startswith("Pool general is not configured: ")
    assert "READ-ONLY: The older daemon's state" in sentence


def test_failed_command_without_daemon_says_it_too(read_only: Daemon) -> None:
    result = read_only.run("history", "--machine", "no-such")
    assert result.exit_code == 4
    failure, note = result.stderr.splitlines()
    assert failure.startswith("epa-orchestrator: There is no history of the recorded machine ")
    assert note.startswith("READ-ONLY: ")


def test_wrong_use_keeps_its_exit_code(read_only: Daemon) -> None:
    assert read_only.run("history", "--limit", "0").exit_code == 2


def test_history_prints_its_changes_first(tmp_path: Path) -> None:
    """The daemon loses its state while it runs: the changes until then are in the database."""
    daemon = Daemon()
    try:
        daemon.run("allocate", "nova", "2")
        (database,) = daemon.base.glob("common/**/state.db")
        shutil.copy(database, tmp_path / "copy.db")
        os.replace(tmp_path / "copy.db", database)
        wait_until(lambda: daemon.client.list_allocations().state_error is not None, "the daemon is read-only")
        shown = daemon.run("history", "--machine", "vm-8")
        as_json = daemon.run("history", "--machine", "vm-8", "--json")
    finally:
        daemon.stop()
    assert (shown.exit_code, as_json.exit_code) == (4, 4)
    assert "nova" in shown.stdout
    assert [each["service"] for each in json.loads(as_json.stdout)] == ["nova"]
    assert shown.stderr == as_json.stderr
    assert shown.stderr.startswith("READ-ONLY: ")


def test_unreachable_daemon_does_not_matter_to_machine(offline: Command) -> None:
    assert "NUMA nodes" in offline.text("machine", "--machine", "vm-8")
