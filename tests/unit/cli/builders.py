# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tools for tests of the command line: a command, a daemon, a hostile server, and readers of printed tables."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from epa_orchestrator.cli.app import application
from epa_orchestrator.client import Client, DaemonError
from tests.functional.harness import PATIENCE, Process, clean_environment, wait_until
from tests.unit.client.builders import FakeServer

APP = application()

#: Every command that asks a daemon.
ASKING = (
    ["status"],
    ["list"],
    ["allocate", "a", "2"],
    ["allocate", "a", "--percent", "50"],
    ["allocate", "a", "2", "--numa-node", "0"],
    ["allocate", "a", "2", "--dry-run"],
    ["explain", "a", "2"],
    ["explain", "a", "--percent", "50"],
    ["explain", "a", "2", "--numa-node", "0"],
    ["release", "a"],
    ["release", "a", "--numa-node", "0"],
    ["hugepages"],
    ["hugepages", "a", "--count", "1"],
)


_COLUMNS = re.compile(r"\s{2,}")


def rows(lines: Sequence[str]) -> list[list[str]]:
    """The cells of a printed table's body, as a program reads them."""
    begin = next(index for index, line in enumerate(lines) if line.isupper())
    body = [*lines[begin + 1 :], ""]
    return [_COLUMNS.split(line) for line in body[: body.index("")]]


def table(text: str) -> list[dict[str, str]]:
    """The rows of a printed table by its headings, as a terminal shows both."""
    lines = text.splitlines()
    head = next(line for line in lines if line.isupper())
    headings = ["CPUs" if heading == "CPUS" else heading.capitalize() for heading in _COLUMNS.split(head)]
    return [dict(zip(headings, ("" if cell == "-" else cell for cell in row), strict=True)) for row in rows(lines)]


class Command:
    """Runs the command line in this process, with its own environment."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.environment: dict[str, str | None] = {
            "SNAP_DATA": str(base / "data"),
            "SNAP_COMMON": str(base / "common"),
            "EPA_SETTINGS": None,
            "EPA_SYSFS": None,
            "EPA_SOCKET": None,
            "COLUMNS": "150",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }

    @property
    def socket(self) -> Path:
        return self.base / "data" / "data" / "epa.sock"

    def run(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> Result:
        """Run a command; a traceback fails the test."""
        result = CliRunner().invoke(
            APP, arguments, env=self.environment | dict(env or {}), prog_name="epa-orchestrator"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start a command as a process of its own."""
        return Process([sys.executable, "-m", "epa_orchestrator", *arguments], self.process_environment(**environment))

    def run_process(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a process of its own until it ends."""
        return subprocess.run(
            [sys.executable, "-m", "epa_orchestrator", *arguments],
            env=self.process_environment(**environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def on_terminal(self, *arguments: str, answer: Callable[[], str] | None = None) -> tuple[int, str, str]:
        """Run a command with a terminal as stdin and stderr; returns the exit code, stdout, and the terminal's text.

        `answer` is called when the command asks, and returns what the person types.
        """
        ours, terminal = pty.openpty()
        with (
            os.fdopen(ours, "r+b", buffering=0) as screen,
            subprocess.Popen(
                [sys.executable, "-m", "epa_orchestrator", *arguments],
                env=self.process_environment(),
                stdin=terminal,
                stdout=subprocess.PIPE,
                stderr=terminal,
                start_new_session=True,
                # Without it, Ctrl-C would not reach the command.
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            ) as process,
        ):
            os.close(terminal)
            guard = threading.Timer(PATIENCE, process.kill)
            guard.start()
            shown = b""
            with suppress(OSError):  # EIO once the command has ended
                while piece := screen.read(4096):
                    shown += piece
                    if answer is not None and shown.endswith(b"[y/N] "):
                        screen.write(answer().encode())
                        answer = None
            stdout, _ = process.communicate(timeout=PATIENCE)
            guard.cancel()
        return process.returncode, stdout.decode(), shown.decode().replace("\r\n", "\n")

    def drawn(self, *arguments: str, environment: Mapping[str, str], columns: int = 80) -> str:
        """What a command draws on a terminal as stdout, of so many columns."""
        ours, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        own = self.process_environment(**environment)
        own.pop("COLUMNS", None)
        if "NO_COLOR" not in environment:
            own.pop("NO_COLOR", None)
        with os.fdopen(ours, "rb", buffering=0) as screen:
            process = subprocess.Popen(
                [sys.executable, "-m", "epa_orchestrator", *arguments], env=own, stdout=terminal, stderr=subprocess.PIPE
            )
            os.close(terminal)
            shown = b""
            with process, suppress(OSError):  # EIO once the command has ended
                while piece := screen.read(4096):
                    shown += piece
        return shown.decode().replace("\r\n", "\n")

    def process_environment(self, **environment: str) -> dict[str, str]:
        own = {name: value for name, value in self.environment.items() if value is not None}
        return clean_environment() | own | environment

    def text(self, *arguments: str) -> str:
        """The output of a command that succeeds."""
        result = self.run(*arguments)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """The JSON document of a command that succeeds."""
        return json.loads(self.text(*arguments, "--json"))

    def failure(self, code: int, *arguments: str, env: Mapping[str, str | None] | None = None) -> str:
        """The one line on stderr of a command that fails; stdout has it only with --json."""
        result = self.run(*arguments, env=env)
        assert result.exit_code == code, result.output
        assert result.stderr.startswith("epa-orchestrator: ")
        assert result.stderr.endswith("\n")
        assert result.stderr[:-1].isprintable()
        sentence = result.stderr[:-1].removeprefix("epa-orchestrator: ")
        if "--json" in arguments:
            assert json.loads(result.stdout) == {"error": sentence}
        else:
            assert result.stdout == ""
        return sentence

    def granted(self, *arguments: str) -> tuple[str, str]:
        """The CPUs on stdout, and the line on stderr, of a command that succeeds."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout.rstrip("\n"), result.stderr.rstrip("\n")

    def misuse(self, *arguments: str) -> str:
        """The text on stderr of a wrong use of the command line."""
        result = self.run(*arguments)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        return result.stderr


class Daemon(Command):
    """A daemon that serves the machine vm-8: CPUs 2-7 isolated, CPUs 2n and 2n + 1 share a core, one NUMA node."""

    def __init__(self, settings: dict[str, Any] | None = None, legacy_state: str | None = None) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="epa-")))
        (self.base / "data" / "data").mkdir(parents=True)
        (self.base / "settings.json").write_text(json.dumps(settings or {}))
        if legacy_state is not None:
            (self.base / "data" / "data" / "state.json").write_text(legacy_state)
        self.process = self.start("serve", "--machine", "vm-8", EPA_SETTINGS=str(self.base / "settings.json"))
        self.client = Client(self.socket)
        wait_until(self._answers, "the daemon answers")

    def reset(self) -> None:
        """Release all claims and hugepage records."""
        for pool in ("isolated", "general"):
            for claim in self.client.list_allocations(pool).allocations:
                self.client.allocate(claim.service_name, -1, pool)
        for node, pages in self.client.memory_info().numa_hugepages.items():
            for service, counts in pages.allocations.items():
                for size in counts:
                    self.client.set_hugepages(service, int(node.removeprefix("node")), int(size), -1)

    def stop(self) -> None:
        self.process.signal(signal.SIGTERM)
        try:
            assert self.process.wait() == 0, self.process.output()
        finally:
            self.process.close()
            shutil.rmtree(self.base)

    def _answers(self) -> bool:
        assert self.process.running, self.process.output()
        try:
            self.client.list_allocations()
        except DaemonError:
            return False
        return True


