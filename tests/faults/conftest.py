# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The options of the battery."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the battery in its long form")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the battery runs in its long form."""
    return bool(request.config.getoption("--long"))
