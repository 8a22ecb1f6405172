"""Client: asks a running daemon, one connection per request."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any, Final, TypeVar

from epa_orchestrator.client import checks as answers
from epa_orchestrator.client.checks import OddAnswerError
from epa_orchestrator.client.exchange import TooLongError, exchange
from epa_orchestrator.errors import EpaError
from epa_orchestrator.protocol.answers import (
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
from epa_orchestrator.protocol.requests import VERSION

_ANY_ANSWER = TypeVar("_ANY_ANSWER", bound=Answer)

#: Larger than any answer: a listing of 10,000 services with long names has 5 MB.
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


#: A refusal longer than this (characters) is cut: the longest names all CPUs that others hold.
_LONGEST_SENTENCE: Final = 16_384


class DaemonError(EpaError):
    """The daemon cannot be reached, does not answer, refuses, or what answers is no daemon.

    ```
    DaemonError          the answer is invalid, or belongs to another request
    ├── Unreachable      nobody answers, or not in time
    └── RefusedByDaemon          the daemon refuses
    ```
    """


class Unreachable(DaemonError):
    """No daemon answers; the message says why and what to do."""


class RefusedByDaemon(DaemonError):
    """The daemon refused; the message is its sentence, `explanation` its reasons when they were asked for."""

    def __init__(self, sentence: str, explanation: Explanation | None = None) -> None:
        super().__init__(sentence)
        self.explanation = explanation


class Client:
    """Talks to the daemon at a socket path. Every method raises DaemonError.

    `timeout` (seconds) is for a whole exchange, from connecting to the end of the answer.
    """

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self.path = path
        self.timeout = timeout

    def list_allocations(self, pool: str = "isolated") -> Listing:
        """All claims of a pool."""
        return self._ask(Listing, action="list_allocations", pool=pool)

    def general_listing(self) -> Listing | None:
        """All claims of the general pool, None when the operator has configured no such pool."""
        try:
            return self.list_allocations("general")
        except RefusedByDaemon as error:
            if "not configured" in str(error):
                return None
            raise

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
        """Send a request as it is, and return the answer as it is, an error's too: a JSON object of any content.

        Raises DaemonError, but never RefusedByDaemon.
        """
        try:
            return answers.decode(self._exchange(request))
        except OddAnswerError as error:
            raise DaemonError(f"What serves {self.path} {error}") from None

    def _ask(self, model: type[_ANY_ANSWER], **request: Any) -> _ANY_ANSWER:
        sent = self._exchange({"version": VERSION, **request})
        try:
            if "error" in answers.decode(sent):
                refusal = answers.read(ErrorAnswer, sent)
                raise RefusedByDaemon(_refusal(refusal.error), refusal.explanation)
            answer = answers.read(model, sent)
            answers.check_reply(request, answer)
        except OddAnswerError as error:
            raise DaemonError(f"What serves {self.path} {error}") from None
        return answer

    def _exchange(self, request: dict[str, Any]) -> bytes:
        try:
            return exchange(self.path, json.dumps(request).encode(), self.timeout, _MAX_ANSWER_BYTES)
        except TooLongError:
            raise DaemonError(f"What serves {self.path} sends more than {_MAX_ANSWER_BYTES} bytes") from None
        except OSError as error:
            raise Unreachable(self._why(error)) from error

    def _why(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"The daemon at {self.path} did not answer within {self.timeout:g} seconds"
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return (
                f"No daemon serves {self.path}: start it with 'snap start epa-orchestrator', or outside a snap with"
                " 'epa-orchestrator serve'"
            )
        return f"The daemon at {self.path} cannot be reached: {error.strerror or error}"


def _refusal(sentence: str) -> str:
    """The daemon's sentence, cut to a length that a person can read."""
    if not sentence.strip():
        return "The daemon refuses, and does not say why"
    return sentence if len(sentence) <= _LONGEST_SENTENCE else sentence[:_LONGEST_SENTENCE] + "…"
