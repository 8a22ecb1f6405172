"""The floor under every request: a server that does nothing but answer, `python -m benchmarks.echo LOOP SOCKET BYTES`.

It answers the first bytes that arrive with a prepared payload and closes, as bare as each loop allows: an
`asyncio.Protocol` without streams, or blocking calls.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import signal
import socket
import sys
from typing import Final, Literal, cast

Loop = Literal["asyncio", "uvloop", "blocking"]

#: It ends by itself, should the benchmark be killed before it can end it.
_LIFETIME_S: Final = 600
_BACKLOG: Final = 1024


def has_uvloop() -> bool:
    """Whether uvloop is installed here."""
    return importlib.util.find_spec("uvloop") is not None


class _Echo(asyncio.Protocol):
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  (it answers whatever was sent)
        if self._transport is not None:
            self._transport.write(self._payload)
            self._transport.close()


def _serve_on_loop(loop: asyncio.AbstractEventLoop, path: str, payload: bytes) -> None:
    loop.run_until_complete(loop.create_unix_server(lambda: _Echo(payload), path, backlog=_BACKLOG))
    loop.run_forever()


def _serve_blocking(path: str, payload: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(_BACKLOG)
        while True:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(payload)
            connection.close()


def main() -> None:
    """Serve until a signal ends it."""
    loop, path, size = sys.argv[1:]
    payload = b" " * int(size)
    signal.alarm(_LIFETIME_S)
    if loop == "blocking":
        _serve_blocking(path, payload)
    elif loop == "uvloop":
        _serve_on_loop(importlib.import_module("uvloop").new_event_loop(), path, payload)
    else:
        _serve_on_loop(asyncio.new_event_loop(), path, payload)


if __name__ == "__main__":
    main()
