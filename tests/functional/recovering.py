# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The sections of docs/how-to/recover.md, and a real daemon on which their commands run as they are printed.

The page names the paths of the snap; here they are those of the daemon under test. There is no snapd in a test, so
`snap stop`, `start`, `restart` and `set` do to this daemon what snapd does to the one in the snap.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from .documented import ROOT
from .harness import PATIENCE, Daemon, wait_until

PAGE: Final = ROOT / "docs" / "how-to" / "recover.md"

_BLOCK: Final = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_HERE_DOCUMENT: Final = re.compile(r"<<'(\w+)'")
_SET: Final = re.compile(r"sudo snap set epa-orchestrator ([a-z-]+)=(.*)")
_COMMON: Final = "/var/snap/epa-orchestrator/common"
_CURRENT: Final = "/var/snap/epa-orchestrator/current"


class Section(NamedTuple):
    """A way to break: the lines that the page shows of it, and the commands of each of its blocks of steps."""

    shown: list[str]
    steps: list[list[str]]

    @property
    def commands(self) -> list[str]:
        """All commands, in order."""
        return [command for block in self.steps for command in block]


def sections() -> dict[str, Section]:
    """The sections of the page by their heading."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {heading: _section(text) for heading, text in zip(parts[::2], parts[1::2], strict=True)}


def _section(text: str) -> Section:
    blocks = [(language, _dedented(content, indent)) for indent, language, content in _BLOCK.findall(text)]
    # A long line goes on in the next one, indented, as on a terminal.
    texts = [content.replace("\n  ", " ") for language, content in blocks if language == "text"]
    shown = [line for text in texts for line in text.splitlines()]
    return Section(shown, [_commands(content) for language, content in blocks if language == "sh"])


def _dedented(content: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in content.splitlines(keepends=True))


def _commands(block: str) -> list[str]:
    """The commands of a block: one a line, with their here-documents."""
    lines, commands = block.splitlines(), list[str]()
    while lines:
        command = lines.pop(0)
        if match := _HERE_DOCUMENT.search(command):
            end = lines.index(match[1]) + 1
            command, lines = "\n".join([command, *lines[:end]]), lines[end:]
        commands.append(command)
    return commands


def shows(output: str, line: str) -> bool:
    """Whether an output has a line that begins as the page shows it; `…` stands for any text."""
    return re.search("^" + ".*".join(map(re.escape, line.split("…"))), output, re.MULTILINE) is not None


def as_snapd_reads(value: str) -> object:
    """The value of an option on the command line of `snap set`: JSON if it is any, else text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


class Patient:
    """A daemon that is broken and recovers. Its working directory is that of the person at the terminal."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.home = daemon.base / "home"
        self.home.mkdir()
        program = self.home / "epa-orchestrator"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m epa_orchestrator "$@"\n')
        program.chmod(0o755)

    def follow(self, commands: list[str], by_hand: Mapping[str, Callable[[], object]] | None = None) -> str:
        """Run the commands of the page; `by_hand` does what a command cannot do to a made-up host. The last output."""
        output, done = "", dict(by_hand or {})
        for command in commands:
            if command in done:
                done.pop(command)()
            else:
                output = self.run(command)
        assert not done, "the page has other commands"
        return output

    def run(self, command: str) -> str:
        """Run one command of the page; it must succeed. Returns what it printed, with the paths of the page."""
        daemon = self.daemon
        match command:
            case "sudo snap stop epa-orchestrator":
                if daemon.process is not None and daemon.process.running:
                    daemon.stop()
            case "sudo snap start epa-orchestrator" | "sudo snap start --enable epa-orchestrator":
                daemon.start()
            case "sudo snap restart epa-orchestrator":
                daemon.restart()
            case _ if option := _SET.fullmatch(command):
                daemon.configure({option[1]: as_snapd_reads(option[2])})
                daemon.send_signal(signal.SIGHUP)
            case _:
                return self._shell(command)
        return ""

    def status(self, code: int = 0) -> str:
        """What `status` prints, once it ends with this code."""
        return self.output("epa-orchestrator status", code)

    def output(self, command: str, code: int = 0) -> str:
        """What a command prints that ends with this code."""
        done = self._run(command)
        assert done.returncode == code, done.stdout
        return done.stdout

    def until_well(self) -> None:
        """Wait until `status` says that all is well: the daemon reads its options a moment after the signal."""
        wait_until(lambda: "all is well\n" in self._run("epa-orchestrator status").stdout, "all is well")

    def log(self) -> str:
        """The log, with the paths of the page."""
        return self._as_in_the_page(self.daemon.log())

    def _shell(self, command: str) -> str:
        done = self._run(re.sub(r"\bsudo ", "", command))
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        here = command.replace(_COMMON, str(self.daemon.common)).replace(_CURRENT, str(self.daemon.data))
        environment = self.daemon.environment
        done = subprocess.run(
            ["bash", "-c", here],
            cwd=self.home,
            env=environment | {"PATH": f"{self.home}:{environment['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        done.stdout = self._as_in_the_page(done.stdout)
        return done

    def _as_in_the_page(self, text: str) -> str:
        daemon = self.daemon
        paths = {daemon.settings_path: f"{_CURRENT}/settings.json", daemon.common: _COMMON, daemon.data: _CURRENT}
        for path, name in paths.items():
            text = text.replace(str(path), name)
        return text
