# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Fixtures for the sockets of the daemon's tests."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from epa_orchestrator.daemon import socket_keeper


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path short enough for a socket's address, unlike tmp_path, which other users may enter."""
    with tempfile.TemporaryDirectory(prefix="epa-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def path(directory: Path) -> Path:
    """The place of a socket file."""
    (directory / "data").mkdir()
    return directory / "data" / "epa.sock"


@pytest.fixture
def patient_proofs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """No time-outs: a proof that waits for a foreign server hangs instead of passing late."""
    monkeypatch.setattr(socket_keeper, "_PROOF_TIMEOUT", 1e9)
    caplog.set_level(logging.INFO)
