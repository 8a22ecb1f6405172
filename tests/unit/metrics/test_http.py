# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""HTTP: what is served, and the answers to everything else."""

from __future__ import annotations

import pytest

from epa_orchestrator.metrics import http

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answer(request: bytes) -> tuple[bytes, bytes]:
    """Head and body."""
    head, _, body = http.answer(request, lambda: b"epa 1\n", "text/x").partition(b"\r\n\r\n")
    return head, body


def test_get_has_the_metrics() -> None:
    head, body = answer(GET)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/x\r\nContent-Length: 6\r\nConnection: close" in head
    assert body == b"epa 1\n"


def test_head_has_the_length_and_no_body() -> None:
    head, body = answer(GET.replace(b"GET", b"HEAD"))
    assert b"Content-Length: 6" in head
    assert body == b""


def test_query_is_ignored() -> None:
    assert answer(GET.replace(b"/metrics", b"/metrics?name=x"))[1] == b"epa 1\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"GET", b"POST"), b"405 Method Not Allowed"),
        (GET.replace(b"/metrics", b"/"), b"404 Not Found"),
        (GET.replace(b"/metrics", b"/metrics/../x"), b"404 Not Found"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics\r\n\r\n", b"400 Bad Request"),
        (b"\xff\xfe GET HTTP/2\r\n\r\n", b"400 Bad Request"),
        (b"x" * (http.MOST_BYTES + 1), b"431 Request Header Fields Too Large"),
    ],
)
def test_other_request_gets_an_error(request_: bytes, status: bytes) -> None:
    assert answer(request_)[0].startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("request_", [GET, GET.replace(b"\r", b""), b"x" * (http.MOST_BYTES + 1)])
def test_request_is_whole_after_its_headers_or_at_the_limit(request_: bytes) -> None:
    assert http.is_whole(request_)
    assert not http.is_whole(request_[:-1])


def test_failure_says_where_to_look() -> None:
    assert http.failure().startswith(b"HTTP/1.1 500 ")
    assert b"daemon's log" in http.failure()
