# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The snap that the tests of the configure hook share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.configure.builders import Snap


@pytest.fixture
def installed(tmp_path: Path) -> Snap:
    return Snap(tmp_path)
