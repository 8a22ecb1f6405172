# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Errors: the reasons why the state on disk cannot be used, changed or imported."""

from __future__ import annotations

import sqlite3
from typing import Final

from epa_orchestrator.errors import EpaError

#: Errors of the disk and of SQLite, and the lack of memory for the database's content.
DISK_ERRORS: Final = (sqlite3.Error, OSError, MemoryError)

#: Why nothing is written after the names of the database's files have come to lead to other files.
REPLACED: Final = "the database is no longer the file that this daemon opened"


class StateError(EpaError):
    """The database cannot be used; the message says why, without the file's name: "cannot be read: …"."""


class InUse(StateError):
    """Another daemon has the database open for writing."""


class CommitError(EpaError):
    """Changes could not be made durable and were undone; the message says why."""


class DatabaseChanged(CommitError):
    """Another process has changed or replaced the database, so this daemon writes nothing more into it."""


class LegacyStateError(EpaError):
    """The older daemon's state cannot be imported; the message names the mistake in the file."""


def reason(error: Exception) -> str:
    """The reason of one of DISK_ERRORS, in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or "out of memory"
