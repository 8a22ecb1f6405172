# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Options in force after a start with unusable ones, worked out from the documents, not from the daemon's code."""

from __future__ import annotations

from typing import Final

from tests.faults.claims import Json

#: A value that no option accepts.
UNUSABLE: Final = "unusable"

#: What stands in for an unusable option, where its default could give away what the operator protects.
_SAFE: Final = {"numa-reclaim": "never", "default-preemption-policy": "non-preemptive"}

#: The options that are dropped because they contradict a rule that refuses.
_CONTRADICTIONS: Final = (
    ("cpu-thread-policy", "require", "cpu-distribution", "cores"),
    ("uncore-cache-alignment", "require", "numa-allocation-strategy", "distribute"),
    ("uncore-cache-alignment", "require", "cpu-distribution", "caches"),
)


def in_force(options: Json) -> tuple[Json, set[str]]:
    """The options that are in force after a start with these, and the names of the unusable ones."""
    unusable = {name for name, value in options.items() if value == UNUSABLE}
    used = {name: value for name, value in options.items() if name not in unusable}
    for rule, value, other, contrary in _CONTRADICTIONS:
        if used.get(rule) == value and used.get(other) == contrary:
            unusable.add(other)
    used = {name: value for name, value in used.items() if name not in unusable}
    return used | {name: _SAFE[name] for name in _SAFE.keys() & unusable}, unusable
