# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Streams: what becomes of output that nobody takes, whichever code writes it.

- stdout is closed or full: the command fails with one sentence, and exit code 1.
- The program that reads stdout has ended: the command ends with the exit code of a program that SIGPIPE ends.
- stderr takes nothing, for any of these reasons: what is written there is lost, and the exit code stays.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, Final, NoReturn

EXIT_UNWRITABLE: Final = 1
#: 128 + SIGPIPE, as a shell shows it.
EXIT_WITHOUT_READER: Final = 141

_STDOUT: Final = 1
_STDERR: Final = 2


class OutputLost(SystemExit):
    """Nothing can be written to stdout any longer: `reason` says why. No handler of errors on the way catches it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.reason = reason


class _Results(io.FileIO):
    """stdout: the command ends when it cannot be written."""

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            # What is still in a buffer would fail once more, at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
            end_output(error)


class _Remarks(io.FileIO):
    """stderr: what it does not take is lost."""

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def end_output(error: OSError) -> NoReturn:
    """End the command because of an error in writing a result."""
    if isinstance(error, BrokenPipeError):
        raise OutputLost(EXIT_WITHOUT_READER, "The program that reads the output has ended") from None
    closed = error.errno == errno.EBADF
    reason = "stdout is closed" if closed else f"stdout cannot be written: {error.strerror}"
    raise OutputLost(EXIT_UNWRITABLE, reason) from None


def take_over() -> None:
    """Write to stdout and stderr by these rules from now on. A character that cannot be encoded is escaped."""
    _open_closed()
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115  # open until the process ends
    sys.stdout = _text(_Results(_STDOUT, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Remarks(_STDERR, "wb", closefd=False), sys.stderr)


def _open_closed() -> None:
    """Open closed descriptors, for the wrong direction: a file or a connection would get their numbers otherwise."""
    for descriptor, flag in ((0, os.O_WRONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flag)  # gets the lowest number that is free


def _text(stream: io.FileIO, present: Any) -> io.TextIOWrapper:
    """A stream of text in the form of the present one, which is None where the descriptor was closed."""
    return io.TextIOWrapper(
        io.BufferedWriter(stream),
        encoding=getattr(present, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(present, "line_buffering", False),
        write_through=getattr(present, "write_through", False),
    )
