"""Logs: lines on stderr, as cheap as a line for every connection must be.

Lines of one turn of the event loop leave in one write; warnings and errors leave at once. What logging would look up
for every record and no line shows (the caller, the thread, the process) is switched off.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")


class TurnHandler(logging.Handler):
    """Collects lines while an event loop runs, and writes them when its turn ends."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line; write at once what must not be lost, and without an event loop everything."""
        self._lines.append(f"{record.levelname} {self.format(record)}\n")
        if record.levelno >= logging.WARNING:
            self.flush()
        elif len(self._lines) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        lines, self._lines = self._lines, []
        if lines:
            try:
                sys.stderr.write("".join(lines))
                sys.stderr.flush()
            except (OSError, ValueError):  # nobody reads stderr any more
                return


def log_to_stderr(level: str) -> None:
    """Send everything from `level` upwards to stderr.

    Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"the log level '{level}' is not known: set it to one of {', '.join(LEVELS)}")
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    logging.basicConfig(level=level.upper(), handlers=[TurnHandler()], format="%(message)s")


def set_level(level: str) -> None:
    """Send what is from `level` upwards from now on."""
    logging.getLogger().setLevel(level.upper())
