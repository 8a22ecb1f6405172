# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Server: quotas, deadlines and turns, on a real socket. The tests control when answers come."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import socket
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, cast

import pytest

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.kept_answers import KeptAnswers, LetGo, TooMuchUnread, nothing_kept
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.peers import Standing
from epa_orchestrator.daemon.replies import send
from epa_orchestrator.daemon.server import Server
from epa_orchestrator.daemon.shared import ConnectionLimits
from epa_orchestrator.daemon.socket_file import BACKLOG
from epa_orchestrator.daemon.watchers import Watchers
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.readings import Reading
from epa_orchestrator.protocol.requests import Request

from .sockets import LISTING, listening_at

UID = 61234
OWN = os.geteuid()  # the server treats its own user as it treats root
CHANGE = b'{"action": "allocate_cores", "service_name": "svc", "num_of_cores": 1}'

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


class Answering:
    """A fake orchestrator: answers readings with `answer` at once, and changes at `commit`."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.answer = b'{"version":"1.0"}'
        self.waiting: list[Callable[[bytes], None]] = []
        self.watchers = Watchers()

    @property
    def busy(self) -> bool:
        return bool(self.waiting)

    def submit(
        self, request: Request, peer: Peer, reply: Callable[[bytes], None], _: object, is_gone: Callable[[], bool]
    ) -> None:
        self.is_gone = is_gone
        if isinstance(request, Reading):
            send(reply, self.answer, peer, request, "served")
        else:
            self.waiting.append(reply)

    def commit(self) -> None:
        """Answer the changes that wait."""
        waiting, self.waiting = self.waiting, []
        for reply in waiting:
            reply(self.answer)


class Bench:
    """A server on a socket, and clients of it."""

    def __init__(self, path: Path, limits: ConnectionLimits) -> None:
        self.orchestrator = Answering()
        self.server = Server(cast("Orchestrator", self.orchestrator), limits)
        self.listener = listening_at(path, BACKLOG)
        self.server.listen(self.listener)
        self.path = path
        self.clients: list[socket.socket] = []

    def connect(self, sent: bytes = b"", uid: int = OWN) -> socket.socket:
        """A connection of the user who runs the tests, or of another user."""
        client = socket.socket(socket.AF_UNIX)
        self.clients.append(client)
        client.setblocking(False)
        os.seteuid(uid)
        try:
            client.connect(str(self.path))
        finally:
            os.seteuid(OWN)
        if sent:
            client.send(sent)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()


@contextlib.asynccontextmanager
async def bench(path: Path, limits: ConnectionLimits | None = None) -> AsyncGenerator[Bench]:
    made = Bench(path / "s", limits or ConnectionLimits())
    try:
        yield made
    finally:
        made.close()
        made.orchestrator.waiting.clear()
        await made.server.stop()


@pytest.fixture
def path(directory: Path) -> Path:
    return directory


async def settle() -> None:
    """Let the server do everything that it can do now."""
    for _ in range(200):
        await asyncio.sleep(0)


async def answer_of(client: socket.socket) -> bytes:
    """Everything up to the end of file."""
    chunks: list[bytes] = []
    loop = asyncio.get_running_loop()
    while chunk := await asyncio.wait_for(loop.sock_recv(client, 65536), 30):
        chunks.append(chunk)
    return b"".join(chunks)


async def error_of(client: socket.socket) -> str:
    answer: dict[str, Any] = json.loads(await answer_of(client))
    return answer["error"]


def is_open(client: socket.socket) -> bool:
    """Whether nothing has come yet, neither an answer nor an end."""
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


def test_waiting_changes_leave_room_for_readings(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=64)) as b:
            waiting = [b.connect(CHANGE) for _ in range(24)]
            await settle()
            assert await error_of(b.connect(CHANGE)) == "Too many changes wait to be stored: try again in a moment"
            assert await answer_of(b.connect(LISTING)) == b.orchestrator.answer
            assert all(map(is_open, waiting))
            b.orchestrator.commit()
            assert {await answer_of(client) for client in waiting} == {b.orchestrator.answer}
            b.connect(CHANGE)
            await settle()
            assert len(b.orchestrator.waiting) == 1

    asyncio.run(run())


def test_a_client_is_gone_when_it_has_closed_its_socket(path: Path) -> None:
    async def run() -> None:
        async with bench(path) as b:
            client = b.connect(CHANGE)
            await settle()
            client.shutdown(socket.SHUT_WR)  # it still reads
            assert not b.orchestrator.is_gone()
            client.close()
            assert b.orchestrator.is_gone()
            b.orchestrator.commit()
            b.connect()  # gets the descriptor that was free
            await settle()
            assert b.orchestrator.is_gone()

    asyncio.run(run())


def test_closes_no_connection_that_waits_for_its_commit(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=8)) as b:
            waiting = [b.connect(CHANGE) for _ in range(3)]
            silent = b.connect()
            await asyncio.sleep(1.1)
            assert await answer_of(b.connect(LISTING)) == b.orchestrator.answer
            assert "had to make room" in await error_of(silent)
            b.orchestrator.commit()
            assert {await answer_of(client) for client in waiting} == {b.orchestrator.answer}

    asyncio.run(run())


def test_refuses_a_connection_while_all_others_are_young(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=8)) as b:
            silent = [b.connect() for _ in range(4)]
            await settle()
            assert await error_of(b.connect(LISTING)) == (
                f"Too many connections are open for user {OWN}: close some of them, or try again later"
            )
            assert all(map(is_open, silent))

    asyncio.run(run())


@as_root
def test_other_users_take_no_room_from_root_or_from_each_other(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=64)) as b:
            flood = [b.connect(uid=UID) for _ in range(10)]
            await settle()
            assert list(map(is_open, flood)) == [True] * 4 + [False] * 6
            assert str(UID) in await error_of(flood[-1])
            neighbour = b.connect(LISTING, uid=UID + 1)
            assert await answer_of(neighbour) == b.orchestrator.answer
            root = [b.connect() for _ in range(32)]
            await settle()
            assert all(map(is_open, root))
            assert all(map(is_open, flood[:4]))

    asyncio.run(run())


@as_root
def test_closes_an_idle_connection_of_the_same_user_for_a_new_one(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=64)) as b:
            neighbour = b.connect(uid=UID + 1)
            idle, *busy = [b.connect(b"{", uid=UID) for _ in range(4)]
            await asyncio.sleep(0.8)
            for client in busy:
                client.send(b" ")
            await asyncio.sleep(0.4)
            assert await answer_of(b.connect(LISTING, uid=UID)) == b.orchestrator.answer
            assert "had to make room" in await error_of(idle)
            assert all(map(is_open, [neighbour, *busy]))

    asyncio.run(run())


def long_answer(bytes_in_all: int) -> bytes:
    return b'{"x":"' + b"a" * (bytes_in_all - 8) + b'"}'


def test_a_client_that_reads_on_keeps_its_connection(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=64, write_timeout=1.0)) as b:
            b.orchestrator.answer = long_answer(600_000)
            client = b.connect(LISTING)
            read, begin = 0, time.monotonic()
            await asyncio.sleep(0.05)
            while chunk := await asyncio.get_running_loop().sock_recv(client, 32_768):
                read += len(chunk)
                await asyncio.sleep(0.2)
            assert read == 600_000
            assert time.monotonic() - begin > 2.5

    asyncio.run(run())


def test_closes_the_connection_of_a_client_that_stops_reading(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=64, write_timeout=0.5)) as b:
            b.orchestrator.answer = long_answer(2_000_000)
            client = b.connect(LISTING)
            await settle()
            assert len(await asyncio.get_running_loop().sock_recv(client, 10_000)) == 10_000
            await asyncio.sleep(1.5)
            assert 10_000 + len(await answer_of(client)) < 2_000_000

    asyncio.run(run())


@as_root
def test_an_answer_counts_as_kept_until_its_client_has_read_it(path: Path) -> None:
    async def run() -> None:
        async with bench(path) as b:
            b.orchestrator.answer = long_answer(600_000)
            clients = [b.connect(LISTING, uid=UID) for _ in range(3)]
            await settle()
            kept = b.server._shared.kept_answers
            assert kept._of_all[Standing.OTHER].size == 600_000  # all three share it
            assert len(await answer_of(clients[0])) == 600_000
            clients[1].close()
            await settle()
            assert kept._of_users
            assert len(await answer_of(clients[2])) == 600_000
            await settle()
            assert not kept._of_users

    asyncio.run(run())


def test_readings_are_refused_while_too_much_is_unread_and_changes_are_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(_: KeptAnswers, answer: bytes, *_who: object) -> LetGo:
        if len(answer) > 1000:
            raise TooMuchUnread("Too much.")
        return nothing_kept

    monkeypatch.setattr(KeptAnswers, "keep", keep)

    async def run() -> None:
        async with bench(path) as b:
            b.orchestrator.answer = long_answer(2000)
            assert await error_of(b.connect(LISTING)) == "Too much."
            change = b.connect(CHANGE)
            await settle()
            b.orchestrator.commit()
            assert await answer_of(change) == b.orchestrator.answer

    asyncio.run(run())


def test_a_slow_reader_is_not_idle(path: Path) -> None:
    async def run() -> None:
        async with bench(path, ConnectionLimits(connections=4)) as b:
            b.orchestrator.answer = long_answer(600_000)
            reader, silent = b.connect(LISTING), b.connect()
            await settle()
            for _ in range(4):
                await asyncio.get_running_loop().sock_recv(reader, 32_768)
                await asyncio.sleep(0.4)
            late = b.connect()
            assert "had to make room" in await error_of(silent)
            assert is_open(late)
            assert len(await answer_of(reader)) == 600_000 - 4 * 32_768

    asyncio.run(run())


@as_root
def test_out_of_files_closes_idle_connections_of_other_users(path: Path) -> None:
    async def run() -> None:
        async with bench(path) as b:
            idle = b.connect(b"{", uid=UID)
            root = b.connect(b"{")
            await asyncio.sleep(1.1)
            late = socket.socket(socket.AF_UNIX)
            b.clients.append(late)
            late.setblocking(False)
            with out_of_files():
                late.connect(str(b.path))
                late.send(LISTING)
                # The new connection can only get the descriptor that becomes free.
                assert await answer_of(late) == b.orchestrator.answer
            assert "had to make room" in await error_of(idle)
            assert is_open(root)

    asyncio.run(run())


@contextlib.contextmanager
def out_of_files() -> Generator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


def test_a_retired_listener_serves_the_clients_that_have_connected(path: Path) -> None:
    async def run() -> None:
        async with bench(path) as b:
            clients = [b.connect(LISTING) for _ in range(500)]
            b.server.retire(b.listener)
            assert {await answer_of(client) for client in clients} == {b.orchestrator.answer}
            with pytest.raises(ConnectionRefusedError):
                b.connect()

    asyncio.run(run())


async def longest_turn(until: Callable[[], bool]) -> float:
    """The longest CPU time (seconds) of the loop's thread between two of our turns."""
    longest, last, end = 0.0, time.thread_time(), time.monotonic() + 30
    while not until() and time.monotonic() < end:
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return longest


