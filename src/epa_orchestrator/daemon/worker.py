"""Worker: one thread for calls that block, such as a sync, which tells the event loop when each has ended.

The loop is woken through an eventfd, which takes a tenth of the time that a thread pool's futures do; with a commit of
0.3 ms that is what a lone client waits for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger(__name__)

Call = Callable[[], None]
Done = Callable[[Exception | None], None]


class Worker:
    """Runs calls one after the other in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Call, Done] | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[Done, Exception | None]] = SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.add_reader(self._wake, self._tell)
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def run(self, call: Call, done: Done) -> None:
        """Run `call` in the thread; then `done` in the loop, with what it raised or None."""
        self._calls.put((call, done))

    def close(self) -> None:
        """Wait until everything has run, and end the thread. No `done` is called any more."""
        self._calls.put(None)
        self._thread.join()
        self._loop.remove_reader(self._wake)
        os.close(self._wake)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, done = item
            try:
                call()
            except Exception as error:  # noqa: BLE001  # `done` gets it
                self._ended.put((done, error))
            else:
                self._ended.put((done, None))
            os.eventfd_write(self._wake, 1)

    def _tell(self) -> None:
        os.eventfd_read(self._wake)
        while not self._ended.empty():
            done, error = self._ended.get()
            try:
                done(error)
            except Exception:  # a bug in one `done` must not stop the next
                log.exception("the end of a call was not handled")
