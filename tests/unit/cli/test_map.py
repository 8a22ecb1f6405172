# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`map` draws what a running daemon answers, on the terminal, as SVG and as JSON, and again when it changes."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.functional.harness import PATIENCE, wait_until
from tests.unit.cli.builders import Command, Daemon, HostileServer


def test_map_shows_the_owner_of_each_cpu(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "3")
    assert (
        daemon.text("map")
        == """\
8 CPUs: 3 claimed by 1 service, 3 free, 1 free in pool general, 1 not isolated

┏ package 0, NUMA node 0, L3 0 ━━┓
┃  0 1  2 3  4 5  6 7            ┃
┃ [- :][A A][A .][. .]           ┃
┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛

. free 3   : free in pool general 1   - not isolated 1
A nova 3

hugepages  █ recorded  ▒ in use by others or reserved  · free
node 0   2M  ········································  0 recorded  0 others  2048 free  of 2048
""".replace("  0 recorded  0 others", "     0 recorded     0 others")
    )


def test_map_as_json(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    document = daemon.json("map")
    assert document["counts"] == {"claimed": 2, "free": 5, "not-isolated": 1}
    assert document["services"] == [{"mark": "A", "name": "nova", "cpus": "2-3"}]
    assert "state_error" not in document


def test_map_as_svg_on_stdout(daemon: Daemon) -> None:
    root = ElementTree.fromstring(daemon.text("map", "--svg", "-", "--width", "600"))
    assert root.get("width") == "600"
    assert sum(each.get("class") == "cpu" for each in root.iter()) == 8


def test_map_as_svg_in_a_file(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "map.svg"
    result = daemon.run("map", "--svg", str(path))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"wrote {path}\n")
    assert ElementTree.parse(path).getroot().get("width") == "400"


def test_svg_that_cannot_be_written(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "none" / "map.svg"
    sentence = daemon.failure(1, "map", "--svg", str(path))
    assert sentence == f"The file {path} cannot be written: No such file or directory"


def test_width_is_kept(daemon: Daemon) -> None:
    assert max(map(len, daemon.text("map", "--width", "60").splitlines())) <= 60


@pytest.mark.parametrize("words", ["--watch --json", "--watch --svg -", "--svg - --json", "--width 5"])
def test_wrong_use(words: str, offline: Command) -> None:
    assert "Error: " in offline.misuse("map", *words.split())


def test_without_a_daemon(offline: Command) -> None:
    assert offline.failure(3, "map").startswith(f"No daemon serves {offline.socket}")


def test_older_daemon_is_named(tmp_path: Path) -> None:
    command = Command(tmp_path)
    server = HostileServer(command.socket, escapes="")
    try:
        sentence = command.failure(1, "map")
    finally:
        server.stop()
    assert sentence == (
        "This daemon is older than this command and cannot describe its machine: upgrade the daemon, or use the"
        " commands list and machine"
    )


def test_read_only_daemon_is_drawn(read_only: Daemon) -> None:
    result = read_only.run("map")
    assert result.exit_code == 4
    assert "8 CPUs: " in result.stdout
    assert result.stderr.startswith("READ-ONLY: ")


def test_output_that_is_not_utf_8_is_ascii(daemon: Daemon) -> None:
    done = daemon.run_process("map", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "+ package 0, NUMA node 0, L3 0 -" in done.stdout


def test_watch_draws_again_after_a_change_until_ctrl_c(daemon: Daemon) -> None:
    process = daemon.start("map", "--watch")
    try:
        wait_until(lambda: "8 CPUs: " in process.output(), "the first picture is drawn")
        daemon.run("allocate", "nova", "2")
        wait_until(lambda: "A nova 2" in process.output(), "the change is drawn")
        process.signal(signal.SIGINT)
        assert process.wait() == 0
        assert process.output().count("8 CPUs: ") == 2
    finally:
        process.close()


def watched(daemon: Daemon, lines: int, until: bytes) -> str:
    """What `map --watch` writes on a terminal of so many lines until Ctrl-C, which comes once this text is there."""
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "epa_orchestrator", "map", "--watch"]
    environment = daemon.process_environment(TERM="xterm", COLUMNS="80", LINES=str(lines))
    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as process,
    ):
        os.close(terminal)
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        shown, ended = b"", False
        with suppress(OSError):  # EIO once the command has ended
            while piece := screen.read(4096):
                shown += piece
                if not ended and until in shown:
                    process.send_signal(signal.SIGINT)
                    ended = True
        guard.cancel()
        assert process.wait(PATIENCE) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def test_watch_on_a_terminal_leaves_its_screen_behind(daemon: Daemon) -> None:
    shown = watched(daemon, lines=5, until=b"more lines)")
    assert shown.startswith("\x1b[?1049h")
    assert "\x1b[?1049l" in shown


def test_watch_on_a_low_terminal_shows_the_legend(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    shown = watched(daemon, lines=10, until=b"nova 2")
    assert "A nova 2" in shown
    assert "more lines" not in shown
