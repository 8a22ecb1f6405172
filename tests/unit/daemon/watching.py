# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A watching client without a socket, for the tests of what is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.readings import Watch
from tests.replica import Replica
from tests.unit.daemon.serving import PEER

Json = dict[str, Any]


class Watching:
    """A client that watches an orchestrator, and what it knows."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self.lines: list[Json] = []
        self.dropped = ""
        self._orchestrator = orchestrator
        self._replica: Replica | None = None

    @property
    def replica(self) -> Replica:
        assert self._replica is not None
        return self._replica

    async def begin(self, pool: str = "isolated") -> Json:
        """Watch; the first line, or the refusal."""
        first: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

        def begin(line: bytes) -> None:
            self._replica = Replica(json.loads(line))
            self._orchestrator.watchers.add(self)
            first.set_result(json.loads(line))

        request = cast("Watch", validate({"action": "watch", "pool": pool}))
        self._orchestrator.watch(request, PEER, lambda error: first.set_result(json.loads(error)), begin)
        return await first

    def tell(self, lines: bytes) -> None:
        for line in map(json.loads, lines.splitlines()):
            self.lines.append(line)
            self.replica.apply(line)

    def send(self) -> None:
        """There is no socket."""

    def drop(self, reason: str) -> None:
        self.dropped = reason
        self._orchestrator.watchers.remove(self)

    def take(self) -> list[Json]:
        """The lines since the last call."""
        self._orchestrator.watchers.send_all()
        taken, self.lines = self.lines, []
        return taken
