# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sockets, obstacles and a socket keeper for the tests of the daemon's socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import Any

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.server import Server
from epa_orchestrator.daemon.socket_file import SocketFile
from epa_orchestrator.daemon.socket_keeper import SocketKeeper
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tools.synthetic import Shape, build

LISTING = b'{"action": "list_allocations"}'


def listening_at(path: Path, backlog: int = 128, mode: int = 0o666) -> socket.socket:
    """A listening, non-blocking socket that is not the daemon's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.setblocking(False)
    path.chmod(mode)
    listener.listen(backlog)
    return listener


def fill(path: Path) -> list[socket.socket]:
    """Connect until the backlog is full. The last client has not connected."""
    clients: list[socket.socket] = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        clients.append(client)
        try:
            client.connect(str(path))
        except BlockingIOError:
            return clients


def open_files() -> int:
    """The number of open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def leave_stale_socket(path: Path) -> None:
    """Leave the socket file of a daemon that was killed."""
    listening_at(path).close()


def leave_link(path: Path) -> None:
    """Leave a link to a file."""
    path.symlink_to("elsewhere")
    (path.parent / "elsewhere").write_text("other")


def leave_dangling_link(path: Path) -> None:
    """Leave a link to nothing."""
    path.symlink_to("nowhere")


def leave_full_directory(path: Path) -> None:
    """Leave a directory that is not empty."""
    (path / "below").mkdir(parents=True)


@contextlib.asynccontextmanager
async def keeping(path: Path) -> AsyncGenerator[SocketKeeper]:
    """The keeper of a socket file, with a server that listens nowhere yet."""
    settings = Settings()
    host = Host(RecordedSysfs(build(Shape(isolated="2-3"))), settings, None)
    server = Server(Orchestrator(host, settings, State(Ledger(), None, "read-only")))
    try:
        yield SocketKeeper(server, SocketFile(path))
    finally:
        await server.stop()


def run(body: Coroutine[Any, Any, None]) -> None:
    """Run the body for at most 30 seconds."""

    async def limited() -> None:
        async with asyncio.timeout(30):
            await body

    asyncio.run(limited())


async def answer_at(path: Path) -> bytes:
    """The answer to a listing."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(LISTING)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer
