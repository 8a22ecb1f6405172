# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watcher: a client on a real socket that reads, reads too slowly, sends more, or leaves."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from epa_orchestrator.daemon import watcher
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.peers import Standing
from epa_orchestrator.daemon.shared import ConnectionLimits, Shared
from epa_orchestrator.daemon.watcher import Watcher
from epa_orchestrator.daemon.watchers import Watchers
from epa_orchestrator.peer import Peer

FIRST = b"first\n"


class Orchestrating:
    """A fake orchestrator that has nothing but its watchers."""

    def __init__(self) -> None:
        self.watchers = Watchers()


class Bench:
    """One watcher on a socket pair."""

    def __init__(self, first_line: bytes, standing: Standing, limits: ConnectionLimits) -> None:
        self.shared = Shared(cast("Orchestrator", Orchestrating()), limits)
        ours, self.client = socket.socketpair()
        for each in (ours, self.client):
            each.setblocking(False)
        assert self.shared.quotas.begin_watch(standing, 7)
        self.let_go = 0
        self.watcher = Watcher(self.shared, ours, Peer(1, 7, 7), standing, first_line, self._note_let_go)

    def _note_let_go(self) -> None:
        self.let_go += 1

    @property
    def is_open(self) -> bool:
        return bool(self.shared.connections)

    async def tell(self, line: bytes) -> None:
        self.shared.orchestrator.watchers.tell(lambda: line)
        await asyncio.sleep(0.25)

    async def read(self, size: int) -> bytes:
        """Exactly this much, or all that comes until the end."""
        got = b""
        while len(got) < size and (piece := await self._recv()):
            got += piece
        return got

    async def _recv(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.client, 65536), 20)


@asynccontextmanager
async def bench(
    first_line: bytes = FIRST, standing: Standing = Standing.OWN, limits: ConnectionLimits | None = None
) -> AsyncGenerator[Bench]:
    made = Bench(first_line, standing, limits or ConnectionLimits())
    try:
        yield made
    finally:
        made.watcher.close()
        made.client.close()


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body())


@pytest.mark.parametrize("standing", Standing)
def test_gets_the_first_line_and_all_others(standing: Standing) -> None:
    async def body() -> None:
        async with bench(standing=standing) as b:
            await b.tell(b"1\n")
            await b.tell(b"2\n")
            assert await b.read(10) == FIRST + b"1\n2\n"

    run(body)


@pytest.mark.parametrize("standing", Standing)
def test_gets_a_first_line_that_the_socket_has_no_room_for(standing: Standing) -> None:
    line = json.dumps(list(range(500_000))).encode() + b"\n"

    async def body() -> None:
        async with bench(line, standing) as b:
            await b.tell(b"1\n")
            assert await b.read(len(line) + 2) == line + b"1\n"
            await b.tell(b"2\n")
            assert await b.read(2) == b"2\n"

    run(body)


def test_the_first_line_is_let_go_when_it_is_sent() -> None:
    async def body() -> None:
        async with bench(b"x" * 1_000_000) as b:
            assert b.let_go == 0
            await b.read(1_000_000)
            assert b.let_go == 1
        assert b.let_go == 1

    run(body)


def test_the_first_line_is_let_go_when_the_watcher_closes() -> None:
    async def body() -> None:
        async with bench(b"x" * 1_000_000) as b:
            b.watcher.close()
            assert b.let_go == 1

    run(body)


def test_a_client_that_reads_nothing_is_dropped_when_it_is_too_far_behind() -> None:
    async def body() -> None:
        async with bench(b"x" * 4_000_000) as b:  # however long the first line is
            line, told = b"y" * 300_000, 0
            while b.is_open:
                await b.tell(line)
                told += len(line)
            assert watcher._MOST_BEHIND < told - len(line) < watcher._MOST_BEHIND + 2 * len(line)
            assert not b.shared.orchestrator.watchers

    run(body)


def test_one_long_line_drops_nobody() -> None:
    line = b"y" * (3 * watcher._MOST_BEHIND)

    async def body() -> None:
        async with bench() as b:
            await b.tell(line)
            assert await b.read(len(FIRST + line)) == FIRST + line

    run(body)


def test_a_client_that_reads_nothing_is_dropped_after_a_time() -> None:
    async def body() -> None:
        async with bench(b"x" * 1_000_000, limits=ConnectionLimits(write_timeout=0.4)) as b:
            await asyncio.sleep(0.3)
            assert b.watcher.is_idle()
            b.watcher.expire(b.shared.loop.time())
            assert b.is_open
            await asyncio.sleep(0.3)
            b.watcher.expire(b.shared.loop.time())
            assert not b.is_open

    run(body)


def test_a_client_that_has_everything_is_never_idle() -> None:
    async def body() -> None:
        async with bench(limits=ConnectionLimits(write_timeout=0.01)) as b:
            await asyncio.sleep(0.1)
            b.watcher.expire(b.shared.loop.time())
            assert not b.watcher.is_idle()
            assert b.is_open
            await b.tell(b"x" * 400_000)  # it has had nothing to read for long, and has its time from now on
            assert b.is_open

    run(body)


def test_the_end_of_a_client_is_noticed() -> None:
    async def body() -> None:
        async with bench() as b:
            b.client.close()
            await asyncio.sleep(0.05)
            assert not b.is_open
            assert b.shared.quotas.begin_watch(Standing.OWN, 7)

    run(body)


def test_a_client_may_shut_down_its_sending_side() -> None:
    async def body() -> None:
        async with bench() as b:
            b.client.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.05)
            b.watcher.expire(b.shared.loop.time())
            await b.tell(b"1\n")
            assert await b.read(len(FIRST) + 2) == FIRST + b"1\n"
            b.client.close()
            b.watcher.expire(b.shared.loop.time())
            assert not b.is_open

    run(body)


def test_a_client_that_sends_on_is_dropped() -> None:
    async def body() -> None:
        async with bench() as b:
            b.client.send(b"\n")
            await asyncio.sleep(0.05)
            assert b.is_open
            b.client.send(b"x" * 5000)
            await asyncio.sleep(0.05)
            assert not b.is_open

    run(body)


def test_passed_descriptors_end_the_watch() -> None:
    async def body() -> None:
        async with bench() as b:
            socket.send_fds(b.client, [b"x"], [0])
            await asyncio.sleep(0.05)
            assert not b.is_open

    run(body)
