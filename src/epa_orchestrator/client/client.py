# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A client of the daemon's socket: one method for each action, one connection for each request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeVar

from epa_orchestrator.client.checks import InvalidAnswerError, check_reply, decode, parse
from epa_orchestrator.client.errors import DaemonError, RefusedByDaemon, Unreachable
from epa_orchestrator.client.exchange import TooLongError, exchange
from epa_orchestrator.client.watching import Watch
from epa_orchestrator.protocol.answers import (
    Answer,
    CoresAnswer,
    ErrorAnswer,
    HugepagesAnswer,
    Listing,
    MemoryAnswer,
    NumaCoresAnswer,
    PercentAnswer,
)
from epa_orchestrator.protocol.fields import VERSION
from epa_orchestrator.protocol.history import ClaimAnswer, HistoryAnswer
from epa_orchestrator.protocol.isolation import IsolationAnswer
from epa_orchestrator.protocol.machine import MachineAnswer

_MODEL = TypeVar("_MODEL", bound=Answer)

#: Larger than any answer: a listing of 10,000 services with long names has 5 MB.
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


class Client:
    """A client of the daemon at a socket path. Every method raises DaemonError.

    `timeout` (seconds) is for a whole exchange, from connecting to the end of the answer.
    """

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self.path = path
        self.timeout = timeout
        self._features: tuple[str, ...] | None = None

    def list_allocations(self, pool: str = "isolated") -> Listing:
        """All claims of a pool."""
        listing = self._request(Listing, action="list_allocations", pool=pool)
        self._features = listing.supported_cpu_features
        return listing

    def supports(self, feature: str) -> bool:
        """Whether the daemon has a feature. It asks for a listing, unless this client has had one."""
        if self._features is None:
            self.list_allocations()
        return feature in (self._features or ())

    def general_listing(self) -> Listing | None:
        """All claims of the general pool, None when the operator has configured no such pool."""
        try:
            return self.list_allocations("general")
        except RefusedByDaemon as error:
            if "not configured" in str(error):
                return None
            raise

    def listings(self) -> list[Listing]:
        """The listings of the isolated pool, and of the general one if there is one."""
        isolated, general = self.list_allocations(), self.general_listing()
        return [isolated] if general is None else [isolated, general]

    def memory_info(self, node_id: int | None = None) -> MemoryAnswer:
        """The hugepages of every NUMA node, or of one."""
        one = {} if node_id is None else {"node_id": node_id}
        return self._request(MemoryAnswer, action="get_memory_info", **one)

    def history(self, **filters: Any) -> HistoryAnswer:
        """The newest changes; `filters` are the request's fields: service_name, cpu, since, until, after and limit."""
        asked = {name: value for name, value in filters.items() if value is not None}
        return self._request(HistoryAnswer, action="get_history", **asked)

    def claim(self, service: str | None = None, cpu: int | None = None) -> ClaimAnswer:
        """What a service holds, or who has a CPU, and why."""
        asked: dict[str, Any] = {"service_name": service} if cpu is None else {"cpu": cpu}
        return self._request(ClaimAnswer, action="get_claim", **asked)

    def isolation(self, service: str | None = None) -> IsolationAnswer:
        """The audit's last results, and what disturbs the owners of claims, or of one."""
        one = {} if service is None else {"service_name": service}
        return self._request(IsolationAnswer, action="get_isolation", **one)

    def machine(self) -> MachineAnswer:
        """The host as the daemon found it, and the state of each CPU."""
        return self._request(MachineAnswer, action="get_machine")

    def allocate(self, service: str, count: int, pool: str = "isolated", **more: Any) -> CoresAnswer:
        """Give the service `count` CPUs in all: 0 means the default size, -1 none.

        `more` are further fields of the request, such as `preemption_policy` and `dry_run`, for all three methods.
        """
        return self._request(
            CoresAnswer, action="allocate_cores", service_name=service, num_of_cores=count, pool=pool, **more
        )

    def allocate_percent(self, service: str, percent: int, pool: str = "isolated", **more: Any) -> PercentAnswer:
        """Give the service a percentage of the pool in all: 0 or -1 means none."""
        return self._request(
            PercentAnswer, action="allocate_cores_percent", service_name=service, percent=percent, pool=pool, **more
        )

    def allocate_in_node(
        self, service: str, node_id: int, count: int, pool: str = "isolated", **more: Any
    ) -> NumaCoresAnswer:
        """Give the service `count` CPUs of a NUMA node in all: -1 means none of that node."""
        fields = {"numa_node": node_id, "num_of_cores": count, "pool": pool, **more}
        return self._request(NumaCoresAnswer, action="allocate_numa_cores", service_name=service, **fields)

    def set_hugepages(self, service: str, node_id: int, size_kb: int, count: int) -> HugepagesAnswer:
        """Record that the service has `count` hugepages of a size (KiB) on a NUMA node: -1 removes the record."""
        fields = {"node_id": node_id, "size_kb": size_kb, "hugepages_requested": count}
        return self._request(HugepagesAnswer, action="allocate_hugepages", service_name=service, **fields)

    def watch(self, pool: str = "isolated") -> Watch:
        """Everything that changes from now on; the first event is the present state, as a listing of this pool has it.

        Use it in a `with` block, which closes the connection, and iterate. `timeout` is for the first event, and for a
        line that has begun; from one line to the next it can take as long as nothing changes.
        """
        return Watch(self.path, self.timeout, pool, _MAX_ANSWER_BYTES)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request unchanged, and return any JSON object that comes back, an error too.

        Raises DaemonError, but never RefusedByDaemon.
        """
        try:
            return decode(self._exchange(request))
        except InvalidAnswerError as error:
            raise DaemonError(f"The server at {self.path} {error}") from None

    def _request(self, model: type[_MODEL], **fields: Any) -> _MODEL:
        sent = self._exchange({"version": VERSION, **fields})
        try:
            if "error" in decode(sent):
                refusal = parse(ErrorAnswer, sent)
                raise RefusedByDaemon.of(refusal)
            answer = parse(model, sent)
            check_reply(fields, answer)
        except InvalidAnswerError as error:
            raise DaemonError(f"The server at {self.path} {error}") from None
        return answer

    def _exchange(self, request: dict[str, Any]) -> bytes:
        try:
            return exchange(self.path, json.dumps(request).encode(), self.timeout, _MAX_ANSWER_BYTES)
        except TooLongError:
            raise DaemonError(f"The server at {self.path} sends more than {_MAX_ANSWER_BYTES} bytes") from None
        except OSError as error:
            raise Unreachable.because(error, self.path, self.timeout) from error
