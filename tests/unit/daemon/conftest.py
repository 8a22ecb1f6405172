# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What the daemon's tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path short enough for a socket's address, unlike tmp_path, which other users may enter."""
    with tempfile.TemporaryDirectory(prefix="epa-") as made:
        Path(made).chmod(0o755)
        yield Path(made)
