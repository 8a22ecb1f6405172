# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The option --watch: a command shows what it shows again after each change, and Ctrl-C ends it in good order."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.functional.harness import PATIENCE, Daemon, clean_environment
from tests.unit.cli.builders import FakeServer
from tests.unit.client.builders import LISTING


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon for one test."""
    with Daemon() as made:
        yield made.start()


@contextmanager
def watching(daemon: Daemon, *options: str, stdout: int = subprocess.PIPE) -> Generator[subprocess.Popen[str]]:
    """The command `list --watch` as a process."""
    command = [sys.executable, "-m", "epa_orchestrator", "list", "--watch", *options]
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


def test_ends_with_3_when_the_daemon_stops(daemon: Daemon) -> None:
    with watching(daemon, "-o", "name") as process:
        daemon.cores("a", 1)
        lines_until(process.stdout, "a")
        daemon.stop()
        _, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 3
        assert "has ended the watch" in stderr
        assert "Traceback" not in stderr


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
