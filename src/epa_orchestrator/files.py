# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Files: reads a small file of untrusted origin whole, with a limit on its size, and without waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from epa_orchestrator.errors import EpaError


class UnsuitableFileError(EpaError):
    """The path does not lead to a regular file of a reasonable size; the message begins with "it"."""


def read_regular_file(path: str | Path, most: int, *, follow_link: bool) -> bytes:
    """The content of a regular file of at most `most` bytes.

    A FIFO, a device or a directory is opened at most, never read, and opening it does not wait. Without `follow_link`
    a symbolic link at the end of the path is refused too.

    Raises UnsuitableFileError, and OSError where the file cannot be opened or read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags if follow_link else flags | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UnsuitableFileError("it is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            content = file.read(most + 1) if os.fstat(fd).st_size <= most else None
    finally:
        os.close(fd)
    # The size is checked twice, because the file may grow while it is read.
    if content is None or len(content) > most:
        raise UnsuitableFileError(f"it has more than {most} bytes")
    return content


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, such as a name that a rename has changed.

    Raises OSError.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
