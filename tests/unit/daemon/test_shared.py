# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shared: the limits that hold for all connections."""

from __future__ import annotations

import asyncio
from typing import cast

from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.peers import Standing
from epa_orchestrator.daemon.shared import ConnectionLimits, Shared


def test_the_quotas_are_those_of_the_limit() -> None:
    async def body() -> None:
        shared = Shared(cast("Orchestrator", None), ConnectionLimits(connections=64))
        assert shared.quotas.shares[Standing.OWN].total == 32
        assert not shared.connections

    asyncio.run(body())
