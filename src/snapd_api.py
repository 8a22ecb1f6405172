# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests of snapd's REST API that its library lacks: the changes of the past, and downloads."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import socket
import urllib.parse
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from charmlibs import snap

SOCKET: Final = Path("/run/snapd.socket")
#: snapd may retry a request to the store for 38 seconds; a stream may pause for as long.
TIMEOUT: Final = 120.0
_BLOCK: Final = 1 << 20
#: A larger snap is not downloaded: it could fill the disk of the machine. Ours has less than a tenth of this.
_MAX_DOWNLOAD: Final = 512 << 20
_FILE_NAME: Final = re.compile(r"filename=\"?[a-z0-9-]+_([0-9]{1,9})\.snap\"?")
_ERRORS: Final[dict[str, type[snap.APIError]]] = {
    "snap-not-found": snap.NotInStoreError,
    "snap-channel-not-available": snap.ChannelNotAvailableError,
    "snap-revision-not-available": snap.RevisionNotAvailableError,
}


class TooLargeError(snap.Error):
    """A snap is larger than ours can be; the message is its revision."""


class Download(NamedTuple):
    """What snapd says of a download: the snap's revision, and its SHA3-384 in hexadecimal digits."""

    revision: str
    digest: str


class _Connection(http.client.HTTPConnection):
    """HTTP over snapd's socket."""

    def __init__(self) -> None:
        super().__init__("localhost", timeout=TIMEOUT)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(SOCKET))


def get(path: str, **query: str) -> Any:
    """The result of a GET request.

    Raises snap.Error as the library does.
    """
    with _request("GET", f"{path}?{urllib.parse.urlencode(query)}") as response:
        return _decode(response)["result"]


def peek(name: str, channel: str, revision: str = "") -> Download:
    """Which revision the store offers in a channel now; with `revision`, whether it offers that one.

    snapd asks its own store, so this works with a store proxy, where plain `snap download` does not.

    Raises snap.Error.
    """
    with _request("POST", "/v2/download", _wanted(name, channel, revision) | {"header-peek": True}) as response:
        return _described(response)


def download(name: str, channel: str, revision: str, target: Path) -> Download:
    """Download a snap through snapd into a file, and check the file's digest.

    Raises snap.Error, TooLargeError too, and OSError where the file cannot be written.
    """
    with _request("POST", "/v2/download", _wanted(name, channel, revision)) as response:
        described = _described(response)
        digest = hashlib.sha3_384()
        with target.open("wb") as file:
            while block := _read(response, _BLOCK):
                if file.tell() + len(block) > _MAX_DOWNLOAD:
                    raise TooLargeError(described.revision)
                digest.update(block)
                file.write(block)
    if digest.hexdigest() != described.digest:
        raise snap.ConnectionError(f"the download of {name} is incomplete")
    return described


def _wanted(name: str, channel: str, revision: str) -> dict[str, Any]:
    return {"snap-name": name, "channel": channel} | ({"revision": revision} if revision else {})


def _described(response: http.client.HTTPResponse) -> Download:
    if response.status != 200 or response.getheader("Content-Type") == "application/json":
        _decode(response)
    found = _FILE_NAME.search(response.getheader("Content-Disposition", ""))
    digest = response.getheader("Snap-Sha3-384", "")
    if found is None or not digest:
        raise snap.BadResponseError("snapd does not name the revision and the digest of a download")
    return Download(found[1], digest)


@contextlib.contextmanager
def _request(method: str, target: str, body: Mapping[str, Any] | None = None) -> Generator[http.client.HTTPResponse]:
    connection = _Connection()
    try:
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, target, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
        except FileNotFoundError:
            raise snap.SocketNotFoundError(f"there is no socket {SOCKET}") from None
        except TimeoutError:
            raise snap.TimeoutError(f"snapd did not answer {method} {target} in {TIMEOUT:g} seconds") from None
        except (OSError, http.client.HTTPException) as error:
            raise snap.ConnectionError(f"the connection to snapd was lost: {error}") from error
        with response:
            yield response
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, most: int | None = None) -> bytes:
    try:
        return response.read(most)
    except TimeoutError:
        raise snap.TimeoutError(f"snapd sent nothing for {TIMEOUT:g} seconds") from None
    except (OSError, http.client.HTTPException) as error:
        raise snap.ConnectionError(f"the connection to snapd was lost: {error}") from error


def _decode(response: http.client.HTTPResponse) -> dict[str, Any]:
    """The answer as a document; an error answer is raised."""
    try:
        answer = json.loads(_read(response))
        result = answer["result"]
        failed = answer["type"] == "error"
        message, kind = (str(result.get(key, "")) for key in ("message", "kind")) if failed else ("", "")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise snap.BadResponseError(f"snapd's answer has an unknown form ({type(error).__name__})") from error
    if failed:
        raise _ERRORS.get(kind, snap.APIError)(message, kind=kind, value=result.get("value", ""))
    return answer
