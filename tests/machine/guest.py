# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The agent in the guest: runs commands and copies files for the host over a virtio-serial port, without a network.

It runs inside the guest as root, with the standard library alone. Each request is one line, a JSON object with an "id":

    {"id": 1, "argv": [...] or "shell": "...", "env": {...}, "cwd": "/", "stdin": "...", "timeout": 300}
    {"id": 2, "put": "/path", "data": "<base64>", "mode": 420}
    {"id": 3, "get": "/path"}

The answer to a request is one line with the same "id", sent when the request is done, not in order. It has "rc", "out",
"err", "seconds" and "timed_out"; or "data"; or "error", a sentence.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

PORT: Final = Path("/dev/virtio-ports/epa.agent")

#: How long (seconds) to read a command's pipes after its end: a daemon that it left behind may keep them open.
LAST_WORDS: Final = 2.0


def drain(pipe: IO[bytes], into: bytearray) -> None:
    """Collect the output as it comes, so that a time-out does not lose it."""
    while chunk := os.read(pipe.fileno(), 1 << 16):
        into += chunk


def feed(pipe: IO[bytes], text: str) -> None:
    """Give a command its input; it may end before it has read all of it."""
    try:
        with pipe:
            pipe.write(text.encode())
    except BrokenPipeError:
        pass


def wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a command, and kill its process group when the time is up; returns whether it was killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command in a session of its own.

    Its output goes through pipes, because AppArmor takes inherited files away from a confined process.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        request.get("argv") or ["bash", "-c", request["shell"]],
        env=os.environ | (request.get("env") or {}),
        cwd=request.get("cwd") or "/",
        stdin=subprocess.DEVNULL if request.get("stdin") is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stderr
    out, err = bytearray(), bytearray()
    readers = [
        threading.Thread(target=drain, args=(process.stdout, out), daemon=True),
        threading.Thread(target=drain, args=(process.stderr, err), daemon=True),
    ]
    for reader in readers:
        reader.start()
    if process.stdin:
        threading.Thread(target=feed, args=(process.stdin, request["stdin"]), daemon=True).start()
    timed_out = wait(process, request.get("timeout") or 300)
    last = time.monotonic() + LAST_WORDS
    for reader in readers:
        reader.join(max(0, last - time.monotonic()))
    return {
        "rc": process.returncode,
        "out": out.decode(errors="replace"),
        "err": err.decode(errors="replace"),
        "seconds": round(time.monotonic() - start, 3),
        "timed_out": timed_out,
    }


def put(request: dict[str, Any]) -> dict[str, Any]:
    """Write a file, and the directories above it."""
    path = Path(request["put"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(request["data"]))
    path.chmod(request.get("mode", 0o644))
    return {}


def get(request: dict[str, Any]) -> dict[str, Any]:
    """Read a file."""
    return {"data": base64.b64encode(Path(request["get"]).read_bytes()).decode()}


def perform(request: dict[str, Any]) -> dict[str, Any]:
    """Perform a request; a failure becomes an answer with "error"."""
    action = put if "put" in request else get if "get" in request else run
    try:
        return action(request)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


class Port:
    """The guest's end of the port; it can be opened only once, so reading and writing share a descriptor."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR)
        self._writing = threading.Lock()

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield the host's requests until it hangs up."""
        with os.fdopen(self._descriptor, "rb", closefd=False) as lines:
            for line in lines:
                yield json.loads(line)

    def answer(self, request: dict[str, Any]) -> None:
        """Perform a request and send the answer; the port may accept only a part of each write."""
        line = memoryview(json.dumps(perform(request) | {"id": request["id"]}).encode() + b"\n")
        with self._writing:
            while line:
                line = line[os.write(self._descriptor, line) :]


def main() -> None:
    """Answer each request in its own thread; power off when the host hangs up, because nobody else ends the machine."""
    while not PORT.exists():
        time.sleep(0.1)
    port = Port(PORT)
    for request in port.requests():
        threading.Thread(target=port.answer, args=(request,), daemon=True).start()
    Path("/proc/sysrq-trigger").write_text("o")


if __name__ == "__main__":
    main()
