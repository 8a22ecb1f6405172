# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The socket keeper: proves by a connection whether the socket file leads to this daemon."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from epa_orchestrator.daemon import socket_keeper
from epa_orchestrator.daemon.socket_file import SocketFile

from .sockets import LISTING, answer_at, fill, keeping, listening_at, open_files, run

pytestmark = pytest.mark.usefixtures("patient_proofs")


def test_its_own_file_leads_to_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            assert await keeper.leads_to_us()
            before = open_files()
            for _ in range(100):
                assert await keeper.leads_to_us()
            assert open_files() == before
            assert caplog.records == [], "a probe is no client"
            assert b"read-only" in await answer_at(path)

    run(body())


@pytest.mark.parametrize(
    "place", ["file", "link", "dangling link", "link to the socket", "fifo", "directory", "nothing"]
)
def test_a_file_that_is_no_socket_does_not_lead_to_it(place: str, path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.rename(path.with_name("moved"))
            if place == "file":
                path.touch()
            elif place == "fifo":
                os.mkfifo(path, 0o666)
            elif place == "directory":
                path.mkdir()
            elif place != "nothing":
                path.symlink_to({"link": "/dev/null", "dangling link": "gone"}.get(place, "moved"))
            assert not await keeper.leads_to_us()

    run(body())


def test_a_socket_where_others_may_not_connect_does_not_lead_to_it(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.chmod(0o600)
            assert not await keeper.leads_to_us()
            path.chmod(0o666)
            assert await keeper.leads_to_us()

    run(body())


def test_a_dead_socket_does_not_lead_to_it(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            listening_at(path).close()
            assert not await keeper.leads_to_us()

    run(body())


def test_another_listener_of_this_process_does_not_lead_to_it(path: Path) -> None:
    """As at activation, where systemd makes both sockets, so that the credentials are the same."""

    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            with listening_at(path):
                assert not await keeper.leads_to_us()

    run(body())


def test_a_full_backlog_of_another_server_does_not_lead_to_it(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            with listening_at(path, backlog=0):
                clients = fill(path)
                assert not await keeper.leads_to_us()
                for client in clients:
                    client.close()

    run(body())


def test_a_full_backlog_of_its_own_leads_to_it(path: Path) -> None:
    """The clients in the backlog are served first."""

    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path, backlog=100)
            clients = fill(path)
            for client in clients[:-1]:
                client.send(LISTING)
            inode = path.lstat().st_ino
            await keeper.start([listener])
            assert await keeper.leads_to_us()
            assert path.lstat().st_ino == inode
            for client in clients[:-1]:
                assert b"read-only" in await asyncio.get_running_loop().sock_recv(client, 4096)
            for client in clients:
                client.close()
            assert len(clients) > 100

    run(body())


@pytest.mark.parametrize("proven", [True, False], ids=["proven before", "at the start"])
def test_a_backlog_that_clients_keep_full_leads_to_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, proven: bool
) -> None:
    """In a flood the daemon must not replace systemd's socket file by one of its own, which ends with the daemon."""

    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path, backlog=10)
            if proven:
                await keeper.start([listener])
            monkeypatch.setattr(socket_keeper, "_PROOF_TIMEOUT", 0.0)
            clients = fill(path)
            inode = path.lstat().st_ino
            if proven:
                await keeper.check()
            else:
                await keeper.start([listener])
            assert path.lstat().st_ino == inode
            for client in clients:
                client.close()

    run(body())


def test_another_file_does_not_lead_to_it_while_its_backlog_is_full(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([listening_at(path, backlog=10)])
            clients = fill(path)
            path.rename(path.with_name("elsewhere"))
            with listening_at(path, backlog=0):
                clients += fill(path)
                monkeypatch.setattr(socket_keeper, "_PROOF_TIMEOUT", 0.0)
                assert not await keeper.leads_to_us()
            for client in clients:
                client.close()

    run(body())


def test_doubts_at_the_start_end_after_some_checks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            with listening_at(path, backlog=0):
                clients = fill(path)
                monkeypatch.setattr(socket_keeper, "_PROOF_TIMEOUT", 0.0)
                checks = [await keeper.leads_to_us() for _ in range(20)]
                assert checks[0]
                assert not checks[-1]
            for client in clients:
                client.close()

    run(body())


#: Takes the place of the socket, and forwards the bytes that it receives to the real one.
RELAY = """
import os, socket, sys
path, real = sys.argv[1:]
front = socket.socket(socket.AF_UNIX)
front.bind(path)
os.chmod(path, 0o666)
front.listen()
print(flush=True)
came, _ = front.accept()
onward = socket.socket(socket.AF_UNIX)
onward.connect(real)
onward.send(came.recv(100))
print(flush=True)
sys.stdin.read()
"""


def test_a_relay_in_another_process_does_not_lead_to_it(path: Path) -> None:
    """It knows the number of the probe, but connects as another process."""

    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            moved = path.with_name("moved")
            path.rename(moved)
            command = [sys.executable, "-c", RELAY, str(path), str(moved)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as relay:
                assert relay.stdout is not None
                relay.stdout.readline()
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(moved))  # so that a client waits while the keeper looks
                assert not await keeper.leads_to_us()
                relay.stdout.readline()
                await asyncio.sleep(0.05)
                assert not await keeper.leads_to_us()
                client.close()
                relay.communicate(b"", timeout=30)

    run(body())


def test_a_closed_probe_that_leaves_the_backlog_late_is_no_client(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            server = keeper._server
            file = SocketFile(path)
            listener = file.bind()
            fd = file.open()
            assert fd is not None
            probe = server.probes.send(fd)
            os.close(fd)
            assert probe is not None
            probe.close()
            server.listen(listener)
            await asyncio.sleep(0.05)
            assert probe.arrived_at == listener.getsockname()
            assert caplog.records == []

    run(body())
