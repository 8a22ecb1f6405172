# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs a function between two system calls of a running daemon, with a library that is loaded into its process."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self


class Stepper:
    """Stops a daemon before each of its calls, as long as it is on. The daemon starts with `environment`."""

    def __init__(self, library: Path) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="epa-step-"))
        self._on = self._base / "on"
        self.environment = {
            "LD_PRELOAD": str(library),
            "STEP_ON": str(self._on),
            "STEP_SOCKET": str(self._base / "s"),
        }
        self._before: Callable[[str], None] = lambda _: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.environment["STEP_SOCKET"])
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.off()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        shutil.rmtree(self._base)

    def on(self, before: Callable[[str], None]) -> None:
        """Call a function with the name of each call, before the daemon makes it."""
        self._before = before
        self._on.touch()

    def off(self) -> None:
        """Let the daemon run freely."""
        self._on.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                stopped, _ = self._listener.accept()
            except OSError:  # closed
                return
            with stopped:
                self._before(stopped.recv(100).decode())
                stopped.send(b".")
