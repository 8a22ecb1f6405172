# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Errors: the exceptions of the client, and their sentences."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final, Self

from epa_orchestrator.errors import EpaError
from epa_orchestrator.protocol.answers import ErrorAnswer, Explanation
from epa_orchestrator.protocol.room import MakeRoom

#: A longer refusal is cut to this many characters: the longest names all CPUs that other services hold.
_MAX_SENTENCE_LENGTH: Final = 16_384


class DaemonError(EpaError):
    """A request got no valid answer, or a refusal.

    ```
    DaemonError          the answer is invalid, or belongs to another request
    ├── Unreachable      no daemon answers, or not in time
    │   └── WatchEnded   the daemon has ended a watch
    └── RefusedByDaemon  the daemon refuses the request
    ```
    """


class Unreachable(DaemonError):
    """No daemon answers; the message says why and what to do."""

    @classmethod
    def because(cls, error: OSError, path: Path, timeout: float) -> Self:
        """No daemon answers at a path, because an exchange has failed."""
        if isinstance(error, TimeoutError):
            return cls(f"The daemon at {path} did not answer within {timeout:g} seconds")
        if error.errno == errno.ECONNREFUSED and path.exists() and not path.is_socket():
            return cls(f"No daemon can serve {path}, which is no socket: give the path of a daemon's socket")
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return cls(
                f"No daemon serves {path}: start it with 'snap start epa-orchestrator', or outside a snap with"
                " 'epa-orchestrator serve'"
            )
        return cls(f"The daemon at {path} cannot be reached: {error.strerror or error}")


class WatchEnded(Unreachable):
    """The daemon has ended a watch: it stops, or this client has read too slowly."""


class RefusedByDaemon(DaemonError):
    """The daemon refused; the message is its sentence.

    If the request asked for them, `explanation` has the reasons, and `make_room` the claims that could make room.
    """

    def __init__(
        self,
        sentence: str,
        explanation: Explanation | None = None,
        warnings: tuple[str, ...] = (),
        make_room: MakeRoom | None = None,
    ) -> None:
        super().__init__(sentence)
        self.explanation = explanation
        self.warnings = warnings
        self.make_room = make_room

    @classmethod
    def of(cls, refusal: ErrorAnswer) -> Self:
        """The error for a refusal, with its sentence cut to a length that a person can read."""
        sentence = refusal.error
        if not sentence.strip():
            sentence = "The daemon refused the request without a reason"
        if len(sentence) > _MAX_SENTENCE_LENGTH:
            sentence = sentence[:_MAX_SENTENCE_LENGTH] + "…"
        return cls(sentence, refusal.explanation, refusal.warnings, refusal.make_room)
