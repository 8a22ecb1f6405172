# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The option --watch: a command shows what it shows again after each change, also over restarts of the daemon."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.functional.harness import PATIENCE, Daemon, clean_environment
from tests.unit.cli.builders import Command, FakeServer
from tests.unit.client.builders import LISTING


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon for one test."""
    with Daemon() as made:
        yield made.start()


@contextmanager
def watching(daemon: Daemon, *options: str, stdout: int = subprocess.PIPE) -> Generator[subprocess.Popen[str]]:
    """The command `list --watch` as a process."""
    with running(daemon, "list", "--watch", *options, stdout=stdout) as process:
        yield process


@contextmanager
def running(daemon: Daemon, *words: str, stdout: int = subprocess.PIPE) -> Generator[subprocess.Popen[str]]:
    """A command as a process."""
    command = [sys.executable, "-m", "epa_orchestrator", *words]
    environment = clean_environment() | {"EPA_SOCKET": str(daemon.socket_path), "TERM": "xterm"}
    with subprocess.Popen(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(stream: IO[str] | None, text: str) -> list[str]:
    """The lines up to the first one with this text."""
    assert stream is not None
    read: list[str] = []
    for line in stream:
        read.append(line)
        if text in line:
            return read
    raise AssertionError(f"{text!r} did not come: {read}")


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and the rest of stderr after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stderr


def test_prints_the_table_again_after_each_change(daemon: Daemon) -> None:
    daemon.cores("first", 1)
    with watching(daemon) as process:
        lines_until(process.stdout, "first")
        daemon.cores("second", 2)
        again = "".join(lines_until(process.stdout, "second"))
        assert "first" in again
        code, _ = interrupt(process)
        assert code == 0


def test_prints_one_line_of_json_for_each_change(daemon: Daemon) -> None:
    with watching(daemon, "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "state"
        daemon.cores("a", 2)
        assert json.loads(process.stdout.readline())["service_name"] == "a"
        assert interrupt(process) == (0, "")


def test_draws_in_place_on_a_terminal(daemon: Daemon) -> None:
    ours, theirs = pty.openpty()
    with watching(daemon, stdout=theirs) as process, os.fdopen(ours, "r", encoding="utf-8", errors="replace") as screen:
        os.close(theirs)
        lines_until(process.stderr, "Ctrl-C ends")
        daemon.cores("new", 2)
        shown = lines_until(screen, "new")
        assert sum(line.count("\x1b[H\x1b[2J") for line in shown) == 2
        code, _ = interrupt(process)
        assert code == 0


def test_goes_on_after_a_restart(daemon: Daemon) -> None:
    daemon.cores("before", 1)
    with watching(daemon, "-o", "name") as process:
        lines_until(process.stdout, "before")
        daemon.restart()
        lines_until(process.stdout, "before")
        daemon.cores("later", 2)
        lines_until(process.stdout, "later")
        code, stderr = interrupt(process)
    assert code == 0
    assert stderr == (
        f"note: the daemon at {daemon.socket_path} has ended the connection; this command tries for 60 seconds to"
        " connect again\n"
    )


def test_the_state_is_a_line_of_json_again_after_a_restart(daemon: Daemon) -> None:
    with watching(daemon, "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["allocations"] == []
        daemon.cores("a", 2)
        assert json.loads(process.stdout.readline())["service_name"] == "a"
        daemon.restart()
        state = json.loads(process.stdout.readline())
        assert [claim["service_name"] for claim in state["allocations"]] == ["a"]
        daemon.cores("b", 2)
        assert json.loads(process.stdout.readline())["service_name"] == "b"


def test_history_leaves_no_change_out_and_shows_none_twice_over_restarts(daemon: Daemon) -> None:
    with following(daemon) as process:
        shown: list[str] = []
        for number in range(4):
            daemon.cores(f"vm-{number}", 1)
            if number % 2:
                shown += lines_until(process.stdout, f'"vm-{number}"')
            daemon.restart()
            daemon.cores(f"vm-{number}", -1)
        daemon.cores("last", 1)
        shown += lines_until(process.stdout, '"last"')
        code, stderr = interrupt(process)
    assert code == 0
    assert [json.loads(line)["id"] for line in shown] == list(range(3, 12))
    assert 1 <= stderr.count("note: ") <= 4


@contextmanager
def following(daemon: Daemon) -> Generator[subprocess.Popen[str]]:
    """The command `history --follow` as a process, which has shown two changes."""
    daemon.cores("first", 1)
    with running(daemon, "history", "--follow", "-o", "json") as process:
        lines_until(process.stdout, '"id": 1')
        daemon.cores("second", 1)
        lines_until(process.stdout, '"id": 2')
        yield process


def test_history_of_another_database_begins_at_its_beginning(daemon: Daemon) -> None:
    with following(daemon) as process:
        daemon.stop()
        shutil.rmtree(daemon.common)
        daemon.common.mkdir()
        daemon.start()
        daemon.cores("new", 1)
        (line,) = lines_until(process.stdout, "new")
        assert json.loads(line)["id"] == 1


def test_history_ends_with_4_when_the_daemon_restarts_with_a_damaged_database(daemon: Daemon) -> None:
    with following(daemon) as process:
        daemon.stop()
        for path in daemon.common.glob("state.db*"):
            path.write_bytes(b"damaged" * 1000)
        daemon.start()
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert stderr.count("note: ") == 1
    assert "READ-ONLY" in stderr


def test_the_map_is_drawn_again_after_a_restart(daemon: Daemon) -> None:
    with running(daemon, "map", "--watch") as process:
        lines_until(process.stdout, "hugepages")
        daemon.restart()
        daemon.cores("later", 2)
        lines_until(process.stdout, "A later 2")
        code, stderr = interrupt(process)
    assert (code, stderr.count("note: ")) == (0, 1)


def test_an_older_daemon_after_a_restart_is_named(daemon: Daemon) -> None:
    with watching(daemon, "-o", "name") as process:
        daemon.cores("a", 1)
        lines_until(process.stdout, "a")
        daemon.stop()
        older = FakeServer(daemon.socket_path)
        older.answer(LISTING)
        try:
            _, stderr = process.communicate(timeout=PATIENCE)
        finally:
            older.stop()
    assert process.returncode == 1
    assert "older than this command and cannot tell changes" in stderr.splitlines()[-1]


def test_a_refusal_after_a_restart_ends_it_with_its_sentence(daemon: Daemon) -> None:
    with watching(daemon, "-o", "name") as process:
        daemon.cores("a", 1)
        lines_until(process.stdout, "a")
        daemon.stop()
        refusing = FakeServer(daemon.socket_path)
        refusing.answer({"version": "1.0", "error": "Too many connections are open"})
        try:
            _, stderr = process.communicate(timeout=PATIENCE)
        finally:
            refusing.stop()
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == "epa-orchestrator: Too many connections are open"


def test_ends_with_3_when_the_daemon_does_not_come_back(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("epa_orchestrator.cli.watching._RESTART", 1.0)
    stopped = threading.Timer(1.0, daemon.stop)
    stopped.start()
    result = Command(tmp_path).run("list", "--watch", "--socket", str(daemon.socket_path))
    stopped.join()
    assert result.exit_code == 3
    note, sentence = result.stderr.splitlines()[-2:]
    assert note.startswith("note: the daemon at ")
    assert sentence.startswith(f"epa-orchestrator: No daemon serves {daemon.socket_path}: ")


def test_ends_at_once_when_no_daemon_serves(daemon: Daemon) -> None:
    daemon.stop()
    with watching(daemon) as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "note" not in stderr


def test_json_goes_with_no_filter(daemon: Daemon) -> None:
    with watching(daemon, "--json", "--cpu", "2") as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "leave out NAME, --cpu and --node" in stderr


def test_an_older_daemon_is_named(daemon: Daemon) -> None:
    older = FakeServer(daemon.base / "older.sock")
    older.answer(LISTING)
    try:
        daemon.socket_path = older.path
        with watching(daemon, "--json") as process:
            _, stderr = process.communicate(timeout=PATIENCE)
    finally:
        older.stop()
    assert process.returncode == 1
    assert "older than this command and cannot tell changes: upgrade the daemon, or leave out --watch" in stderr
