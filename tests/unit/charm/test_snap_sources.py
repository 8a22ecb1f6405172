# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""How sources of the snap appear in status messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from snap_sources import FileSource, Source, StoreSource


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (FileSource(Path("/charm/epa-orchestrator.snap")), "the file epa-orchestrator.snap"),
        (StoreSource("latest/stable"), "latest/stable in the store"),
        (StoreSource("latest/stable", 4), "revision 4 in latest/stable in the store"),
    ],
)
def test_source_prints_as_status_text(source: Source, text: str) -> None:
    assert str(source) == text
