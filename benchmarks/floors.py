# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The floor under every change: how often SQLite can commit one row to this disk so that it survives a power cut.

The rows go into a new database, whose log still grows. That costs the file system more than to overwrite an existing
log, so a change of the daemon can cost less than this floor.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Commits:
    """The speed of synced commits."""

    rate: float
    p50_us: float


def synced_commits(directory: Path, seconds: float) -> Commits:
    """Commit one row after another, as the daemon's store does: write-ahead log, synchronous=FULL."""
    path = directory / "floor.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, service TEXT, cpus TEXT)")
        took: list[int] = []
        begin = now = time.monotonic_ns()
        while now < begin + seconds * 1e9:
            before = now
            database.execute("INSERT INTO t (service, cpus) VALUES (?, ?)", (f"service-{len(took)}", "0-3"))
            now = time.monotonic_ns()
            took.append(now - before)
    path.unlink()
    took.sort()
    return Commits(rate=len(took) / ((now - begin) / 1e9), p50_us=took[len(took) // 2] / 1e3)
