# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs in the guest as root: the real daemon and command line, an owner that asked for its CPUs, and a busy stranger.

python3 -m tests.boots.served      # prints one JSON object: what each command printed, and its exit status
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from tests.boots.inside import IDLE, OWNER_CGROUP, SOME, STRANGER_CGROUP, enter, running, work

SOCKET: Final = Path.home() / ".local/state/epa-orchestrator/current/data/epa.sock"

#: Seconds until the daemon serves, emulated: it needs 10 on a CPU that does nothing else.
PATIENCE: Final = 90.0


@contextlib.contextmanager
def daemon() -> Generator[None]:
    """The daemon, serving."""
    with Path("/run/daemon.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "epa_orchestrator", "serve"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not SOCKET.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(Path("/run/daemon.log").read_text())
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def owner() -> Generator[None]:
    """A service in a unit of its own that asks for two CPUs, and then sleeps on the first of them."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            enter(OWNER_CGROUP)
            os.write(write, json.dumps(ask(action="allocate_cores", service_name="ovs", num_of_cores=2)).encode())
            work("2", IDLE)
        finally:
            os._exit(1)
    os.close(write)
    try:
        assert json.loads(os.read(read, 1 << 16))["allocated_cores"] == "2-3"
        yield
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def ask(**request: object) -> dict[str, Any]:
    """Send a request, as any client does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(SOCKET))
        client.sendall(json.dumps(request).encode())
        return json.loads(client.makefile().read())


def command(*words: str) -> dict[str, Any]:
    """What the command line prints."""
    argv = [sys.executable, "-m", "epa_orchestrator", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def main() -> None:
    """Run the daemon, the owner and the stranger, and ask."""
    with daemon(), owner(), running("3", STRANGER_CGROUP, SOME):
        shown = {
            "audit": command("audit", "--json", "--measure", "2"),
            "screen": command("audit", "--service", "ovs"),
            "why": command("why", "ovs"),
        }
    shown["alone"] = command("audit", "--json")
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
