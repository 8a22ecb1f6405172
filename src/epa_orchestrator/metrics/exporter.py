# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Exporter: one thread that serves the metrics over HTTP on loopback, to clients that may be hostile.

It never blocks on a client: few may be connected, each has a few seconds, and a new one replaces the oldest. After each
turn the thread rests several times as long as it has worked, so that no number of scrapes takes the interpreter from
the event loop for more than a small part of the time.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from epa_orchestrator.metrics import http

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
_MOST_CLIENTS: Final = 16
_CLIENT_SECONDS: Final = 5.0
#: How often (seconds) to try again to open the port.
_RETRY_SECONDS: Final = 5.0
#: How long the thread rests after a turn: so many times as long as it worked, and at most so long (seconds).
_REST_FACTOR: Final = 4
_MOST_REST: Final = 0.25
#: The shortest time (seconds) between two log lines about failures.
_LOG_EVERY: Final = 60.0

#: Makes the text of a scrape and names its content type. Called in the thread, which imports what it needs then.
Renderer = tuple[Callable[[], bytes], str]


class _Client:
    """One connection: what was received, and what is left to send."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.received = bytearray()
        self.unsent = memoryview(b"")
        self.deadline = time.monotonic() + _CLIENT_SECONDS


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
        self._clients: dict[socket.socket, _Client] = {}
        self._last_line = -_LOG_EVERY
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

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
            for end in (self._wake, self._woken, *self._clients):
                end.close()

    def _serve(self, render: Callable[[], bytes], content_type: str) -> None:
        listener = self._open()
        if listener is None:
            return
        with listener, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopped.is_set():
                ready = selector.select(self._seconds_left())
                begin = time.thread_time()
                for key, _ in ready:
                    if key.fileobj is listener:
                        self._accept(listener, selector)
                    elif key.data is not None:
                        self._proceed(key.data, selector, render, content_type)
                self._drop_late(selector)
                self._stopped.wait(min((time.thread_time() - begin) * _REST_FACTOR, _MOST_REST))

    def _open(self) -> socket.socket | None:
        """The listening socket, as soon as the port can be opened; None when the exporter was stopped before."""
        while not self._stopped.is_set():
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((HOST, self.port))
                listener.listen(_MOST_CLIENTS)
            except OSError as error:
                listener.close()
                self._report(self, _problem(self.port, error))
                self._stopped.wait(_RETRY_SECONDS)
            else:
                self._report(self, None)
                return listener
        return None

    def _seconds_left(self) -> float | None:
        """Until the deadline of the oldest client."""
        oldest = next(iter(self._clients.values()), None)
        return None if oldest is None else max(oldest.deadline - time.monotonic(), 0.0)

    def _accept(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        """Accept one client; the others get their turns after it."""
        try:
            accepted, _ = listener.accept()
        except OSError as error:  # it has gone, or this process may open no more files
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                self._log_failure(error)
                self._stopped.wait(_MOST_REST)
            return
        if len(self._clients) >= _MOST_CLIENTS:
            self._drop(next(iter(self._clients.values())), selector)
        accepted.setblocking(False)
        client = self._clients[accepted] = _Client(accepted)
        selector.register(accepted, selectors.EVENT_READ, client)

    def _proceed(
        self, client: _Client, selector: selectors.BaseSelector, render: Callable[[], bytes], content_type: str
    ) -> None:
        """Read once or write once."""
        if client.socket not in self._clients:  # dropped for another one in this turn
            return
        try:
            if not client.unsent:
                piece = client.socket.recv(http.MOST_BYTES + 1)
                client.received += piece
                if not piece:
                    self._drop(client, selector)
                    return
                if not http.is_whole(client.received):
                    return
                client.unsent = memoryview(self._answer(bytes(client.received), render, content_type))
                selector.modify(client.socket, selectors.EVENT_WRITE, client)
            client.unsent = client.unsent[client.socket.send(client.unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            client.unsent = memoryview(b"")
        if not client.unsent:
            self._drop(client, selector)

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

    def _drop_late(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for client in [each for each in self._clients.values() if each.deadline <= now]:
            self._drop(client, selector)

    def _drop(self, client: _Client, selector: selectors.BaseSelector) -> None:
        del self._clients[client.socket]
        selector.unregister(client.socket)
        with contextlib.suppress(OSError):  # unread bytes would reset the connection before the answer is read
            client.socket.recv(1 << 16)
        client.socket.close()


def _problem(port: int, error: OSError) -> str:
    """The sentence about a port that cannot be opened."""
    if error.errno == errno.EADDRINUSE:
        reason = "another process uses it: choose another port, or end that process"
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = "this process may not open it: choose a port above 1023"
    else:
        reason = error.strerror or str(error)
    return f"No metrics are served, because port {port} of {HOST} (metrics-port) cannot be opened: {reason}"
