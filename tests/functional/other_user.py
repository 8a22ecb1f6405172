# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests of another user than root."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from .harness import PATIENCE, Daemon, Json, decode, encode

UID: Final = 61234
GID: Final = 61235

#: Becomes somebody else, asks, and prints its pid and the answer.
CLIENT: Final = """
import json, os, socket, sys
path, uid, gid, groups, request = json.loads(sys.stdin.read())
os.setgroups(groups)
os.setgid(gid)
os.setuid(uid)
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.connect(path)
client.sendall(request.encode())
answer = b""
while chunk := client.recv(65536):
    answer += chunk
print(json.dumps([os.getpid(), answer.decode()]))
"""


def ask_as(
    daemon: Daemon, action: str, fields: Json, uid: int = UID, gid: int = GID, groups: Sequence[int] = ()
) -> tuple[int, Json]:
    """The pid of a client that was somebody else, and the answer it got."""
    request = [str(daemon.socket_path), uid, gid, list(groups), encode(action, fields).decode()]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CLIENT],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    pid, answer = json.loads(done.stdout)
    return pid, decode(answer.encode())
