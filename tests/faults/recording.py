# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Record what a process does to the files of a directory: each change and each sync, in order, with its data."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

#: As recorder.c's struct header: kind, directory, lengths of two paths, unused, inode, offset, length of the data.
_HEADER: Final = struct.Struct("=cbHHHQqQ")


class Step(NamedTuple):
    """One recorded step.

    Kinds: C a name was created, R renamed, L linked, U removed; W data was written, T a file was truncated to `offset`;
    S was synced, F a sync failed; M a mark of the test, whose text is `data`. Names are relative to the directory.
    """

    kind: str
    directory: bool
    inode: int
    offset: int
    name: str
    new_name: str
    data: bytes


class Recording:
    """Records what a process does below `directory` when it is started with `environment`."""

    def __init__(self, library: Path, directory: Path, scratch: Path) -> None:
        self.directory = directory.resolve()
        self._log, self._bad_syncs = scratch / "record", scratch / "bad-syncs"
        self._log.touch()
        self.environment = {
            "LD_PRELOAD": str(library),
            "RECORD_DIR": str(self.directory),
            "RECORD_LOG": str(self._log),
            "RECORD_BAD_SYNCS": str(self._bad_syncs),
        }

    def mark(self, text: str) -> None:
        """Add a mark for something that happened outside the process."""
        mark(self._log, text)

    def fail_syncs(self, count: int) -> None:
        """Let the next `count` syncs fail with EIO; 0 for none."""
        self._bad_syncs.write_bytes(b"s" * count)

    def forget(self) -> None:
        """Begin a new recording."""
        self._log.write_bytes(b"")

    def steps(self) -> list[Step]:
        """All steps, except those on SQLite's shared memory, which does not survive a power cut."""
        return [step for step in self._all() if not step.name.endswith("-shm") and not step.new_name.endswith("-shm")]

    def _all(self) -> Iterator[Step]:
        log = self._log.read_bytes()
        at, passing = 0, set[int]()
        while at < len(log):
            kind, directory, first, second, _, inode, offset, size = _HEADER.unpack_from(log, at)
            at += _HEADER.size
            parts: list[bytes] = []
            for length in (first, second, size):
                parts.append(log[at : at + length])
                at += length
            name, new_name = self._relative(parts[0]), self._relative(parts[1])
            step = Step(kind.decode(), bool(directory), inode, offset, name, new_name, parts[2])
            if step.kind == "C":
                (passing.add if step.new_name.endswith("-shm") else passing.discard)(inode)
            if step.inode not in passing:
                yield step

    def _relative(self, path: bytes) -> str:
        return os.path.relpath(os.fsdecode(path), self.directory) if path else ""


def mark(log: Path, text: str) -> None:
    """Append a mark to a recording's log."""
    data = text.encode()
    with log.open("ab", buffering=0) as file:
        file.write(_HEADER.pack(b"M", 0, 0, 0, 0, 0, 0, len(data)) + data)
