# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Placement policy: the options that shape placement, the wishes of a request, and how the two are combined."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import ClassVar, Final, Literal, NamedTuple

from epa_orchestrator.errors import EpaError

NumaPolicy = Literal["best-effort", "none", "restricted", "single-numa-node"]
NumaAllocationStrategy = Literal["packed", "spread", "distribute"]
UncoreCacheAlignment = Literal["prefer", "none", "require"]
CpuThreadPolicy = Literal["prefer", "share", "require", "isolate"]
CpuDistribution = Literal["packed", "cores", "caches"]
PreferCoreType = Literal["none", "performance", "efficiency"]

#: Rules, which are values that can refuse a request, weakest first: a wish cannot weaken these.
_RULES: Final[dict[str, tuple[str, ...]]] = {
    "uncore_cache_alignment": ("require",),
    "numa_policy": ("restricted", "single-numa-node"),
    "cpu_thread_policy": ("require", "isolate"),
}

#: The preference that replaces a rule when it is left out.
_INSTEAD: Final = {
    "numa_policy": "best-effort",
    "cpu_thread_policy": "prefer",
    "uncore_cache_alignment": "prefer",
}

_CONTRADICTIONS: Final = (
    (("cpu_thread_policy", "require"), ("cpu_distribution", "cores")),
    (("uncore_cache_alignment", "require"), ("numa_allocation_strategy", "distribute")),
    (("uncore_cache_alignment", "require"), ("cpu_distribution", "caches")),
)


class ContradictionError(EpaError):
    """Two values that contradict each other."""


@dataclass(frozen=True, slots=True)
class PlacementPolicy:
    """The options that shape placement, each with its default, and the NUMA node that a request wants to be `near`."""

    numa_policy: NumaPolicy = "best-effort"
    numa_allocation_strategy: NumaAllocationStrategy = "packed"
    prefer_closest_numa_nodes: bool = True
    uncore_cache_alignment: UncoreCacheAlignment = "prefer"
    cpu_thread_policy: CpuThreadPolicy = "prefer"
    cpu_distribution: CpuDistribution = "packed"
    prefer_core_type: PreferCoreType = "none"
    near: int | None = None

    #: How pydantic reads a stored policy (see state/rows): an unknown option is refused.
    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

    @property
    def rules(self) -> tuple[str, ...]:
        """The fields whose value can refuse a request although there are enough CPUs."""
        return _rules_of(self)

    def without(self, *rules: str) -> PlacementPolicy:
        """The same with each of these rules replaced by a preference."""
        changes = {name: _INSTEAD[name] for name in rules}
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def contradiction(self) -> tuple[tuple[str, str], tuple[str, str]] | None:
        """Two fields with values that contradict each other, None when there are none."""
        for one, other in _CONTRADICTIONS:
            if getattr(self, one[0]) == one[1] and getattr(self, other[0]) == other[1]:
                return one, other
        return None

    def changed(self) -> dict[str, object]:
        """The fields that are not at their default."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


DEFAULT_POLICY: Final = PlacementPolicy()


@lru_cache(256)
def _rules_of(policy: PlacementPolicy) -> tuple[str, ...]:
    return tuple([name for name, values in _RULES.items() if getattr(policy, name) in values])


class Wishes(NamedTuple):
    """The wishes of one request; None leaves a choice to the operator. `near` is a NUMA node."""

    numa_policy: NumaPolicy | None = None
    cpu_thread_policy: CpuThreadPolicy | None = None
    uncore_cache_alignment: UncoreCacheAlignment | None = None
    near: int | None = None


NO_WISHES: Final = Wishes()


@lru_cache(256)
def with_wishes(policy: PlacementPolicy, wishes: Wishes) -> PlacementPolicy:
    """The operator's policy with a request's wishes, as far as the operator allows them.

    A request may replace a preference of the operator. It may make a rule stricter; a weaker wish has no effect.

    Raises ContradictionError when a wish contradicts another option.
    """
    if wishes == NO_WISHES:
        return policy
    changes: dict[str, object] = {"near": wishes.near}
    for name, rules in _RULES.items():
        wished, set_ = getattr(wishes, name), getattr(policy, name)
        if wished is not None and _strictness(rules, wished) >= _strictness(rules, set_):
            changes[name] = wished
    effective = replace(policy, **changes)  # pyright: ignore[reportArgumentType]
    if (both := effective.contradiction()) is not None:
        (one, value), (other, other_value) = both
        raise ContradictionError(
            f"{one}={value} contradicts {_option(other)}={other_value}, which the operator has set: ask for another"
            f" {one}"
        )
    return effective


def _strictness(rules: tuple[str, ...], value: str) -> int:
    return rules.index(value) + 1 if value in rules else 0


def _option(field: str) -> str:
    return field.replace("_", "-")
