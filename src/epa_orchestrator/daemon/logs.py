"""Logs: lines on stderr, as cheap as a line for every connection must be, and never a reason to wait.

Lines of one turn of the event loop are written together; warnings and errors are written at once. While nobody reads
stderr the lines are kept, then dropped and counted. Fields of a record that no line shows (the caller, the thread, the
process) are switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

from epa_orchestrator.daemon.unblocked import UnblockedWriter

log = logging.getLogger(__name__)

LEVELS: Final = ("debug", "info", "warning", "error")

#: How many bytes are kept while nobody reads, and how often (seconds) to try again.
_MOST_KEPT: Final = 262_144
_TRY_AGAIN: Final = 0.1
#: How long (seconds) the end of the process waits for a reader.
_LAST_PATIENCE: Final = 0.5
_STDERR: Final = 2


class TurnHandler(logging.Handler):
    """Collects lines while an event loop runs, and writes them when its turn ends. Any thread may log."""

    def __init__(self, fd: int = _STDERR) -> None:
        super().__init__()
        self._writer = UnblockedWriter(fd)
        #: The lines of this turn; bytes that could not be written yet; how many lines were dropped.
        self._lines: list[str] = []
        self._kept = bytearray()
        self._dropped = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retry: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; warnings and errors are written at once, and without an event loop everything is."""
        self.take(f"{record.levelname} {self.format(record)}\n", at_once=record.levelno >= logging.WARNING)

    def take(self, line: str, *, at_once: bool = False) -> None:
        """Take a whole line, and write it at once or with the others of this turn."""
        self._lines.append(line)
        if at_once:
            self.flush()
        elif len(self._lines) == 1:
            try:
                self._loop = asyncio.get_running_loop()
                self._loop.call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        """Write the collected lines, as much as is possible now."""
        assert self.lock is not None
        with self.lock:
            lines, self._lines = self._lines, []
            if lines:
                self._keep(lines)
            self._write()
            if self._kept or self._dropped:
                self._try_again_later()

    def close(self) -> None:
        """Write what is left, for which a reader that is slow gets a moment, and let go of the file descriptor."""
        self.flush()
        assert self.lock is not None
        enough = time.monotonic() + _LAST_PATIENCE
        while (self._kept or self._dropped) and time.monotonic() < enough:
            time.sleep(0.01)
            with self.lock:
                self._write()
        if self._retry is not None:
            self._retry.cancel()
        self._writer.close()
        super().close()

    def _keep(self, lines: list[str]) -> None:
        text = "".join(lines).encode("utf-8", "backslashreplace")
        if self._dropped:
            self._write()
        if self._dropped:  # lines after dropped ones are dropped too, so that the rest stays in order
            self._dropped += text.count(b"\n")
            return
        self._kept += text
        if len(self._kept) > _MOST_KEPT:
            self._write()
        if len(self._kept) > _MOST_KEPT:
            end = self._kept.rfind(b"\n", 0, _MOST_KEPT) + 1
            self._dropped = self._kept.count(b"\n", end)
            del self._kept[end:]

    def _write(self) -> None:
        if self._kept:
            del self._kept[: self._writer.write(self._kept)]
        if self._dropped and not self._kept:
            self._kept += b"WARNING %d lines of this log were dropped, because nobody read it\n" % self._dropped
            self._dropped = 0
            del self._kept[: self._writer.write(self._kept)]

    def _try_again_later(self) -> None:
        """Try again although no new line comes; other threads leave that to the event loop's."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self.flush)
            return
        if self._retry is None:
            self._loop = loop
            self._retry = loop.call_later(_TRY_AGAIN, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self.flush()


def log_to_stderr(level: str) -> None:
    """Send everything from `level` upwards to stderr.

    Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"the log level '{level}' is not known: set it to one of {', '.join(LEVELS)}")
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    if not logging.getLogger().handlers:
        logging.basicConfig(level=level.upper(), handlers=[TurnHandler()], format="%(message)s")


def tells_all() -> bool:
    """Whether the log has lines about single requests."""
    return logging.getLogger().isEnabledFor(logging.INFO)


def info(text: str, arguments: tuple[object, ...]) -> None:
    """Log a line for a request as `logging` would, but without a record, which takes 2 µs instead of 9.

    Where handlers other than ours are installed, they get a record.
    """
    handlers = logging.getLogger().handlers
    handler = handlers[0] if len(handlers) == 1 else None
    if isinstance(handler, TurnHandler):
        handler.take(f"INFO {text % arguments}\n")
    else:
        log.info(text, *arguments)


def set_level(level: str) -> None:
    """Log everything from `level` upwards from now on."""
    logging.getLogger().setLevel(level.upper())
