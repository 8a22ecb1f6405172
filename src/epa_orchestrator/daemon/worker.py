"""Worker: one thread for calls that block, such as a sync; the event loop handles the end of each call.

The thread wakes the loop with `call_soon_threadsafe`. An eventfd instead saved 1 to 2 % of the CPU time of a lone
change, and between -1 and 4 % with 64 clients, which is within the noise (24 alternating rounds on 256 CPUs).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

Call = Callable[[], None]
Done = Callable[[Exception | None], None]


class Worker:
    """Runs calls one after the other in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Call, Done] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def run(self, call: Call, done: Done) -> None:
        """Run `call` in the thread, then `done` in the loop, with the exception that `call` raised or None.

        The loop logs an exception of `done`, and goes on.
        """
        self._calls.put((call, done))

    def close(self) -> None:
        """Wait until every call has run, and end the thread. From now on no `done` is called."""
        self._closed = True
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, done = item
            error: Exception | None = None
            try:
                call()
            except Exception as raised:  # noqa: BLE001  # `done` gets it
                error = raised
            self._loop.call_soon_threadsafe(self._finish, done, error)

    def _finish(self, done: Done, error: Exception | None) -> None:
        if not self._closed:
            done(error)
