# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Daemons that the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.builders import Command, Daemon


@pytest.fixture(scope="session")
def served() -> Iterator[Daemon]:
    """A daemon with both pools."""
    made = Daemon({"cpu-pool": "1"})
    yield made
    made.stop()


@pytest.fixture
def daemon(served: Daemon) -> Iterator[Daemon]:
    """The shared daemon, whose claims are released after each test."""
    yield served
    served.reset()


@pytest.fixture(scope="session")
def read_only() -> Iterator[Daemon]:
    """A daemon without a general pool that is read-only, because it cannot import the older daemon's state."""
    made = Daemon(legacy_state='{"version": 1, "allocations_db": {"allocations": {"a": "0-x\x1b[2J"}}}')
    yield made
    made.stop()


@pytest.fixture
def offline(tmp_path: Path) -> Command:
    """A command line without a daemon."""
    return Command(tmp_path)
