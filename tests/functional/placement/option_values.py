# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The values of each placement option, and the pairs of values that contradict each other."""

from __future__ import annotations

from typing import Final, get_args

from epa_orchestrator.placement import policy
from tests.functional.harness import Json

from .asking import Value

#: The values of each option that shapes placement.
VALUES: Final[dict[str, tuple[Value, ...]]] = {
    "numa-policy": get_args(policy.NumaPolicy),
    "numa-allocation-strategy": get_args(policy.NumaAllocationStrategy),
    "prefer-closest-numa-nodes": (True, False),
    "uncore-cache-alignment": get_args(policy.UncoreCacheAlignment),
    "cpu-thread-policy": get_args(policy.CpuThreadPolicy),
    "cpu-distribution": get_args(policy.CpuDistribution),
    "prefer-core-type": get_args(policy.PreferCoreType),
    "numa-reclaim": ("if-needed", "always", "never"),
    "resize-policy": ("in-place", "reallocate"),
}

CONTRADICTIONS: Final = [
    {"cpu-thread-policy": "require", "cpu-distribution": "cores"},
    {"uncore-cache-alignment": "require", "numa-allocation-strategy": "distribute"},
    {"uncore-cache-alignment": "require", "cpu-distribution": "caches"},
]


ALL_VALUES: Final[dict[str, tuple[Value, ...]]] = VALUES | {
    "default-allocation-percent": (80, 50),
    "large-system-threshold": (100, 4),
    "large-system-reserved-cpus": (4, 2),
    "default-preemption-policy": ("legacy", "non-preemptive"),
    "reserved-hugepages": ("", "0:2048:8"),
    "reserved-cpus": ("", "3"),
    "max-services": (2048, 1),
    "max-hugepage-records": (8192, 1),
    "cpu-pool": ("", "0,8"),
}


def contradict(settings: Json) -> bool:
    return any(settings.items() >= pair.items() for pair in CONTRADICTIONS)
