"""The socket keeper: proof that the file leads to us, putting it back, and errors that do not stop the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon import socket_keeper
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.server import Server
from epa_orchestrator.daemon.socket_file import ListenError, SocketFile
from epa_orchestrator.daemon.socket_keeper import SocketKeeper
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tools.synthetic import Shape, build

LISTING = b'{"action": "list_allocations"}'


@pytest.fixture
def path() -> Iterator[Path]:
    """Short enough for a socket's address, unlike pytest's tmp_path."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "data").mkdir()
        yield Path(directory) / "data" / "epa.sock"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:  # pyright: ignore[reportUnusedFunction]
    """No time-outs: a proof that waits for a foreign server hangs instead of passing late."""
    monkeypatch.setattr(socket_keeper, "_PROOF_TIMEOUT", 1e9)
    caplog.set_level(logging.INFO)


@contextlib.asynccontextmanager
async def keeping(path: Path) -> AsyncGenerator[SocketKeeper]:
    """A server that listens nowhere yet, and the keeper of its file."""
    settings = Settings()
    host = Host(RecordedSysfs(build(Shape(isolated="2-3"))), settings, None)
    server = Server(Orchestrator(host, settings, State(Ledger(), None, "read-only")))
    try:
        yield SocketKeeper(server, SocketFile(path))
    finally:
        await server.stop()


