# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What an event has found: problems for the operator, problems that go away by themselves, and remarks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from charmlibs import snap

from deadline import DeadlineError
from errors import CharmError, TemporaryError

log = logging.getLogger(__name__)

#: The most characters of an error of snapd in a status.
_MAX_REASON: Final = 400

_RESULT = TypeVar("_RESULT")


@dataclass
class Findings:
    """What an event has found."""

    #: Problems that the operator has to fix.
    blocking: list[str] = field(default_factory=list[str])
    #: Problems that go away by themselves.
    waiting: list[str] = field(default_factory=list[str])
    #: What the operator should know although everything works.
    notes: list[str] = field(default_factory=list[str])
    #: How much is held when nothing is wrong; empty otherwise.
    usage: str = ""
    #: Why the snap could not be installed or refreshed; empty if it was.
    not_refreshed: str = "the snap was not looked at"
    #: Whether the daemon is this unit's, and can be asked.
    owned: bool = True

    def attempt(self, step: Callable[[], _RESULT]) -> _RESULT | None:
        """Take a step, and note a problem, so that the later steps are still taken; returns None then."""
        try:
            return step()
        except CharmError as error:
            log.error("%s", error)
            self.blocking.append(str(error))
        except DeadlineError:
            raise
        except (TemporaryError, snap.Error, OSError) as error:
            self.note_temporary(error)
        return None

    def note_temporary(self, error: Exception) -> None:
        """Note a problem that goes away by itself."""
        reason = str(error)
        if isinstance(error, snap.Error):  # as text, an error of the library can contain a whole answer of snapd
            reason = f"snapd is busy or slow ({' '.join(error.message.split())[:_MAX_REASON]})"
        log.warning("%s", reason)
        self.waiting.append(f"{reason}; the next event tries again")
