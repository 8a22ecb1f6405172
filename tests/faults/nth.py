# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Makes the nth call of a kind fail in a running daemon, and collects the outcomes."""

from __future__ import annotations

import errno
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: In the order of nth_failure.c's enum. Allocations of SQLite count only while one of them is to fail.
CALLS: Final = (
    "open", "socket", "accept", "sync", "write", "rename", "connect", "eventfd", "send", "allocate", "bind", "unlink",
    "mkdir",
)  # fmt: skip
ERRORS: Final = (errno.EMFILE, errno.ENOSPC, errno.EIO, errno.ENOMEM)
#: As nth_failure.c's struct control: call, nth, number, hits; then how often each call was seen.
_CONTROL: Final = struct.Struct("=iiii")
_SEEN: Final = struct.Struct("=16I")
_NEVER: Final = 2**31 - 1


class Control:
    """Controls which call fails in the processes that are started with `environment`."""

    def __init__(self, library: Path, file: Path, directories: list[Path]) -> None:
        file.write_bytes(bytes(4096))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 4096)
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "NTH_CONTROL": str(file),
            "NTH_DIRECTORIES": ":".join(map(str, directories)),
        }
        self.disarm()

    def arm(self, call: str, nth: int, number: int) -> None:
        """Let the nth of these calls from now on fail, and no other one."""
        self._memory[: _CONTROL.size] = _CONTROL.pack(-1, nth, number, 0)
        self._memory[:4] = struct.pack("=i", CALLS.index(call))

    def count(self, call: str) -> None:
        """Let no call fail, but count these calls, allocations too."""
        self._memory[_CONTROL.size : _CONTROL.size + _SEEN.size] = bytes(_SEEN.size)
        self.arm(call, _NEVER, 0)

    def disarm(self) -> None:
        """Let no call fail."""
        self._memory[:4] = struct.pack("=i", -1)

    @property
    def hit(self) -> bool:
        """Whether the call has failed since it was armed."""
        return _CONTROL.unpack_from(self._memory)[3] > 0

    def seen(self, call: str) -> int:
        """The number of these calls since `count`."""
        return _SEEN.unpack_from(self._memory, _CONTROL.size)[CALLS.index(call)]

    def close(self) -> None:
        """Release the shared memory."""
        self._memory.close()


class Table:
    """The outcomes of the failures, by call and by the daemon's activity, and the wrong ones in detail."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str], Counter[str]] = {}
        self.problems: list[str] = []

    def add(self, call: str, kind: str, outcome: str) -> None:
        """Note an outcome."""
        self._outcomes.setdefault((call, kind), Counter())[outcome] += 1

    def problem(self, call: str, kind: str, nth: int, number: int, what: str) -> None:
        """Note a wrong outcome, with the figures that repeat it."""
        self.add(call, kind, "WRONG")
        self.problems.append(f"{kind}: {call} number {nth} fails with {errno.errorcode[number]}: {what}")

    def failures(self) -> int:
        """The number of calls that failed."""
        return sum(outcomes.total() - outcomes["not reached"] for outcomes in self._outcomes.values())

    def text(self) -> str:
        """One line for each call and kind."""
        lines = [f"{'call':10} {'while':28} {'failures':>8}  outcomes"]
        for (call, kind), outcomes in sorted(self._outcomes.items()):
            counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
            lines.append(f"{call:10} {kind:28} {outcomes.total():8}  {counts}")
        return "\n".join(lines)
