# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests that the library for snapd lacks: their results, and errors of the library's own types."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from charmlibs import snap

import snapd_api
from snapd_api import Download
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME
from tests.fake_snapd.troubles import Refusal


def test_peek_names_the_revision_and_downloads_nothing(fake: Snapd) -> None:
    assert snapd_api.peek(NAME, "latest/stable").revision == "5"
    assert snapd_api.peek(NAME, "latest/stable", "4").revision == "4"
    assert fake.requests == ["POST peek", "POST peek"]


def test_download_writes_the_file_of_that_revision(fake: Snapd, tmp_path: Path) -> None:
    target = tmp_path / "a.snap"
    described = snapd_api.download(NAME, "latest/stable", "4", target)
    assert (described.revision, target.read_bytes()) == ("4", fake.store.content(NAME, 4))
    assert described == snapd_api.peek(NAME, "latest/stable", "4")


def test_download_that_is_too_large_is_an_error(fake: Snapd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_api, "_MAX_DOWNLOAD", 1000)
    with pytest.raises(snapd_api.TooLargeError, match=r"^4$"):
        snapd_api.download(NAME, "latest/stable", "4", tmp_path / "a.snap")


def test_incomplete_download_is_an_error(fake: Snapd, tmp_path: Path) -> None:
    fake.cut_downloads = True
    with pytest.raises(snap.ConnectionError, match="incomplete"):
        snapd_api.download(NAME, "latest/stable", "4", tmp_path / "a.snap")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("snap-not-found", snap.NotInStoreError),
        ("snap-channel-not-available", snap.ChannelNotAvailableError),
        ("snap-revision-not-available", snap.RevisionNotAvailableError),
        ("other", snap.APIError),
    ],
)
def test_error_answer_has_the_type_of_the_library(kind: str, error: type[snap.APIError], fake: Snapd) -> None:
    fake.fail_next("POST peek", Refusal("refused", kind, 404))
    with pytest.raises(error) as caught:
        snapd_api.peek(NAME, "latest/stable")
    assert (type(caught.value), caught.value.message) == (error, "refused")


def test_missing_socket_is_missing_snapd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_api, "SOCKET", Path("/nonexistent/socket"))
    with pytest.raises(snap.SocketNotFoundError):
        snapd_api.get("/v2/changes")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"rubbish",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[",
        b"HTTP/1.1 200 OK\r\nContent-Disposition: filename=a_x1.snap\r\nSnap-Sha3-384: 0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff",
        b'HTTP/1.1 500 No\r\nContent-Length: 31\r\n\r\n{"type": "error", "result": "a"}',
    ],
)
@pytest.mark.parametrize(
    "request_", [lambda: snapd_api.get("/v2/changes"), lambda: snapd_api.peek(NAME, "latest/edge")]
)
def test_malformed_answer_is_an_error_of_the_library(
    answer: bytes, request_: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapd_api, "SOCKET", tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(snap.Error):
            request_()
        thread.join()


def test_download_is_described_by_revision_and_digest(fake: Snapd) -> None:
    described = snapd_api.peek(NAME, "latest/edge")
    assert isinstance(described, Download)
    assert (described.revision, len(described.digest)) == ("7", 96)
