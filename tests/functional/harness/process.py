# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A daemon process, and the environment that it runs in."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .waiting import PATIENCE

SOURCE: Final = Path(__file__).resolve().parents[3] / "src"


class Process:
    """A started daemon process whose output is collected, so that a full pipe can never hold it up."""

    def __init__(self, command: list[str], environment: Mapping[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        self.popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        """All that it has printed and logged."""
        return self._output.decode(errors="replace")

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, after it has ended by itself."""
        code = self.popen.wait(seconds)
        self._reader.join(PATIENCE)
        return code

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.popen.kill()
        self.wait()

    def close(self) -> None:
        """End it if it still runs."""
        if self.running:
            self.kill()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as stream:
            while chunk := os.read(stream.fileno(), 65536):
                self._output += chunk


def clean_environment() -> dict[str, str]:
    """This process's environment with the source tree, and without variables that change a daemon's behaviour."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EPA_", "SNAP", "LISTEN_", "NOTIFY_", "WATCHDOG_"))
    }
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    return inherited | {"PYTHONPATH": path}


def cpu_seconds(pid: int) -> float:
    """The CPU time (seconds) of a process with all its threads, in user and kernel mode (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> int:
    """The number of file descriptors that a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))
