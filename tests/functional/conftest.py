# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The fixture of most functional tests: a started daemon on the small host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Daemon, Reused


@pytest.fixture(scope="module")
def reused() -> Iterator[Reused]:
    """The daemon that the module's tests have one after the other; a module that needs another one overrides it."""
    with Reused() as shared:
        yield shared


@pytest.fixture
def daemon(reused: Reused) -> Iterator[Daemon]:
    """A daemon that is started and holds nothing."""
    with reused.lent() as lent:
        yield lent
