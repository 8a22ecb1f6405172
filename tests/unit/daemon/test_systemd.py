# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Systemd: messages over its datagram socket, the watchdog's interval, and sockets that it hands over."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from epa_orchestrator.daemon import systemd

SOURCE = Path(systemd.__file__).parents[2]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """As if systemd had not started the tests."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)


# --- notify ---


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The service manager's end, at an address of each kind."""
    if request.param == "file":
        address = told = str(directory / "notify")
    else:
        name = f"epa-test-{uuid.uuid4()}"
        address, told = f"\0{name}", f"@{name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", told)
        yield receiver


@pytest.mark.parametrize("message", ["READY=1", "RELOADING=1\nMONOTONIC_USEC=5", "STATUS=pr\u00eat \N{GRINNING FACE}"])
def test_a_message_arrives_whole(message: str, manager: socket.socket) -> None:
    systemd.notify(message)
    assert manager.recv(4096) == message.encode()


def test_each_message_is_a_datagram_of_its_own(manager: socket.socket) -> None:
    systemd.notify("READY=1")
    systemd.notify("WATCHDOG=1")
    assert [manager.recv(4096), manager.recv(4096)] == [b"READY=1", b"WATCHDOG=1"]


def test_notify_does_not_wait_for_a_manager_that_does_not_read(manager: socket.socket) -> None:
    """Its queue is full after some messages. Later ones are lost."""
    for _ in range(2000):
        systemd.notify("WATCHDOG=1")
    received = 0
    while select.select([manager], [], [], 0)[0]:
        assert manager.recv(4096) == b"WATCHDOG=1"
        received += 1
    assert 0 < received < 2000


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@epa-nobody-listens-here", "x" * 200, "vsock:2:1234", "/"])
def test_notify_does_nothing_without_a_manager(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd._notifier()  # the one that is kept open
    open_files = len(os.listdir("/proc/self/fd"))
    systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_messages_are_sent_when_no_file_descriptor_is_left(manager: socket.socket) -> None:
    """Otherwise the manager would kill a daemon that can continue when there are descriptors again."""
    systemd.notify("READY=1")
    with no_descriptor_left():
        systemd.notify("WATCHDOG=1")
    assert [manager.recv(4096), manager.recv(4096)] == [b"READY=1", b"WATCHDOG=1"]


def test_a_message_without_a_descriptor_is_lost_and_the_next_one_sent(manager: socket.socket) -> None:
    systemd._notifier().close()
    systemd._notifier.cache_clear()
    with no_descriptor_left():
        systemd.notify("READY=1")
    systemd.notify("WATCHDOG=1")
    assert manager.recv(4096) == b"WATCHDOG=1"


@contextlib.contextmanager
def no_descriptor_left() -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- watchdog ---


@pytest.mark.parametrize(
    ("microseconds", "seconds"),
    [("30000000", 15.0), ("1000000", 0.5), ("2", 0.000001), ("3600000000", 1800.0)],
)
def test_the_watchdog_is_fed_at_half_its_interval(
    microseconds: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    assert systemd.watchdog_interval() == pytest.approx(seconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_interval() == pytest.approx(seconds)


@pytest.mark.parametrize(
    "microseconds", [None, "", "0", "-5", "+5", "1.5", "1e6", "30s", " ", "none", "9" * 5000, "9" * 400, str(2**64 - 1)]
)
def test_no_watchdog(microseconds: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if microseconds is not None:
        monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    assert systemd.watchdog_interval() is None


@pytest.mark.parametrize("pid", ["1", "0", "-1", "x"])
def test_a_watchdog_of_another_process_is_not_ours(pid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert systemd.watchdog_interval() is None


# --- handed-over sockets ---

#: Puts the given descriptors at 3, 4, ... as systemd does, prints those that it takes, then serves each once.
RECEIVER = textwrap.dedent(
    """
    import json, os, sys
    from epa_orchestrator.daemon.systemd import listening_sockets
    handed, pid, count = sys.argv[1:4]
    fds = list(map(int, handed.split(",")))
    spares = [os.dup2(fd, 100 + place) for place, fd in enumerate(fds)]
    for fd in fds:
        os.close(fd)
    for place, fd in enumerate(spares):
        os.dup2(fd, 3 + place)
        os.close(fd)
    os.environ["LISTEN_PID"] = pid.replace("self", str(os.getpid()))
    os.environ["LISTEN_FDS"] = count
    taken = listening_sockets()
    print(json.dumps([[each.fileno(), each.getblocking(), each.get_inheritable()] for each in taken]), flush=True)
    for each in taken:
        each.settimeout(30)
        accepted, _ = each.accept()
        accepted.sendall(b"served")
        accepted.close()
    """
)


class Receiver:
    """A process that is started as systemd starts one with sockets to hand over."""

    def __init__(self, handed: list[int], pid: str, count: str) -> None:
        command = [sys.executable, "-c", RECEIVER, ",".join(map(str, handed)), pid, count]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        self._process = subprocess.Popen(
            command, pass_fds=handed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        #: (descriptor, whether it blocks, whether it is inherited) of each socket that it took.
        self.taken: list[list[object]] = json.loads(line) if line else []

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        errors = self._process.communicate(timeout=60)[1]
        assert self._process.returncode == 0, errors


def hand_over(handed: list[int], pid: str = "self", count: str | None = None) -> Receiver:
    return Receiver(handed, pid, str(len(handed)) if count is None else count)


def unix_listener(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen()
    return listening


def answer_of(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        return client.recv(4096)


@pytest.mark.parametrize("count", [1, 2])
def test_handed_over_listeners_are_taken(count: int, directory: Path) -> None:
    """They serve, do not block, and are not inherited by other programs."""
    paths = [directory / f"{number}.sock" for number in range(count)]
    listeners = [unix_listener(path) for path in paths]
    with hand_over([each.fileno() for each in listeners]) as receiver:
        for each in listeners:
            each.close()
        assert receiver.taken == [[3 + place, False, False] for place in range(count)]
        assert [answer_of(path) for path in paths] == [b"served"] * count


def test_ignores_other_sockets_in_between(directory: Path) -> None:
    """The descriptors of the other listeners do not shift."""
    first, second = unix_listener(directory / "1.sock"), unix_listener(directory / "2.sock")
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(str(directory / "datagrams"))
    internet = socket.create_server(("127.0.0.1", 0))
    sockets = [first, datagrams, internet, second]
    with hand_over([each.fileno() for each in sockets]) as receiver:
        for each in sockets:
            each.close()
        assert receiver.taken == [[3, False, False], [6, False, False]]
        assert answer_of(directory / "1.sock") == b"served"
        assert answer_of(directory / "2.sock") == b"served"


def test_ignores_a_stream_socket_that_does_not_listen() -> None:
    one, other = socket.socketpair()
    with one, other, hand_over([one.fileno()]) as receiver:
        assert receiver.taken == []


def test_ignores_a_descriptor_that_is_no_socket(directory: Path) -> None:
    listening = unix_listener(directory / "epa.sock")
    with (directory / "file").open("w") as file, hand_over([file.fileno(), listening.fileno()]) as receiver:
        listening.close()
        assert receiver.taken == [[4, False, False]]
        assert answer_of(directory / "epa.sock") == b"served"


@pytest.mark.parametrize(
    ("pid", "count"), [("1", "1"), ("", "1"), ("self", "0"), ("self", ""), ("self", "x"), ("self", "-1")]
)
def test_ignores_sockets_for_another_process_or_of_no_count(pid: str, count: str, directory: Path) -> None:
    with unix_listener(directory / "epa.sock") as listening, hand_over([listening.fileno()], pid, count) as receiver:
        assert receiver.taken == []


def test_takes_the_sockets_that_exist_when_more_are_announced(directory: Path) -> None:
    listening = unix_listener(directory / "epa.sock")
    with hand_over([listening.fileno()], count="3") as receiver:
        listening.close()
        assert receiver.taken == [[3, False, False]]
        assert answer_of(directory / "epa.sock") == b"served"


def test_there_are_no_sockets_without_systemd() -> None:
    assert systemd.listening_sockets() == []


@pytest.mark.parametrize("count", ["", "0", "-1", "x", "1.0", "99999999", "9" * 5000])
def test_ignores_a_count_that_is_no_small_number(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    begin = time.process_time()
    assert systemd.listening_sockets() == []
    assert time.process_time() - begin < 1
