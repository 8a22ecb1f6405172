# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Errors: the reasons that people read."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from epa_orchestrator.state.errors import reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (sqlite3.OperationalError("database is locked"), "database is locked"),
        (MemoryError(), "out of memory"),
    ],
)
def test_a_disk_error_has_its_reason_in_words(error: Exception, words: str) -> None:
    assert reason(error) == words
