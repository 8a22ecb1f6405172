# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The ways in which the stand-in for snapd can fail."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, TypeAlias


class Refusal(NamedTuple):
    """An error answer; the command `snap` prints its message after `error: `."""

    message: str
    kind: str = ""
    status: int = 400
    value: object = ""


class ChangeFails(NamedTuple):
    """The request is accepted, and the change fails later."""

    text: str


class Silence(enum.Enum):
    """No answer at all."""

    HANG = enum.auto()
    DROP = enum.auto()


Trouble: TypeAlias = Refusal | ChangeFails | Silence

BUSY: Final = Refusal('snap "epa-orchestrator" has "auto-refresh" change in progress', "snap-change-conflict", 409)


class FailedRequest(Exception):
    """A request that ends with a trouble."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


def refusal(message: str, kind: str = "", status: int = 400, value: object = "") -> FailedRequest:
    """The exception for an error answer."""
    return FailedRequest(Refusal(message, kind, status, value))
