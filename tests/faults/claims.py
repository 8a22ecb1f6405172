# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claims as a client sees them, the requests and answers about them, and the exception for a broken promise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, cast

from tests.functional.harness import format_cpus, parse_cpus

Json = dict[str, Any]

#: The wishes that a request may have for the placement of its CPUs.
WISHES: Final = ("numa_policy", "cpu_thread_policy", "uncore_cache_alignment", "near")


class Violation(Exception):
    """A promise is broken; `kind` names it, and stays the same while a sequence of steps is shortened."""

    def __init__(self, kind: str, details: str) -> None:
        super().__init__(f"{kind}: {details}")
        self.kind = kind


def require(condition: bool, kind: str, *details: object) -> None:
    if not condition:
        raise Violation(kind, " ".join(map(_text, details)))


def _text(detail: object) -> str:
    return format_cpus(cast("set[int]", detail)) if isinstance(detail, set) else str(detail)


@dataclass
class Held:
    """The CPUs of one service. `alone` are CPUs whose core no other service may use.

    `ruled`: rules or wishes may have limited how many it has.
    """

    pool: str
    preemption_policy: str
    cpus: set[int] = field(default_factory=set[int])
    explicit: set[int] = field(default_factory=set[int])
    alone: set[int] = field(default_factory=set[int])
    withheld: set[int] = field(default_factory=set[int])
    #: Offline CPUs that a release by node may have taken; only the daemon knows.
    unsure: set[int] = field(default_factory=set[int])
    ruled: bool = False

    def lose(self, cpus: set[int]) -> None:
        self.cpus -= cpus
        self.explicit -= cpus
        self.alone -= cpus


def pool_of(request: Json) -> str:
    return request.get("pool") or "isolated"


def released(request: Json) -> bool:
    """Whether a request gives CPUs or hugepages back."""
    if request["action"] == "allocate_cores_percent":
        return request["percent"] <= 0
    return request.get("num_of_cores", request.get("hugepages_requested", 0)) < 0


def granted(request: Json, answer: Json) -> set[int]:
    """The CPUs that an answer to an allocating action names."""
    return parse_cpus(answer["cores_allocated" if request["action"] == "allocate_numa_cores" else "allocated_cores"])


def without(document: Json, names: set[str]) -> Json:
    """The JSON object without these members."""
    return {name: value for name, value in document.items() if name not in names}
