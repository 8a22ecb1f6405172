# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""An orchestrator on a real store, for the tests of the modules that serve requests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.state import database_files, opening
from epa_orchestrator.state.errors import CommitError
from epa_orchestrator.state.store import Store
from tools.synthetic import Shape, build

PEER = Peer(1, 0, 0)


SHAPE = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15", hugepages={2048: (8, 8)})


Answer = dict[str, Any]


class Counting(Store):
    """A real store that counts its commits, and fails them on demand as a full disk would."""

    commits = 0
    broken = False

    def commit(self) -> None:
        if self.broken:
            self.undo()
            raise CommitError("database or disk is full")
        super().commit()
        self.commits += 1


def start(directory: Path, shape: Shape = SHAPE, settings: Settings | None = None) -> tuple[Orchestrator, Counting]:
    path = directory / database_files.FILE_NAME
    if not database_files.exists(path):
        opening.create(path, Ledger(), PEER, 1.0)
    opened, loaded = opening.open_store(path)
    counting = Counting(opened._db, path, loaded.checksum, opened._lock)
    settings = settings or Settings()
    host = Host(RecordedSysfs(build(shape)), settings, loaded.seen)
    return Orchestrator(host, settings, State(loaded.ledger, counting, None)), counting


async def ask(orchestrator: Orchestrator, *requests: Answer) -> list[Answer]:
    """The answers to requests that arrive in one turn of the event loop."""
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[bytes]] = []
    for request in requests:
        answer: asyncio.Future[bytes] = loop.create_future()
        answers.append(answer)
        orchestrator.submit(validate(request), PEER, answer.set_result)
    return [json.loads(answer) for answer in await asyncio.gather(*answers)]


def cores(service: str, count: int) -> Answer:
    return {"action": "allocate_cores", "service_name": service, "num_of_cores": count}


LIST = {"action": "list_allocations"}


def run(tmp_path: Path, body: Callable[[Orchestrator, Counting], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        orchestrator, counting = start(tmp_path)
        try:
            await body(orchestrator, counting)
        finally:
            orchestrator.close()

    asyncio.run(main())


def stopped_disk(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that stands still until the event is set."""
    moves, commit = threading.Event(), counting.commit

    def stand_still() -> None:
        assert moves.wait(60)
        commit()

    monkeypatch.setattr(counting, "commit", stand_still)
    return moves
