# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The part of systemd: listening on the socket, handing it over, and receiving notifications."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

from .harness import PATIENCE, Daemon


class Notifications:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE)

    def wait_for(self, line: str) -> None:
        """Receive until a message says this."""
        while line not in self.socket.recv(4096).decode().splitlines():
            pass


#: Does what systemd does between fork and exec: the listening socket becomes descriptor 3, the pid is the daemon's.
ACTIVATE: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=sys.argv[2] or str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


def start_activated(daemon: Daemon, listener: socket.socket, pid: str = "", *, wait: bool = True) -> None:
    """Start the daemon with systemd's socket, meant for the process `pid` or for the daemon itself."""
    start = daemon.start if wait else daemon.launch
    fd = listener.fileno()
    start(launcher=[sys.executable, "-c", ACTIVATE, str(fd), pid], pass_fds=(fd,))


@contextlib.contextmanager
def listening(path: Path) -> Generator[socket.socket]:
    """A listening socket as systemd would hold it."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o666)  # `socket-mode` in snapcraft.yaml
        listener.listen(128)
        yield listener
