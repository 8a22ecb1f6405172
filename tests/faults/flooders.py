# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Clients of another user that misbehave as fast as they can, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

from tests.functional.harness import PATIENCE, Daemon

UID: Final = 61234

#: Becomes another user, and floods until its input ends; then prints how many connections it has opened.
PROGRAM: Final = r"""
import json, os, resource, select, socket, sys, time
path, uid, kind, held = json.loads(sys.stdin.readline())
resource.setrlimit(resource.RLIMIT_NOFILE, (held + 100, held + 100))
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
LISTING = b'{"action": "list_allocations"}'
opened = 0

def connected():
    global opened
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        client.connect(path)
    except OSError:
        client.close()
        return None
    opened += 1
    return client

def send(client, data):
    try:
        client.send(data)
        return True
    except BlockingIOError:
        return True
    except OSError:
        return False

def flood():
    "Connect and hang up, or hold on to as many as may be open, and leave no place to other clients."
    clients = []
    while True:
        for _ in range(50):
            client = connected()
            if client is None:
                break
            if kind == "asking":
                send(client, LISTING)
            if kind == "slow":
                send(client, b'{"x": "' + b"a" * 60000)
            clients.append(client)
        while len(clients) > (held if kind != "hasty" else 0):
            clients.pop(0).close()
        if kind == "slow":
            clients = [client for client in clients if send(client, b"a") or client.close()]
        yield

print("ready", flush=True)
for _ in flood():
    if select.select([sys.stdin], [], [], 0)[0]:
        break
print(opened, flush=True)
"""


class Flooder:
    """A flood from another user for as long as the `with` block lasts.

    Kinds: `hasty` connects and hangs up; `idle` holds connections and says nothing; `asking` sends a request and never
    reads the answer; `slow` holds long requests that never end, and continues each by single bytes.
    """

    def __init__(self, daemon: Daemon, kind: str, held: int = 1500, uid: int = UID) -> None:
        self._order = json.dumps([str(daemon.socket_path), uid, kind, held])
        self.opened = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._order + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            said, _ = self._process.communicate(timeout=PATIENCE)
            self.opened = int(said or 0)
        finally:
            self._process.kill()
            self._process.wait()


def let_others_reach(daemon: Daemon) -> None:
    """Open the daemon's directories to other users."""
    daemon.base.chmod(0o755)
    daemon.data.chmod(0o755)
