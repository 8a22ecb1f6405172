# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A database of the ledger in `builders`, and the store that writes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epa_orchestrator.state.database_files import FILE_NAME
from epa_orchestrator.state.opening import create, open_store
from epa_orchestrator.state.store import Store
from tests.unit.state.builders import LEDGER, PEER, journal_of

#: Leaves the files of an interrupted transaction: some of its pages, and the journal that undoes them.
INTERRUPTED_TRANSACTION = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = DELETE")
db.execute("PRAGMA cache_size = 1")
db.execute("PRAGMA cache_spill = 1")
db.execute("BEGIN")
db.execute("DELETE FROM claim")
db.execute("UPDATE meta SET value = 'half' WHERE key = 'checksum'")
db.executemany("INSERT INTO meta VALUES (?, ?)", [(f"x{number}", "y" * 2000) for number in range(500)])
os._exit(0)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "common" / FILE_NAME
    create(path, LEDGER, PEER, 1.0)
    return path


@pytest.fixture
def opened(path: Path) -> Iterator[Store]:
    store, _ = open_store(path)
    yield store
    store.close()


@pytest.fixture
def interrupt_transaction(path: Path) -> Callable[[], None]:
    """Leaves the database as a crash within a transaction does."""

    def interrupt() -> None:
        subprocess.run([sys.executable, "-c", INTERRUPTED_TRANSACTION, str(path)], check=True)
        assert journal_of(path).stat().st_size > 0

    return interrupt
