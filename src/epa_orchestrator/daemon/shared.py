# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shared: what all connections share, and how long each step of one may take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from epa_orchestrator.daemon.deferred import DeferredCalls
from epa_orchestrator.daemon.kept_answers import KeptAnswers
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.peer_names import NameReader
from epa_orchestrator.daemon.quotas import Quotas
from epa_orchestrator.descriptors import SlowCloser


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections may be open at once, and how long each step may take (seconds)."""

    connections: int = 2048
    #: To receive a whole request.
    read_timeout: float = 5.0
    #: For the client to read some more of its answer.
    write_timeout: float = 10.0
    #: To discard input after an error.
    linger_timeout: float = 5.0
    #: At the stop: for everything but commits, and for commits too.
    stop_grace: float = 1.0
    commit_grace: float = 30.0


class Client(Protocol):
    """An open connection, whatever it is used for."""

    def is_idle(self) -> bool:
        """Whether it may be closed because its client makes no progress."""
        ...

    def give_way(self) -> None:
        """Close this idle connection for another one."""
        ...

    def close_if_silent(self) -> None:
        """Close it if no request has begun on it."""
        ...

    def expire(self, now: float) -> None:
        """Close it if its time is over."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Shared:
    """The state that all connections share, and the open connections."""

    def __init__(self, orchestrator: Orchestrator, limits: ConnectionLimits) -> None:
        self.orchestrator = orchestrator
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.quotas: Quotas[Client] = Quotas(limits.connections)
        self.connections: dict[Client, None] = {}
        self.kept_answers = KeptAnswers()
        self.slow_closer = SlowCloser(self.loop.call_later)
        self.deferred = DeferredCalls(self.loop)
        self.names = NameReader()
