"""Client: asks a running daemon, one connection per request."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from epa_orchestrator.protocol import (
    VERSION,
    Answer,
    CoresAnswer,
    ErrorAnswer,
    Explanation,
    HugepagesAnswer,
    Listing,
    MemoryAnswer,
    NumaCoresAnswer,
    PercentAnswer,
)

_ANY_ANSWER = TypeVar("_ANY_ANSWER", bound=Answer)

#: Larger than any answer: a listing of 10,000 services with long names has 5 MB.
_MAX_ANSWER_BYTES = 64 * 1024 * 1024


class Unreachable(Exception):
    """No daemon answers; the message says why and what to do."""


class Refused(Exception):
    """The daemon refused; the message is its sentence, `explanation` its reasons when they were asked for."""

    def __init__(self, sentence: str, explanation: Explanation | None = None) -> None:
        super().__init__(sentence)
        self.explanation = explanation


class Client:
    """Talks to the daemon at a socket path. Every method raises Unreachable or Refused."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self.path = path
        self.timeout = timeout

    def list_allocations(self, pool: str = "isolated") -> Listing:
        """All claims of a pool."""
        return self._ask(Listing, action="list_allocations", pool=pool)

    def memory_info(self) -> MemoryAnswer:
        """The hugepages of every node."""
        return self._ask(MemoryAnswer, action="get_memory_info")

    def allocate(self, service: str, count: int, pool: str = "isolated", **more: Any) -> CoresAnswer:
        """Replace what the service holds by `count` CPUs: 0 the default size, -1 none.

        `more` are further fields of the request, such as `preemption_policy` and `dry_run`, for all three methods.
        """
        return self._ask(
            CoresAnswer, action="allocate_cores", service_name=service, num_of_cores=count, pool=pool, **more
        )

    def allocate_percent(self, service: str, percent: int, pool: str = "isolated", **more: Any) -> PercentAnswer:
        """Replace what the service holds by a percentage of the pool: 0 or -1 none."""
        return self._ask(
            PercentAnswer, action="allocate_cores_percent", service_name=service, percent=percent, pool=pool, **more
        )

    def allocate_in_node(
        self, service: str, node_id: int, count: int, pool: str = "isolated", **more: Any
    ) -> NumaCoresAnswer:
        """Replace what the service holds in a NUMA node by `count` CPUs of it: -1 none."""
        fields = {"numa_node": node_id, "num_of_cores": count, "pool": pool, **more}
        return self._ask(NumaCoresAnswer, action="allocate_numa_cores", service_name=service, **fields)

    def set_hugepages(self, service: str, node_id: int, size_kb: int, count: int) -> HugepagesAnswer:
        """Record that the service has `count` hugepages of a size (KiB) on a node: -1 removes the record."""
        fields = {"node_id": node_id, "size_kb": size_kb, "hugepages_requested": count}
        return self._ask(HugepagesAnswer, action="allocate_hugepages", service_name=service, **fields)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request as it is, and return the answer as it is, an error's too.

        Raises Unreachable.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.timeout)
                connection.connect(os.fspath(self.path))
                connection.sendall(json.dumps(request).encode())
                answer = _read_to_end(connection)
        except OSError as error:
            raise Unreachable(self._why(error)) from error
        try:
            document = json.loads(answer)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Unreachable(f"What serves {self.path} did not answer with a JSON object")
        return cast("dict[str, Any]", document)

    def _ask(self, model: type[_ANY_ANSWER], **request: Any) -> _ANY_ANSWER:
        answer = self.ask({"version": VERSION, **request})
        try:
            if "error" in answer:
                raise Refused(str(answer["error"]), ErrorAnswer.model_validate(answer).explanation)
            return model.model_validate(answer)
        except ValidationError:
            raise Unreachable(f"What serves {self.path} gave an answer that this client does not understand") from None

    def _why(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"The daemon at {self.path} did not answer within {self.timeout:g} seconds"
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return (
                f"No daemon serves {self.path}: start it with 'snap start epa-orchestrator', or outside a snap with"
                " 'epa-orchestrator serve'"
            )
        return f"The daemon at {self.path} cannot be reached: {error.strerror or error}"


def _read_to_end(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := connection.recv(262_144):
        parts.append(part)
        size += len(part)
        if size > _MAX_ANSWER_BYTES:
            break
    return b"".join(parts)
