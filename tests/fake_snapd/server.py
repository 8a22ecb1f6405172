# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Serves the stand-in for snapd at a socket, and puts it in the place of the host's snapd."""

from __future__ import annotations

import contextlib
import json
import socketserver
import sys
import threading
import urllib.parse
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import pytest
from charmlibs.snap import _client as snapd_client

import snapd as workload_snapd
import snapd_api
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import Json
from tests.fake_snapd.troubles import ChangeFails, FailedRequest, Refusal, Silence
from tests.service import short_directory


class _Handler(BaseHTTPRequestHandler):
    """Passes HTTP requests to the stand-in and sends its answers."""

    def _serve(self) -> None:
        snapd = self._snapd()
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        path = urllib.parse.urlsplit(self.path).path
        headers, content, status = {"Content-Type": "application/json"}, b"", 200
        answer: Json = {}
        try:
            if path == "/v2/download":
                headers, content = snapd.download(body)
            else:
                answer = snapd.handle(self.command, path, body)
        except FailedRequest as error:
            match error.trouble:
                case Silence.HANG:
                    snapd.ending.wait(30)
                    return
                case Silence.DROP:
                    return
                case ChangeFails(text) | Refusal(text) as trouble:
                    answer = _error(trouble if isinstance(trouble, Refusal) else Refusal(text))
        if answer:
            content, status = json.dumps(answer).encode(), answer.get("status-code", 200)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing; `requests` lists it."""

    def _snapd(self) -> Snapd:
        assert isinstance(self.server, _Server)
        return self.server.snapd


def _error(refusal: Refusal) -> Json:
    result = {"message": refusal.message, "value": refusal.value} | ({"kind": refusal.kind} if refusal.kind else {})
    return {"type": "error", "status-code": refusal.status, "status": "Error", "result": result}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str, snapd: Snapd) -> None:
        super().__init__(address, _Handler)
        self.snapd = snapd

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that have hung up."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError | ConnectionResetError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def serving(snapd: Snapd, socket: Path) -> Generator[Snapd]:
    """Serve the stand-in at a socket, whose path may have at most 107 characters."""
    with _Server(str(socket), snapd) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield snapd
        finally:
            snapd.ending.set()
            server.shutdown()
            thread.join()
    socket.unlink(missing_ok=True)


_PROGRAM: Final = """\
#!{python} -IS
import json, os, socket, sys
body = json.dumps({{"arguments": sys.argv[1:], "environment": dict(os.environ)}}).encode()
head = b"POST /v2/command HTTP/1.0\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect({socket!r})
except OSError as error:
    reason = error.strerror.lower()
    post = 'cannot communicate with server: Post "http://localhost/v2/snaps"'
    sys.exit(f"error: {{post}}: dial unix {socket}: connect: {{reason}}")
connection.sendall(head + body)
answer = b"".join(iter(lambda: connection.recv(65536), b""))
if not answer:
    sys.exit("error: cannot communicate with server: EOF")
done = json.loads(answer.partition(b"\\r\\n\\r\\n")[2])
sys.stdout.write(done["out"])
sys.stderr.write(done["err"])
sys.exit(done["rc"])
"""


def write_program(path: Path, socket: Path) -> Path:
    """Write the program that takes the place of /usr/bin/snap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PROGRAM.format(python=sys.executable, socket=str(socket)), encoding="utf-8")
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def replace_snapd(monkeypatch: pytest.MonkeyPatch) -> Generator[Snapd]:
    """A snapd that the charm's modules use instead of the host's, with short pauses and time-outs."""
    with short_directory() as base:
        socket = base / "snapd.socket"
        monkeypatch.setattr(workload_snapd, "_COMMAND", str(write_program(base / "snap", socket)))
        monkeypatch.setattr(workload_snapd, "_PAUSE", 0.01)
        monkeypatch.setattr(snapd_client, "_SOCKET_PATH", str(socket))
        monkeypatch.setattr(snapd_api, "SOCKET", socket)
        monkeypatch.setattr(snapd_client, "_POLL_INTERVAL", 0.01)
        monkeypatch.setattr(snapd_client, "_CONNECTION_RETRY_BUDGET", 0)
        with serving(Snapd(base / "snaps", base / "ns"), socket) as snapd:
            yield snapd
