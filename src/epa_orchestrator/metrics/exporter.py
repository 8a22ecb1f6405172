# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Exporter: one thread that serves the metrics over HTTP on loopback, to clients that may be hostile.

It never blocks on a client (`scrapers`). The thread rests several times as long as it works, so that no number of
scrapes takes the interpreter from the event loop for more than a small part of the time. All scrapers whose requests
have come by the same turn get the same text.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from epa_orchestrator.metrics import http
from epa_orchestrator.metrics.scrapers import Scrapers

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
#: How many connections may wait to be accepted: a scraper finds no place while hostile ones take all of them.
_BACKLOG: Final = 4096
#: How long (seconds) the kernel keeps back a connection without a request. It cannot while thousands are silent.
_DEFER_SECONDS: Final = 5
#: How often (seconds) to try again to open the port.
_RETRY_SECONDS: Final = 5.0
#: How long the thread rests after its turns: so many times as long as it worked, and at most so long (seconds). Shorter
#: rests are put together, because each costs a wait for a CPU.
_REST_FACTOR: Final = 4
_LEAST_REST: Final = 0.02
_MOST_REST: Final = 0.25
#: The shortest time (seconds) between two log lines about failures.
_LOG_EVERY: Final = 60.0

#: Makes the text of a scrape and names its content type. Called in the thread, which imports what it needs then.
Renderer = tuple[Callable[[], bytes], str]


class Exporter:
    """Serves one port until it is stopped.

    `prepare` returns the renderer. `report` gets this exporter and a sentence when the port cannot be opened, or None
    when it is open; both are called in the thread. `after` is the exporter that has to end first.
    """

    def __init__(
        self,
        port: int,
        prepare: Callable[[], Renderer],
        report: Callable[[Exporter, str | None], None],
        after: Exporter | None = None,
    ) -> None:
        self.port = port
        self._prepare = prepare
        self._report = report
        self._after = after
        self._stopped = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._last_line = -_LOG_EVERY
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def url(self) -> str:
        """Where the metrics are."""
        return f"http://{HOST}:{self.port}/metrics"

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end soon; it closes the port."""
        self._stopped.set()
        with contextlib.suppress(OSError):  # the thread has ended
            self._wake.send(b"x")

    def join(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended."""
        self._thread.join(seconds)

    def _run(self) -> None:
        if self._after is not None:
            self._after.join()
            self._after = None
        try:
            if not self._stopped.is_set():
                self._serve(*self._prepare())
        except Exception:  # a bug; the daemon goes on
            log.exception("metrics are not served any more")
            self._report(self, "Metrics are not served because of an internal error: see the daemon's log")
        finally:
            self._wake.close()
            self._woken.close()

    def _serve(self, render: Callable[[], bytes], content_type: str) -> None:
        listener = self._open()
        if listener is None:
            return
        once = functools.cache(render)
        with (
            listener,
            selectors.PollSelector() as selector,
            contextlib.closing(
                Scrapers(selector, lambda request: self._answer(request, once, content_type))
            ) as scrapers,
        ):
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            owed = 0.0
            while not self._stopped.is_set():
                ready = selector.select(scrapers.seconds_left())
                begin = time.thread_time()
                for key, _ in ready:
                    if key.fileobj is listener:
                        self._accept(listener, scrapers)
                    elif key.data is not None:
                        scrapers.proceed(key.data)
                scrapers.drop_late()
                once.cache_clear()
                owed += (time.thread_time() - begin) * _REST_FACTOR
                if owed >= _LEAST_REST:
                    self._stopped.wait(min(owed, _MOST_REST))
                    owed = 0.0

    def _open(self) -> socket.socket | None:
        """The listening socket, as soon as the port can be opened; None when the exporter was stopped before."""
        while not self._stopped.is_set():
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((HOST, self.port))
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
                listener.listen(_BACKLOG)
            except OSError as error:
                listener.close()
                self._report(self, _problem(self.port, error))
                self._stopped.wait(_RETRY_SECONDS)
            else:
                self._report(self, None)
                return listener
        return None

    def _accept(self, listener: socket.socket, scrapers: Scrapers) -> None:
        try:
            scrapers.accept(listener)
        except OSError as error:  # this process may open no more files
            self._log_failure(error)
            self._stopped.wait(_MOST_REST)

    def _answer(self, request: bytes, render: Callable[[], bytes], content_type: str) -> bytes:
        try:
            return http.answer(request, render, content_type)
        except Exception as error:  # noqa: BLE001  # a bug; the scraper must not see it, and the next one may succeed
            self._log_failure(error)
            return http.failure()

    def _log_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._last_line >= _LOG_EVERY:
            self._last_line = now
            log.error("a scrape of the metrics failed", exc_info=error)


def _problem(port: int, error: OSError) -> str:
    """The sentence about a port that cannot be opened."""
    if error.errno == errno.EADDRINUSE:
        reason = "another process uses it: choose another port, or end that process"
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = "this process may not open it: choose a port above 1023"
    else:
        reason = error.strerror or str(error)
    return f"No metrics are served, because port {port} of {HOST} (metrics-port) cannot be opened: {reason}"
