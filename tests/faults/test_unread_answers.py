# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Another user asks for large answers, each with bytes of its own, and reads none: the daemon stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.functional.harness import PATIENCE, Daemon
from tools.synthetic import Shape

from .flooders import UID, let_others_reach

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")

SERVICES: Final = 400
#: The most memory (MiB) that the unread answers may take: 8 are allowed, others are made before they are refused.
MOST_MIB: Final = 24

#: Becomes another user, and sends requests whose unknown fields come back in their answers. Prints how many answers
#: have begun; then reads one that is no refusal to its end, and prints its last byte and a later answer's error.
PROGRAM: Final = r"""
import json, os, socket, sys
path, uid, action, count = json.loads(sys.stdin.readline())
os.setgroups([])
os.setgid(uid)
os.setuid(uid)

def asking(number):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(path)
    client.sendall(json.dumps({"action": action, "limit": 1000, f"unknown{number}": 1}).encode())
    return client

begun, refused = [], []
for number in range(count):
    client = asking(number)
    (refused if b'"error":' in client.recv(100, socket.MSG_PEEK) else begun).append(client)
print(json.dumps([len(begun), refused[0].recv(4096).decode() if refused else ""]), flush=True)
sys.stdin.readline()
for client in begun[1:] + refused:
    client.close()
if action != "watch":
    print(begun[0].makefile().read()[-20:], flush=True)
later = asking(count)
print(later.recv(100)[:40].decode(), flush=True)
"""


def memory(pid: int) -> float:
    """The memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon whose answers are large: each of its listings has 450 KB."""
    with Daemon(Shape(packages=2, cores_per_l3=256, isolated="0-511")) as made:
        made.start()
        let_others_reach(made)
        for number in range(SERVICES):
            made.cores(f"{number:03}" + "\N{GRINNING FACE}" * 252, 1)
        yield made


@pytest.mark.parametrize(("action", "count"), [("list_allocations", 120), ("get_history", 120), ("watch", 60)])
def test_unread_answers_take_bounded_memory(daemon: Daemon, action: str, count: int) -> None:
    before = memory(daemon.pid)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(json.dumps([str(daemon.socket_path), UID, action, count]) + "\n")
        client.stdin.flush()
        begun, refusal = json.loads(client.stdout.readline())
        grown = memory(daemon.pid) - before
        assert len(daemon.claims()) == SERVICES
        said, _ = client.communicate("go on\n", timeout=PATIENCE)
    print(f"{action}: {begun} of {count} answers wait, {grown:.1f} MiB")
    assert 5 < begun < count / 2
    assert (
        f"Too many large answers wait to be read: read those of user {UID} to their end, or try again later" in refusal
    )
    assert grown < MOST_MIB
    *whole, later = said.splitlines()
    assert all(line.endswith("}") for line in whole)
    assert '"error"' not in later
