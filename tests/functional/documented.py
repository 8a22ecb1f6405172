# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The commands that the documentation prints, and a terminal of a new user to run them in.

`python -m tests.functional.documented` draws the README's picture again.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from .harness import PATIENCE, Process, clean_environment, wait_until

ROOT: Final = Path(__file__).resolve().parents[2]

#: The size of the terminal that the documentation's output was printed on.
COLUMNS: Final = 100
_LINES: Final = 50

README: Final = ROOT / "README.md"
#: The picture that the README shows, and its commands draw.
PICTURE: Final = ROOT / "docs" / "pictures" / "first-look.svg"
#: The README's first command, without the installation.
FIRST_COMMAND: Final = re.compile(r"&& \.venv/bin/(epa-orchestrator serve .*)$", re.MULTILINE)

_SHOWN_BLOCK: Final = re.compile(r"^```(?:console)?\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
_HERE_DOCUMENT: Final = re.compile(r"<<'(\w+)'")
_FAILURE: Final = re.compile(r"^epa-orchestrator: |^[0-9]+ checks? fails?\b", re.MULTILINE)
_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")


class Step(NamedTuple):
    """A command of a document, and the output that the document shows; None if it shows none."""

    command: str
    shown: str | None

    @property
    def serves(self) -> bool:
        """Whether it starts the daemon."""
        return re.search(r"epa-orchestrator serve\b", self.command) is not None

    @property
    def exit_code(self) -> int:
        """1 if the document shows a refusal or an audit with failed checks, 0 otherwise."""
        return int(_FAILURE.search(self.shown or "") is not None)


def steps_in(document: str) -> list[Step]:
    """The commands after `$ ` in the document's blocks, in order."""
    return [step for block in _SHOWN_BLOCK.findall(document) for step in _steps_of(block)]


def _steps_of(block: str) -> list[Step]:
    steps: list[Step] = []
    lines = block.splitlines()
    while lines:
        command = lines.pop(0).removeprefix("$ ")
        while command.endswith("\\"):
            command += "\n" + lines.pop(0)
        if match := _HERE_DOCUMENT.search(command):
            end = lines.index(match[1]) + 1
            command += "\n" + "\n".join(lines[:end]) + "\n"
            lines = lines[end:]
        shown: list[str] = []
        while lines and not lines[0].startswith("$ "):
            shown.append(lines.pop(0))
        steps.append(Step(command, "\n".join(shown).rstrip() or None))
    return steps


def is_as_shown(output: str, shown: str) -> bool:
    """Whether a command printed what the document shows: `…` stands for any text in a line, alone for any lines."""
    pattern = "\n".join(
        r"(?:.*\n)*.*" if line.strip() == "…" else ".*".join(map(re.escape, line.rstrip().split("…")))
        for line in shown.splitlines()
    )
    plain = "\n".join(line.rstrip() for line in output.splitlines())
    return re.fullmatch(pattern, plain.rstrip()) is not None


class Terminal:
    """A user's terminal: a home, a directory and a command line of their own, and the daemon that they start."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: a socket address has room for 107 characters only.
        self.home = Path(tempfile.mkdtemp(prefix="epa-"))
        programs = self.home / ".venv" / "bin"
        programs.mkdir(parents=True)
        program = programs / "epa-orchestrator"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m epa_orchestrator "$@"\n')
        program.chmod(0o755)
        (programs / "activate").write_text("# The programs are on PATH already.\n")
        # Those who follow a document are in a checkout.
        (self.home / "docs").symlink_to(ROOT / "docs")
        environment = clean_environment()
        environment.pop("XDG_STATE_HOME", None)
        self._environment = environment | {
            "HOME": str(self.home),
            "PATH": f"{programs}:{environment['PATH']}",
            "COLUMNS": str(COLUMNS),
            "TERM": "xterm",
            "NO_COLOR": "1",
        }
        self._daemon: Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_daemon()
        shutil.rmtree(self.home, ignore_errors=True)

    def serve(self, command: str) -> None:
        """Start a daemon, and wait until it answers; an earlier one is stopped first."""
        self._stop_daemon()
        environment = self._environment | {"HOME": str(self.home)}
        self._daemon = Process(["bash", "-c", f"cd {shlex.quote(str(self.home))} && exec env {command}"], environment)
        wait_until(lambda: self.run("epa-orchestrator status")[0] != 3, "the daemon answers")

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; returns its exit code, and everything that the user sees."""
        ours, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, COLUMNS, 0, 0))
        with (
            os.fdopen(ours, "rb", buffering=0) as screen,
            subprocess.Popen(
                ["bash", "-c", command],
                env=self._environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
            ) as process,
        ):
            os.close(terminal)
            guard = threading.Timer(PATIENCE, process.kill)
            guard.start()
            seen = b""
            with suppress(OSError):  # EIO once the command has ended
                while piece := screen.read(4096):
                    seen += piece
            process.wait()
            guard.cancel()
        return process.returncode, _STYLE.sub("", seen.decode().replace("\r\n", "\n"))

    def _stop_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.popen.terminate()
            self._daemon.wait()
            self._daemon.close()
            self._daemon = None


def draw_picture() -> str:
    """The picture that the README's commands draw, as an SVG file."""
    text = README.read_text(encoding="utf-8")
    (first,) = FIRST_COMMAND.findall(text)
    steps = steps_in(text)
    (drawing,) = (place for place, step in enumerate(steps) if f"--svg {PICTURE.name}" in step.command)
    with Terminal() as terminal:
        terminal.serve(first)
        for step in steps[: drawing + 1]:
            terminal.run(step.command)
        return (terminal.home / PICTURE.name).read_text(encoding="utf-8")


if __name__ == "__main__":
    PICTURE.write_text(draw_picture(), encoding="utf-8")
