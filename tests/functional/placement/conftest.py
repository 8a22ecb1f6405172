# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The fixture of the placement tests: a started daemon on eight cores, with its state in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from tests.functional.harness import MEMORY, Reused

from .hosts import EIGHT


@pytest.fixture(scope="module", autouse=True)
def in_memory() -> Iterator[None]:
    """Use directories in memory: these tests need no disk, and memory is faster."""
    before, tempfile.tempdir = tempfile.tempdir, str(MEMORY) if MEMORY else None
    yield
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def reused(in_memory: None) -> Iterator[Reused]:
    """The daemon on eight cores."""
    with Reused(EIGHT) as shared:
        yield shared
