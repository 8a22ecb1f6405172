# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Commands that ask a daemon find its socket, and end with an exit code when it refuses or does not answer."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from epa_orchestrator.cli.connect import read_only_sentence
from tests.unit.cli.builders import ASKING, Command, Daemon, HostileServer


@pytest.mark.parametrize("command", ASKING)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_exit_code_is_3_without_a_daemon(command: list[str], as_json: list[str], offline: Command) -> None:
    sentence = offline.failure(3, *command, *as_json)
    assert sentence.startswith(f"No daemon serves {offline.socket}: start it with ")
    assert "epa-orchestrator serve" in sentence


@pytest.mark.parametrize("command", ASKING)
def test_socket_option_and_variable(command: list[str], daemon: Daemon, offline: Command) -> None:
    if command[0] == "release":
        daemon.client.allocate_in_node("a", 0, 2)
    assert offline.run(*command, "--socket", str(daemon.socket)).exit_code == 0
    if command[0] == "release":
        daemon.client.allocate_in_node("a", 0, 2)
    assert offline.run(*command, env={"EPA_SOCKET": str(daemon.socket)}).exit_code == 0
    assert str(offline.base / "x") in daemon.failure(3, *command, "--socket", str(offline.base / "x"))


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["allocate", "nova", "7"], "Insufficient CPUs available. Requested: 7, Available: 6"),
        (["allocate", "nova", "1", "--numa-node", "3"], "NUMA node 3 does not exist"),
        (["hugepages", "nova", "--count", "1", "--node", "3"], "NUMA node 3 not found"),
        (["hugepages", "nova", "--count", "1", "--size", "4"], "Hugepage size 4 KB not found on node 0"),
        (
            ["hugepages", "nova", "--count", "2049"],
            "NUMA node 0 size 2048 KB only has 2048 free hugepages, requested additional 2049",
        ),
    ],
)
def test_refusal_is_the_daemons_sentence(
    arguments: list[str], sentence: str, as_json: list[str], daemon: Daemon
) -> None:
    assert daemon.failure(1, *arguments, *as_json) == sentence
    assert daemon.json("status")["pools"]["isolated"]["total_allocations"] == 0


@pytest.mark.parametrize("refuse", [False, True], ids=["answers", "refusals"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_text_of_a_hostile_server_does_not_act_on_the_terminal(as_json: list[str], refuse: bool) -> None:
    """A snap that may write the socket's directory can put its own server there; tests/faults has more such servers."""
    with tempfile.TemporaryDirectory() as directory:
        command = Command(Path(directory))
        server = HostileServer(command.socket, refuse=refuse)
        try:
            for arguments in ASKING:
                assert command.failure(1 if refuse else 3, *arguments, *as_json)
        finally:
            server.stop()


@pytest.mark.parametrize(
    "words",
    [
        *("why nova", "history --follow", "list --node 0", "list --watch", "map", "map --watch", "allocate nova 1"),
        *("allocate nova 1 --dry-run", "explain nova 1", "explain nova 1 --make-room"),
    ],
)
def test_command_that_an_older_daemon_cannot_serve_says_so(words: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = Command(Path(directory))
        server = HostileServer(command.socket, escapes="", features=["dry-run"] if "--make-room" in words else [])
        try:
            sentence = command.failure(1, *words.split())
        finally:
            server.stop()
    assert re.match("This daemon is older than this command and cannot .*: upgrade the daemon", sentence)
    assert {request["action"] for request in server.requests} == {"list_allocations"}


def test_history_of_an_older_daemon_is_read_from_the_database() -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = Command(Path(directory))
        server = HostileServer(command.socket, escapes="")
        try:
            stderr = command.run("history").stderr
        finally:
            server.stop()
    assert stderr.startswith(
        "note: This daemon is older than this command and cannot show the history: upgrade the daemon. This is read"
    )


PROBLEM = "The state database /s.db cannot be read: malformed: nothing in it was changed; repair it, then restart"


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (PROBLEM, f"READ-ONLY: {PROBLEM}"),
        (f"The claims are not known: {PROBLEM}", f"READ-ONLY: The claims are not known: {PROBLEM}"),
        (
            "The history cannot be read, because the state database /s.db cannot be read: malformed",
            f"READ-ONLY: The history cannot be read, because the {PROBLEM.removeprefix('The ')}",
        ),
        ("CPU 7 does not exist", f"CPU 7 does not exist. READ-ONLY: {PROBLEM}"),
        ("Not at the rest", f"Not at the rest. READ-ONLY: {PROBLEM}"),
    ],
)
def test_refusal_tells_a_fact_once(refusal: str, sentence: str) -> None:
    assert read_only_sentence(refusal, PROBLEM) == sentence


@pytest.mark.parametrize("words", ["history", "history vm-*", "machine", "list", "why nova", "status"])
def test_no_other_daemon_answers_for_a_socket_that_was_given(words: str, daemon: Daemon, tmp_path: Path) -> None:
    """Its database and its machine are there, and are another daemon's."""
    socket = str(tmp_path / "epa.sock")
    sentence = daemon.failure(3, *words.split(), "--socket", socket)
    assert sentence.startswith(f"No daemon serves {socket}")
    assert daemon.failure(3, *words.split(), env={"EPA_SOCKET": socket}) == sentence


def test_history_of_an_older_daemon_at_a_given_socket_is_not_read_from_a_database(daemon: Daemon) -> None:
    with tempfile.TemporaryDirectory() as directory:
        older = Command(Path(directory))
        server = HostileServer(older.socket, escapes="")
        try:
            sentence = daemon.failure(1, "history", "--socket", str(older.socket))
        finally:
            server.stop()
    assert "older than this command and cannot show the history" in sentence
