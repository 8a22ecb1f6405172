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
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from .harness import PATIENCE, clean_environment

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
#: The shell prints it before and after the exit code of each command.
_END: Final = "\x1e"
_ENDED: Final = re.compile(b"\x1e(\\d+)\x1e$")
_NO_DAEMON: Final = 3
_NO_PROGRAM: Final = 127
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
    """A user's terminal: a home of their own, a shell that keeps its directory and variables, and the daemon that they
    start.
    """

    def __init__(self, environment: Mapping[str, str], patience: float = PATIENCE) -> None:
        # Not pytest's tmp_path: a socket address has room for 107 characters only.
        self.home = Path(tempfile.mkdtemp(prefix="epa-"))
        self._patience = patience
        self._log = self.home / "serve.log"
        screen, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, COLUMNS, 0, 0))
        self._screen = os.fdopen(screen, "rb", buffering=0)
        self._shell = subprocess.Popen(
            ["bash"],
            env={name: value for name, value in environment.items() if name != "XDG_STATE_HOME"}
            | {"HOME": str(self.home), "COLUMNS": str(COLUMNS), "TERM": "xterm", "NO_COLOR": "1"},
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        assert self._shell.stdin is not None
        self._commands = self._shell.stdin
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._screen.close()
        with suppress(BrokenPipeError):
            self._commands.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def serve(self, command: str) -> str:
        """Start a daemon, and wait until it answers; an earlier one is stopped first. Returns what it has logged."""
        self.run('if [ "$served" ]; then kill "$served"; wait "$served"; fi')
        self.run(f"{command} >{self._log} 2>&1 & served=$!")
        (program,) = re.findall(r"\S*epa-orchestrator(?= serve)", command)
        deadline = time.monotonic() + self._patience
        while self.run(f"{program} status")[0] in {_NO_DAEMON, _NO_PROGRAM}:
            assert time.monotonic() < deadline, f"$ {command}\n{self._log.read_text()}(no answer)"
        return self._log.read_text()

    def run(self, command: str) -> tuple[int, str]:
        """Run a command in the shell; returns its exit code, and everything that the user sees."""
        line = f"eval {shlex.quote(command)} </dev/null; printf '{_END}%s{_END}' $?\n"
        self._commands.write(line.encode())
        self._commands.flush()
        guard = threading.Timer(self._patience, self._end)
        guard.start()
        seen, ended = b"", None
        with suppress(OSError):  # EIO once the shell has ended
            while not (ended := _ENDED.search(seen)) and (piece := self._screen.read(4096)):
                seen += piece
        guard.cancel()
        code, output = (int(ended[1]), seen[: ended.start()]) if ended else (self._shell.wait(), seen)
        return code, _STYLE.sub("", output.decode().replace("\r\n", "\n"))

    def failures(self, steps: Iterable[Step]) -> list[str]:
        """Take the steps of a document in order; returns those that went wrong, each with what it printed."""
        failures: list[str] = []
        for step in steps:
            code, output = (0, self.serve(step.command)) if step.serves else self.run(step.command)
            if code != step.exit_code or not (step.shown is None or is_as_shown(output, step.shown)):
                failures.append(f"$ {step.command}\n{output}(exit code {code})")
        return failures

    def _end(self) -> None:
        """End the shell with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()


def source_terminal() -> Terminal:
    """A terminal in whose home the program seems to be installed, but runs from the source tree."""
    terminal = Terminal(clean_environment())
    programs = terminal.home / ".venv" / "bin"
    programs.mkdir(parents=True)
    program = programs / "epa-orchestrator"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m epa_orchestrator "$@"\n')
    program.chmod(0o755)
    (programs / "activate").write_text(f'PATH={shlex.quote(str(programs))}:"$PATH"\n')
    terminal.run("source .venv/bin/activate")
    (terminal.home / "docs").symlink_to(ROOT / "docs")  # they are in a checkout
    return terminal


def draw_picture() -> str:
    """The picture that the README's commands draw, as an SVG file."""
    text = README.read_text(encoding="utf-8")
    (first,) = FIRST_COMMAND.findall(text)
    steps = steps_in(text)
    (drawing,) = (place for place, step in enumerate(steps) if f"--svg {PICTURE.name}" in step.command)
    with source_terminal() as terminal:
        terminal.serve(first)
        for step in steps[: drawing + 1]:
            terminal.run(step.command)
        return (terminal.home / PICTURE.name).read_text(encoding="utf-8")


if __name__ == "__main__":
    PICTURE.write_text(draw_picture(), encoding="utf-8")
