# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The floor under every request: a server that does nothing but answer, `python -m benchmarks.echo SOCKET BYTES`.

It is a bare `asyncio.Protocol` without streams: it answers the first bytes that arrive with a prepared payload, and
closes.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final, cast

#: It ends by itself, in case the benchmark is killed before it can end it.
_LIFETIME_S: Final = 600
_BACKLOG: Final = 1024


class _Echo(asyncio.Protocol):
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  (the answer is the same for all requests)
        if self._transport is not None:
            self._transport.write(self._payload)
            self._transport.close()


async def _serve(path: str, payload: bytes) -> None:
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Echo(payload), path, backlog=_BACKLOG)
    await server.serve_forever()


def main() -> None:
    """Serve until a signal ends it."""
    path, size = sys.argv[1:]
    signal.alarm(_LIFETIME_S)
    asyncio.run(_serve(path, b" " * int(size)))


if __name__ == "__main__":
    main()
