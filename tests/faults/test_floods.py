# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Other users flood the daemon: root is served, slow readers are not cut off, and the log stays short.

The CPU time of a flood is measured by test_budgets_wire.
"""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.functional.harness import (
    PATIENCE,
    Daemon,
    check_listing,
    decode,
    encode,
    in_threads,
    read_to_end,
    run_all,
    wait_until,
)
from tools.synthetic import Shape

from .flooders import UID, Flooder, let_others_reach

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")

KINDS: Final = ("hasty", "idle", "asking", "slow")
CHANGES: Final = 100
#: Log lines in a second about a flooder, including the sum, with some slack.
LINES_OF_A_SECOND: Final = 11


def persistent_connect(path: Path) -> socket.socket:
    """A connection; while the backlog is full, it tries again, as our client does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        try:
            client.connect(str(path))
        except BlockingIOError:
            client.close()
            assert time.monotonic() < deadline, f"the backlog was full for {PATIENCE} s"
            time.sleep(0.001)
        except BaseException:
            client.close()
            raise
        else:
            return client


def change(daemon: Daemon, service: str, count: int) -> None:
    """One change, which must be granted."""
    with persistent_connect(daemon.socket_path) as client:
        client.sendall(encode("allocate_cores", {"service_name": service, "num_of_cores": count}))
        answer = decode(read_to_end(client))
    assert answer.get("cores_allocated") == count, answer


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon for one test only, because floods fill its log."""
    with Daemon() as made:
        made.start()
        let_others_reach(made)
        yield made


@needs_root
@pytest.mark.parametrize("kind", KINDS)
def test_root_is_served_during_a_flood(daemon: Daemon, kind: str, long: bool) -> None:
    begin = time.monotonic()

    def some_changes(service: str) -> None:
        for turn in range(CHANGES * (10 if long else 1) // 10):
            change(daemon, service, 1 + turn % 2 if service == "s0" else 1)

    with Flooder(daemon, kind) as flooder:
        time.sleep(1)
        run_all([lambda n=n: some_changes(f"s{n}") for n in range(10)])
        seconds = time.monotonic() - begin
    assert flooder.opened > 500, "no flood"
    lines = [line for line in daemon.log().splitlines() if str(UID) in line]
    assert lines
    assert len(lines) < LINES_OF_A_SECOND * (seconds + 3), f"{len(lines)} lines in {seconds:.0f} s"
    if kind != "asking":
        assert any("left out" in line for line in lines)
    assert len(daemon.claims()) == 10


#: Becomes a user, asks, and reads the answer in small pieces; prints how much it got.
SLOW_READER: Final = """
import json, os, socket, sys, time
path, uid, request, size, pause = json.loads(sys.stdin.read())
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
client = socket.socket(socket.AF_UNIX)
client.connect(path)
client.sendall(request.encode())
print("asked", flush=True)
read = 0
time.sleep(2)
while chunk := client.recv(size):
    read += len(chunk)
    time.sleep(pause)
print(read)
"""


@needs_root
@pytest.mark.parametrize("uid", [0, UID], ids=["root", "the flooder's user"])
def test_flood_cuts_off_no_slow_reader(uid: int) -> None:
    shape = Shape(packages=2, cores_per_l3=256, isolated="0-511")
    with Daemon(shape) as daemon:
        daemon.start()
        let_others_reach(daemon)
        for number in range(400):
            daemon.cores(f"{number:03}" + "\N{GRINNING FACE}" * 252, 1)
        listing = daemon.request(encode("list_allocations", {}))
        assert len(listing) > 400_000, "too small to fill a socket's buffer twice"
        order = [str(daemon.socket_path), uid, encode("list_allocations", {}).decode(), 16_384, 0.1]
        command = [sys.executable, "-I", "-S", "-c", SLOW_READER]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(json.dumps(order))
            reader.stdin.close()
            assert reader.stdout.readline() == "asked\n"
            time.sleep(0.5)
            with Flooder(daemon, "idle", held=8_000):
                read = int(reader.stdout.readline() or 0)
        assert read == len(listing)
        assert len(check_listing(decode(listing))) == 400


def a_pipe() -> tuple[int, int]:
    return os.pipe()


def a_socket() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def a_terminal() -> tuple[int, int]:
    return pty.openpty()


#: Puts a file descriptor in the place of stderr, and becomes the daemon.
WITH_STDERR: Final = "import os, sys; os.dup2(int(sys.argv[1]), 2); os.execv(sys.argv[2], sys.argv[2:])"
NAME: Final = "\N{GRINNING FACE}" * 255


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_terminal])
def test_unread_log_counts_its_dropped_lines(make: Callable[[], tuple[int, int]], long: bool) -> None:
    reader, stderr = make()
    read = bytearray()
    try:
        with Daemon() as daemon:
            launcher = [sys.executable, "-c", WITH_STDERR, str(stderr)]
            daemon.start(launcher=launcher, pass_fds=(stderr,))
            asked = 10_000 if long else 1_000
            for _ in range(asked):
                daemon.ok("list_allocations", service_name=NAME)
            change(daemon, "svc", 2)
            assert {service: len(cpus) for service, cpus in daemon.claims().items()} == {"svc": 2}

            def read_on() -> bool:
                read.extend(os.read(reader, 65_536))
                return b"dropped" in read

            wait_until(read_on, "the log says how many lines were dropped")
            assert daemon.stop() == 0
        text = read.decode(errors="replace")
        (dropped,) = re.findall(r"(\d+) lines of this log were dropped", text)
        written = len(re.findall(r"list_allocations '\N{GRINNING FACE}{255}'", text))
        others_after = 4  # the change and the listings
        assert written > 50
        assert asked <= written + int(dropped) <= asked + others_after
    finally:
        os.close(reader)
        os.close(stderr)


def test_late_reader_gets_the_whole_log() -> None:
    # The buffers of the pipe and the daemon are large enough for a reader that pauses for a moment.
    reader, stderr = os.pipe()
    read = bytearray()
    try:
        with Daemon() as daemon:
            daemon.start(launcher=[sys.executable, "-c", WITH_STDERR, str(stderr)], pass_fds=(stderr,))
            for _ in range(200):
                daemon.ok("list_allocations", service_name=NAME)

            def read_on() -> None:
                while chunk := os.read(reader, 65_536):
                    read.extend(chunk)

            with in_threads(read_on):
                assert daemon.stop() == 0
                os.close(stderr)
                stderr = -1
        text = read.decode()
        assert len(re.findall(r"list_allocations '\N{GRINNING FACE}{255}'", text)) == 200
        assert "dropped" not in text
        assert "stopping" in text
    finally:
        os.close(reader)
        if stderr >= 0:
            os.close(stderr)
