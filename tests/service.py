# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The daemon as a process, as the installed snap runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Self

from epa_orchestrator.client.client import Client, DaemonError


class Service:
    """The daemon of an installed snap, run from the source tree; `arguments` are those of `serve`."""

    def __init__(self, data: Path, common: Path, *arguments: str, **environment: str) -> None:
        self.socket = data / "data" / "epa.sock"
        self.log = common / "log"
        self._arguments = arguments
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("EPA_", "SNAP"))}
        self._environment = inherited | {
            "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
            "SNAP_DATA": str(data),
            "SNAP_COMMON": str(common),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True, exist_ok=True)
        common.mkdir(parents=True, exist_ok=True)

    @property
    def client(self) -> Client:
        return Client(self.socket)

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "epa_orchestrator", "serve", *self._arguments]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Stop it with SIGTERM, if it runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, so that its socket file stays."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            self.client.list_allocations()
        except DaemonError:
            return False
        return True


@contextlib.contextmanager
def short_directory() -> Generator[Path]:
    """A directory for sockets: the paths of pytest's directories are too long for their addresses."""
    directory = Path(tempfile.mkdtemp(prefix="epa-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
