# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peer log: the log lines about clients. Those of root are all logged, those of other users only in part.

In each second a few lines of each other user are logged. The others are counted, and one line at the end of the second
has the counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from typing import Final

from epa_orchestrator.daemon import logs

#: The most lines in one window: of one user, and of all users but root.
MAX_LINES_OF_A_USER: Final = 10
MAX_LINES: Final = 40
_WINDOW_SECONDS: Final = 1.0
#: How many users get a count of their own.
_MAX_COUNTED_USERS: Final = 8


class PeerLog:
    """Limits and counts the lines of the present second. Use it in the event loop's thread."""

    def __init__(self) -> None:
        self._written: Counter[int] = Counter()
        self._left_out: Counter[int] = Counter()
        self._left_out_of_others = 0
        self._written_in_all = 0
        self._window_end = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unlimited = (0, os.geteuid())

    def note(self, pid: int, uid: int, gid: int, text: str, *arguments: object) -> None:
        """Log an event of a client. `arguments` are formatted into `text` as logging does."""
        if logs.is_info_logged() and (uid in self._unlimited or self._has_room(uid)):
            logs.info("pid=%d uid=%d gid=%d " + text, (pid, uid, gid, *arguments))

    def _has_room(self, uid: int) -> bool:
        now = time.monotonic()
        if now >= self._window_end:
            self._end_window()
            self._window_end = now + _WINDOW_SECONDS
            self._timer = asyncio.get_running_loop().call_later(_WINDOW_SECONDS, self._end_window)
        if self._written_in_all < MAX_LINES and self._written[uid] < MAX_LINES_OF_A_USER:
            self._written_in_all += 1
            self._written[uid] += 1
            return True
        if uid in self._left_out or len(self._left_out) < _MAX_COUNTED_USERS:
            self._left_out[uid] += 1
        else:
            self._left_out_of_others += 1
        return False

    def _end_window(self) -> None:
        """Log the number of lines that were left out, and start a new window."""
        counts = [f"{count} of uid={uid}" for uid, count in self._left_out.most_common()]
        if self._left_out_of_others:
            counts.append(f"{self._left_out_of_others} of other users")
        if counts:
            logs.info("lines about clients left out within a second: %s", (", ".join(counts),))
        self._written.clear()
        self._left_out.clear()
        self._left_out_of_others = self._written_in_all = 0
        self._window_end = 0.0
        if self._timer is not None:
            self._timer.cancel()


_peer_log: Final = PeerLog()
note = _peer_log.note
