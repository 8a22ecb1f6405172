# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""HTTP: the answer to one request of a scraper, as bytes. Only GET and HEAD of /metrics are served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: The most bytes of a request's line and headers.
MOST_BYTES: Final = 8192

PATH: Final = "/metrics"
_TEXT: Final = "text/plain; charset=utf-8"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}


def is_whole(request: bytes | bytearray) -> bool:
    """Whether the end of the headers has come, or never will within the limit."""
    return b"\r\n\r\n" in request or b"\n\n" in request or len(request) > MOST_BYTES


def answer(request: bytes, render: Callable[[], bytes], content_type: str) -> bytes:
    """The answer to a whole request; `render` makes the metrics, and may raise."""
    if len(request) > MOST_BYTES:
        return _answer(431, f"the request has more than {MOST_BYTES} bytes\n")
    words = request.split(b"\n", 1)[0].split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _answer(400, "this is no HTTP/1 request\n")
    method, target = words[0], words[1].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        return _answer(405, "use GET\n", "Allow: GET, HEAD\r\n")
    if target != PATH.encode():
        return _answer(404, f"the metrics are at {PATH}\n", head=method == b"HEAD")
    return _answer(200, render(), f"Content-Type: {content_type}\r\n", head=method == b"HEAD")


def failure() -> bytes:
    """The answer when the metrics cannot be made; the log says why."""
    return _answer(500, "the metrics cannot be shown: see the daemon's log\n")


def _answer(status: int, body: str | bytes, headers: str = "", *, head: bool = False) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    if "Content-Type" not in headers:
        headers += f"Content-Type: {_TEXT}\r\n"
    headers += f"Content-Length: {len(content)}\r\nConnection: close\r\n"
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\n{headers}\r\n".encode() + (b"" if head else content)
