# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A server under the test's control, and a client of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from epa_orchestrator.client import Client
from tests.unit.client.builders import (
    FakeServer,
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a socket's address, unlike pytest's tmp_path."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def server(directory: Path) -> Iterator[FakeServer]:
    made = FakeServer(directory / "epa.sock")
    yield made
    made.stop()


@pytest.fixture
def client(server: FakeServer) -> Client:
    return Client(server.path, timeout=20)
