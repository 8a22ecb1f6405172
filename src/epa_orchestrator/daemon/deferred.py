# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Deferred: calls that share a small part of each turn of the event loop.

The connections of users who may only read go through here, so that the backlog, where root may wait, is emptied first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

#: The part of a turn (seconds) that all deferred calls share.
_TURN_SECONDS: Final = 0.001


class DeferredCalls:
    """Runs calls in their order, as many in each turn of the loop as fit into its part."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._waiting: set[Callable[[], None]] = set()
        self._scheduled = False

    def add(self, call: Callable[[], None]) -> None:
        """Run a call after those that were added before it. One that waits already is not added again."""
        if call in self._waiting:
            return
        self._waiting.add(call)
        self._calls.append(call)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        turn_ends = monotonic() + _TURN_SECONDS
        try:
            while self._calls and monotonic() < turn_ends:
                call = self._calls.popleft()
                self._waiting.remove(call)
                call()
        finally:  # a call that raises does not stop the next ones
            self._scheduled = bool(self._calls)
            if self._scheduled:
                self._loop.call_soon(self._run)