class HostileServer(FakeServer):
    """Answers or refuses every request, with terminal escapes in each text."""

    ESCAPES = "\x1b[31m\x1b]0;t\x07\x9b2J\r\u202e"

    def __init__(
        self, path: Path, *, refuse: bool = False, escapes: str = ESCAPES, features: Sequence[str] = ()
    ) -> None:
        path.parent.mkdir(parents=True)
        super().__init__(path)
        self._refuse = refuse
        self._escapes = escapes
        self._features = features
        self.handler = lambda connection: connection.sendall(json.dumps(self._answer(self.requests[-1])).encode())

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The requests in the order of their arrival."""
        return [json.loads(request) for request in self.received]

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name = f"a{self._escapes}"
        if self._refuse:
            return {"version": "1.0", "error": f"No{self._escapes} {request['action']}"}
        numbers = dict.fromkeys(
            ("total_available_cpus", "remaining_available_cpus", "total_allocations", "total_allocated_cpus"), 1
        )
        pool = request.get("pool", "isolated")
        common = {"version": "1.0", "service_name": "a", "pool": pool, "preemption_policy": "legacy", **numbers}
        if request["action"] == "list_allocations":
            claim = {"service_name": name, "pool": pool, "allocated_cores": "2", "preemption_policy": "legacy"}
            cpus = dict.fromkeys(("configured_cpus", "eligible_cpus", "unavailable_allocated_cpus"), "2")
            return common | {
                "supported_cpu_features": self._features,
                "cpu_pool": {"source": "isolated", **cpus},
                "outdated_placements": [name],
                "allocations": [claim | {"cores_count": 1, "is_explicit": True}],
            }
        if request["action"] == "get_memory_info":
            node = {"capacity": [{"total": 1, "free": 1, "size": 2048}], "allocations": {name: {"2048": 1}}}
            return {"version": "1.0", "service_name": "", "numa_hugepages": {"node0": node}}
        return common | {"service_name": name}
