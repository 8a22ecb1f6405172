# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watching: the events of one connection that stays open, each checked before it is passed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from epa_orchestrator.client.checks import InvalidAnswerError, decode, parse
from epa_orchestrator.client.errors import DaemonError, RefusedByDaemon, Unreachable, WatchEnded
from epa_orchestrator.client.event_checks import mistake_in_event, mistake_in_state
from epa_orchestrator.client.exchange import Lines, TooLongError
from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.fields import VERSION
from epa_orchestrator.protocol.watching import ClaimEvent, HugepagesEvent, MachineEvent, StateEvent, WatchEvent

_EVENTS: Final[dict[str, type[ClaimEvent | HugepagesEvent | MachineEvent]]] = {
    "claim": ClaimEvent,
    "hugepages": HugepagesEvent,
    "machine": MachineEvent,
}


class Watch(Iterator[WatchEvent]):
    """The events of a daemon. The first one is a StateEvent; they end with WatchEnded, or when `close` was called.

    Kinds of events that this client does not know are left out. `document` is the last event as the daemon sent it.
    Iterating raises DaemonError.
    """

    def __init__(self, path: Path, timeout: float, pool: str, limit: int) -> None:
        self.document: dict[str, Any] = {}
        self._path = path
        self._timeout = timeout
        self._pool = pool
        self._limit = limit
        self._lines: Lines | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> WatchEvent:
        while not self._is_closed:
            try:
                event = self._begin() if self._lines is None else self._next(self._lines)
            except BaseException:
                self.close()
                raise
            if event is not None:
                return event
        raise StopIteration

    def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        if self._lines is not None:
            self._lines.close()

    def has_more(self, seconds: float) -> bool:
        """Whether something comes within some seconds: a further event, or the end of the watch."""
        return self._lines is not None and not self._is_closed and self._lines.has_more(seconds)

    def _begin(self) -> StateEvent:
        request = json.dumps({"version": VERSION, "action": "watch", "pool": self._pool}).encode()
        try:
            self._lines = Lines(self._path, request, self._timeout, self._limit)
        except OSError as error:
            raise Unreachable.because(error, self._path, self._timeout) from error
        line = self._read(self._lines)
        try:
            self.document = decode(line)
            if "error" in self.document:
                raise RefusedByDaemon.of(parse(ErrorAnswer, line))
            state = parse(StateEvent, line)
        except InvalidAnswerError as error:
            self._fail(error)
        self._check(mistake_in_state(self._pool, state))
        return state

    def _next(self, lines: Lines) -> WatchEvent | None:
        """The next event; None for one that this client does not know."""
        line = self._read(lines)
        try:
            self.document = decode(line)
            model = _EVENTS.get(str(self.document.get("event")))
            if model is None:
                return None
            event = parse(model, line)
        except InvalidAnswerError as error:
            self._fail(error)
        self._check(mistake_in_event(event))
        return event

    def _read(self, lines: Lines) -> bytes:
        try:
            line = lines.read()
        except TooLongError:
            raise DaemonError(f"The server at {self._path} sends a line of more than {self._limit} bytes") from None
        except OSError as error:
            raise Unreachable.because(error, self._path, self._timeout) from error
        if line is None:
            raise WatchEnded(
                f"The daemon at {self._path} has ended the watch: it stops, or this client read too slowly; watch again"
                " once it runs"
            )
        return line

    def _check(self, mistake: str | None) -> None:
        if mistake is not None:
            raise DaemonError(
                f"The server at {self._path} sends an event that this client does not understand: {mistake}"
            )

    def _fail(self, error: InvalidAnswerError) -> NoReturn:
        raise DaemonError(f"The server at {self._path} {error}") from None