async def turns_while_1000_connect(b: Bench) -> float:
    clients = [b.connect(b'{"x": ') for _ in range(1000)]
    return await longest_turn(lambda: len(b.server._shared.connections) == len(clients))


async def turns_while_1000_expire(b: Bench) -> float:
    for _ in range(1000):
        b.connect(b'{"x": ')
    await longest_turn(lambda: len(b.server._shared.connections) == 1000)
    return await longest_turn(lambda: not b.server._shared.connections)


async def turns_while_1000_are_refused(b: Bench) -> float:
    for _ in range(1000):
        b.connect()
    await longest_turn(lambda: len(b.server._shared.connections) == 1000)
    for _ in range(1000):
        b.connect(LISTING)
    last = b.connect(LISTING)
    return await longest_turn(lambda: not is_open(last))


@pytest.mark.parametrize("scene", [turns_while_1000_connect, turns_while_1000_expire, turns_while_1000_are_refused])
def test_no_turn_is_long(scene: Callable[[Bench], Awaitable[float]], path: Path) -> None:
    """One of up to five tries must be short, because other work on the machine only adds time."""

    async def run(number: int) -> float:
        place = path / str(number)
        place.mkdir()
        async with bench(place, ConnectionLimits(read_timeout=1.0)) as b:
            return await scene(b)

    gc.disable()
    try:
        assert any(asyncio.run(run(number)) < 0.01 for number in range(5))
    finally:
        gc.enable()


