# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests to an orchestrator in this process, without a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.parsing import validate

Json = dict[str, Any]


async def ask(orchestrator: Orchestrator, peer: Peer, *requests: Json) -> list[Json]:
    """The answers to requests that arrive in one turn of the event loop."""
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[bytes]] = []
    for request in requests:
        answer: asyncio.Future[bytes] = loop.create_future()
        answers.append(answer)
        orchestrator.submit(validate(request), peer, answer.set_result)
    return [json.loads(await answer) for answer in answers]
