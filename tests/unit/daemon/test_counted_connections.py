# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Connections: what is refused before any decision is counted, and so are time-outs and refused connections."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from epa_orchestrator.daemon.shared import ConnectionLimits
from epa_orchestrator.metrics.counts import Counts

from .sockets import LISTING
from .test_server import CHANGE, UID, Bench, answer_of, bench, error_of, settle


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    fresh = Counts()
    for module in ("connection", "server"):
        monkeypatch.setattr(sys.modules[f"epa_orchestrator.daemon.{module}"], "counts", fresh)
    fresh.on = True
    return fresh


def run(directory: Path, body: Callable[[Bench], Awaitable[None]], limits: ConnectionLimits | None = None) -> None:
    async def main() -> None:
        async with bench(directory, limits) as b:
            await body(b)

    asyncio.run(main())


def test_bytes_that_are_no_request_are_invalid(directory: Path, counts: Counts) -> None:
    async def body(b: Bench) -> None:
        await error_of(b.connect(b"rubbish"))
        assert (counts.requests, counts.refusals) == ({("none", "refused"): 1}, {"invalid": 1})

    run(directory, body)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_change_by_a_user_who_may_not_is_a_matter_of_permission(directory: Path, counts: Counts) -> None:
    async def body(b: Bench) -> None:
        await error_of(b.connect(CHANGE, uid=UID))
        assert (counts.requests, counts.refusals) == ({("allocate_cores", "denied"): 1}, {"permission": 1})

    run(directory, body)


def test_change_that_finds_too_many_waiting_is_over_the_quota(directory: Path, counts: Counts) -> None:
    async def body(b: Bench) -> None:
        waiting = [b.connect(CHANGE) for _ in range(24)]
        await settle()
        await error_of(b.connect(CHANGE))
        assert counts.refusals == {"quota": 1}
        b.orchestrator.commit()
        assert len(waiting) == sum(counts.answers["allocate_cores"].values)

    run(directory, body, ConnectionLimits(connections=64))


def test_connection_over_the_quota_is_a_refused_connection(directory: Path, counts: Counts) -> None:
    async def body(b: Bench) -> None:
        silent = [b.connect() for _ in range(4)]
        await settle()
        assert b.server.open_connections == len(silent)
        await error_of(b.connect(LISTING))
        assert (counts.refused_connections, counts.requests) == (1, {})

    run(directory, body, ConnectionLimits(connections=8))


def test_request_that_does_not_come_in_time_is_a_timeout(directory: Path, counts: Counts) -> None:
    async def body(b: Bench) -> None:
        await error_of(b.connect(CHANGE[:5]))
        assert (counts.timeouts, counts.refusals) == (1, {"timeout": 1})

    run(directory, body, ConnectionLimits(read_timeout=0.1))


def test_answer_notes_its_time_by_action(directory: Path, counts: Counts) -> None:
    async def body(b: Bench) -> None:
        await answer_of(b.connect(LISTING))
        assert sum(counts.answers["list_allocations"].values) == 1

    run(directory, body)


def test_nothing_is_noted_while_nobody_asks(directory: Path, counts: Counts) -> None:
    async def body(b: Bench) -> None:
        counts.on = False
        await answer_of(b.connect(LISTING))
        await error_of(b.connect(b"rubbish"))
        assert (counts.answers, counts.requests) == ({}, {})

    run(directory, body)