@contextlib.contextmanager
def lingering_socket() -> Generator[socket.socket]:
    """A TCP socket whose last close waits for a minute, as its peer reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lingering = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    with peer:
        lingering.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                lingering.send(b"x" * 65_536)
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
        yield lingering


async def sent_first(b: Bench, pass_on: Callable[[socket.socket, bytes], None]) -> None:
    pass_on(b.connect(uid=UID), LISTING)


async def sent_after_the_request(b: Bench, pass_on: Callable[[socket.socket, bytes], None]) -> None:
    pass_on(b.connect(LISTING, UID), b"x")


async def sent_after_a_mistake(b: Bench, pass_on: Callable[[socket.socket, bytes], None]) -> None:
    client = b.connect(b"nonsense", UID)
    await settle()
    pass_on(client, b"x")


async def sent_by_a_refused_client(b: Bench, pass_on: Callable[[socket.socket, bytes], None]) -> None:
    for _ in range(10):
        b.connect(uid=UID)
    pass_on(b.connect(uid=UID), LISTING)


@as_root
@pytest.mark.parametrize("refused", [True, False], ids=["refused by the kernel", "on an older kernel"])
@pytest.mark.parametrize("send", [sent_first, sent_after_the_request, sent_after_a_mistake, sent_by_a_refused_client])
def test_a_passed_descriptor_that_is_slow_to_close_delays_no_client(
    send: Callable[..., Awaitable[None]], path: Path, monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    if not refused:
        monkeypatch.setattr("epa_orchestrator.descriptors._SO_PASSRIGHTS", 0xFFFF)

    async def scene() -> None:
        async with bench(path, ConnectionLimits(connections=32)) as b:
            with lingering_socket() as lingering:

                def pass_on(client: socket.socket, data: bytes) -> None:
                    try:
                        socket.send_fds(client, [data], [lingering.fileno()])
                    except OSError:  # refused, so that our own close below is the last one
                        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

                await send(b, pass_on)
                lingering.close()
                begin = time.monotonic()
                await settle()
                assert await answer_of(b.connect(LISTING)) == b.orchestrator.answer
                for client in b.clients:
                    client.close()
                await settle()
                while b.server.descriptors_left:
                    await asyncio.sleep(0.01)
                # This is no budget: a single wait for the minute fails.
                assert time.monotonic() - begin < 30

    asyncio.run(scene())
