# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Policy: which wishes of a request replace the operator's options."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from epa_orchestrator.placement.policy import (
    NO_WISHES,
    ContradictionError,
    CpuThreadPolicy,
    NumaPolicy,
    PlacementPolicy,
    UncoreCacheAlignment,
    Wishes,
    with_wishes,
)

#: The values that refuse, weakest first; all others only prefer.
STRICT = {
    "numa_policy": ["restricted", "single-numa-node"],
    "cpu_thread_policy": ["require", "isolate"],
    "uncore_cache_alignment": ["require"],
}
VALUES = {
    "numa_policy": get_args(NumaPolicy),
    "cpu_thread_policy": get_args(CpuThreadPolicy),
    "uncore_cache_alignment": get_args(UncoreCacheAlignment),
}


@pytest.mark.parametrize(
    ("option", "set_", "wished", "effective"),
    [
        ("numa_policy", "best-effort", "none", "none"),
        ("numa_policy", "none", "best-effort", "best-effort"),
        ("numa_policy", "best-effort", "restricted", "restricted"),
        ("numa_policy", "none", "single-numa-node", "single-numa-node"),
        ("numa_policy", "restricted", "single-numa-node", "single-numa-node"),
        ("numa_policy", "restricted", "best-effort", "restricted"),
        ("numa_policy", "restricted", "none", "restricted"),
        ("numa_policy", "single-numa-node", "restricted", "single-numa-node"),
        ("numa_policy", "single-numa-node", "none", "single-numa-node"),
        ("cpu_thread_policy", "prefer", "share", "share"),
        ("cpu_thread_policy", "share", "prefer", "prefer"),
        ("cpu_thread_policy", "share", "require", "require"),
        ("cpu_thread_policy", "prefer", "isolate", "isolate"),
        ("cpu_thread_policy", "require", "isolate", "isolate"),
        ("cpu_thread_policy", "require", "share", "require"),
        ("cpu_thread_policy", "isolate", "require", "isolate"),
        ("cpu_thread_policy", "isolate", "prefer", "isolate"),
        ("uncore_cache_alignment", "prefer", "none", "none"),
        ("uncore_cache_alignment", "none", "prefer", "prefer"),
        ("uncore_cache_alignment", "prefer", "require", "require"),
        ("uncore_cache_alignment", "require", "none", "require"),
        ("uncore_cache_alignment", "require", "prefer", "require"),
    ],
)
def test_a_wish_replaces_a_preference_and_never_weakens_a_rule(
    option: str, set_: str, wished: str, effective: str
) -> None:
    policy, wishes = _policy({option: set_}), Wishes(**_any({option: wished}))
    assert with_wishes(policy, wishes) == _policy({option: effective})


@pytest.mark.parametrize("option", VALUES)
def test_every_wish_under_every_value(option: str) -> None:
    strict = STRICT[option]
    for set_, wished in product(VALUES[option], VALUES[option]):
        effective = getattr(with_wishes(_policy({option: set_}), Wishes(**_any({option: wished}))), option)
        if set_ not in strict:
            assert effective == wished
        else:
            assert effective == max(set_, wished, key=lambda value: strict.index(value) if value in strict else -1)


def test_near_comes_from_the_request() -> None:
    assert with_wishes(PlacementPolicy(), Wishes(near=3)) == PlacementPolicy(near=3)
    assert with_wishes(PlacementPolicy(), NO_WISHES) == PlacementPolicy()


@pytest.mark.parametrize(
    ("policy", "wishes", "sentence"),
    [
        ({"cpu_distribution": "cores"}, {"cpu_thread_policy": "require"},
         "cpu_thread_policy=require contradicts cpu-distribution=cores, which the operator has set"),
        ({"cpu_distribution": "caches"}, {"uncore_cache_alignment": "require"},
         "uncore_cache_alignment=require contradicts cpu-distribution=caches, which the operator has set"),
        ({"numa_allocation_strategy": "distribute"}, {"uncore_cache_alignment": "require"},
         "uncore_cache_alignment=require contradicts numa-allocation-strategy=distribute, which the operator has set"),
    ],
)  # fmt: skip
def test_refuses_a_contradictory_wish(policy: dict[str, str], wishes: dict[str, str], sentence: str) -> None:
    with pytest.raises(ContradictionError, match=sentence):
        with_wishes(_policy(policy), Wishes(**_any(wishes)))


def test_isolate_goes_with_any_distribution() -> None:
    policy = with_wishes(PlacementPolicy(cpu_distribution="cores"), Wishes(cpu_thread_policy="isolate"))
    assert policy.contradiction() is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"cpu_thread_policy": "require"}, {"cpu_distribution": "cores"}),
        ({"uncore_cache_alignment": "require"}, {"numa_allocation_strategy": "distribute"}),
        ({"uncore_cache_alignment": "require"}, {"cpu_distribution": "caches"}),
    ],
)
def test_contradictions(one: dict[str, str], other: dict[str, str]) -> None:
    assert _policy(one | other).contradiction() == (*one.items(), *other.items())
    assert _policy(one).contradiction() is None
    assert _policy(other).contradiction() is None


def test_rules_of_a_policy_and_the_policy_without_them() -> None:
    for option, values in VALUES.items():
        for value in values:
            policy = _policy({option: value})
            assert policy.rules == ((option,) if value in STRICT[option] else ())
            assert policy.without(*policy.rules) == (PlacementPolicy() if policy.rules else policy)
    both = PlacementPolicy(numa_policy="restricted", cpu_thread_policy="isolate", near=1)
    assert both.without("numa_policy") == PlacementPolicy(cpu_thread_policy="isolate", near=1)
    assert both.without(*both.rules) == PlacementPolicy(near=1)


def test_only_changed_fields_are_listed() -> None:
    policy = PlacementPolicy("none", "spread", False, "none", "share", "cores", "performance", 2)
    assert PlacementPolicy(**policy.changed()) == policy  # pyright: ignore[reportArgumentType]
    assert PlacementPolicy(near=2).changed() == {"near": 2}
    assert PlacementPolicy().changed() == {}


def _any(values: dict[str, str]) -> dict[str, Any]:
    return dict(values)


def _policy(values: dict[str, str]) -> PlacementPolicy:
    return PlacementPolicy(**_any(values))