def run(body: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await body

    asyncio.run(limited())


def listening_at(path: Path, backlog: int = 128, mode: int = 0o666) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.setblocking(False)
    os.chmod(path, mode)
    listener.listen(backlog)
    return listener


def fill(path: Path) -> list[socket.socket]:
    """Connect until the backlog is full."""
    clients: list[socket.socket] = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        clients.append(client)
        try:
            client.connect(str(path))
        except BlockingIOError:
            return clients


async def answer_at(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(LISTING)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


# --- the proof ---


def test_its_own_file_leads_to_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            assert await keeper.leads_to_us()
            open_files = len(os.listdir("/proc/self/fd"))
            for _ in range(100):
                assert await keeper.leads_to_us()
            assert len(os.listdir("/proc/self/fd")) == open_files
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


def test_its_socket_does_not_lead_to_it_when_others_may_not_connect(path: Path) -> None:
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
    """As at activation: systemd made both, so the credentials are the same."""

    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            with listening_at(path):
                assert not await keeper.leads_to_us()

    run(body())


def test_a_full_backlog_of_another_does_not_lead_to_it(path: Path) -> None:
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
def test_a_backlog_that_clients_keep_full_does(path: Path, monkeypatch: pytest.MonkeyPatch, *, proven: bool) -> None:
    """A flood must not make the daemon replace systemd's socket file by one that goes with the daemon."""

    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path, backlog=10)
            if proven:
                await keeper.start([listener])
            monkeypatch.setattr(socket_keeper, "_PROOF_TIMEOUT", 0.0)
            clients = fill(path)
            inode = path.lstat().st_ino
            if proven:
                await keeper.look()
            else:
                await keeper.start([listener])
            assert path.lstat().st_ino == inode
            for client in clients:
                client.close()

    run(body())


def test_another_file_while_clients_keep_the_backlog_full_does_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_start_in_doubt_is_not_in_doubt_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            with listening_at(path, backlog=0):
                clients = fill(path)
                monkeypatch.setattr(socket_keeper, "_PROOF_TIMEOUT", 0.0)
                looks = [await keeper.leads_to_us() for _ in range(20)]
                assert looks[0]
                assert not looks[-1]
            for client in clients:
                client.close()

    run(body())


#: Takes the place of the socket, and passes on what it is sent to the real one.
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


def test_a_probe_that_comes_late_out_of_the_backlog_is_no_client(path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


# --- start ---


def leave_directory(path: Path) -> None:
    (path / "below").mkdir(parents=True)


def leave_dangling_link(path: Path) -> None:
    path.symlink_to("gone")


@pytest.mark.parametrize(
    "leave",
    [None, Path.touch, leave_directory, os.mkfifo, leave_dangling_link, listening_at],
    ids=["nothing", "file", "directory", "fifo", "dangling link", "other socket"],
)
def test_a_handed_over_socket_is_served_whatever_is_in_its_place(
    leave: Callable[[Path], Any] | None, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            path.rename(path.with_name("moved"))
            left = leave(path) if leave is not None else None
            await keeper.start([listener])
            assert b"read-only" in await answer_at(path.with_name("moved"))
            assert b"read-only" in await answer_at(path)
            assert stat.S_IMODE(path.lstat().st_mode) == 0o666
            if isinstance(left, socket.socket):
                left.close()

    run(body())
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_a_good_handed_over_socket_is_left_as_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            inode = path.lstat().st_ino
            await keeper.start([listener])
            assert path.lstat().st_ino == inode
            assert caplog.records == []

    run(body())


def test_a_handed_over_socket_is_served_when_the_file_cannot_be_made(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The problem is logged once, and the keeper tries again until the obstacle is gone."""

    async def body() -> None:
        async with keeping(path) as keeper:
            elsewhere = path.parent.with_name("elsewhere")
            path.parent.rename(elsewhere)
            path.parent.symlink_to("elsewhere")
            listener = listening_at(elsewhere / "epa.sock")
            await keeper.start([listener])
            for _ in range(3):
                await keeper.look()
            assert len(caplog.records) == 1
            assert "is a link or not a directory: replace it by a directory; trying again" in caplog.text
            assert b"read-only" in await answer_at(elsewhere / "epa.sock")
            path.parent.unlink()
            await keeper.look()
            assert await keeper.leads_to_us()

    run(body())


def test_without_a_handed_over_socket_the_start_fails(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            with listening_at(path), pytest.raises(ListenError, match="already serves"):
                await keeper.start([])

    run(body())


# --- putting it back ---


def test_it_is_put_back_again_and_again(path: Path) -> None:
    """Earlier sockets are retired one by one, and their waiting clients are served."""

    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            open_files = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                early = socket.socket(socket.AF_UNIX)
                early.connect(str(path))
                path.unlink()
                await keeper.look()
                assert await keeper.leads_to_us()
                early.send(LISTING)
                await asyncio.sleep(0.01)
                assert b"read-only" in early.recv(4096)
                early.close()
            assert len(os.listdir("/proc/self/fd")) <= open_files + 2, "one listener more, and the proven file"

    run(body())


def test_without_file_descriptors_it_waits_for_better_times(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest_free = os.dup(0)
            os.close(lowest_free)
            try:
                for spare in range(16):
                    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + spare, hard))
                    await keeper.look()
                    await keeper.look()
                    if path.exists():
                        break
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            messages = [record.getMessage() for record in caplog.records]
            assert messages == [
                f"The socket file {path} cannot be checked: {os.strerror(errno.EMFILE)}; trying again",
                f"The socket {path} cannot be made: {os.strerror(errno.EMFILE)}; trying again",
                f"the socket file {path} did not lead to this daemon: it is back",
            ]
            assert await keeper.leads_to_us()

    run(body())


# --- remove ---


def test_its_own_file_is_removed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            await keeper.remove()
            assert os.listdir(path.parent) == []
            await keeper.remove()
            assert caplog.records == []

    run(body())


def test_somebody_elses_file_is_not_removed(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            await keeper.start([])
            path.unlink()
            with listening_at(path):
                await keeper.remove()
                assert path.is_socket()

    run(body())


def test_a_handed_over_file_is_not_removed(path: Path) -> None:
    """Not even after our own file was in its place."""

    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            await keeper.start([listener])
            await keeper.remove()
            assert path.is_socket()
            path.rename(path.with_name("moved"))
            await keeper.look()
            path.with_name("moved").rename(path)
            await keeper.remove()
            assert path.is_socket()

    run(body())


def test_a_file_that_was_put_back_is_removed(path: Path) -> None:
    async def body() -> None:
        async with keeping(path) as keeper:
            listener = listening_at(path)
            await keeper.start([listener])
            path.unlink()
            await keeper.look()
            await keeper.remove()
            assert not path.exists()

    run(body())
