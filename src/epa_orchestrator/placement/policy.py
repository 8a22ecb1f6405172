"""Placement policy: what the operator and a request want of the CPUs that are chosen, and how the two go together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from epa_orchestrator.errors import EpaError

NumaPolicy = Literal["best-effort", "none", "restricted", "single-numa-node"]
NumaAllocationStrategy = Literal["packed", "spread", "distribute"]
UncoreCacheAlignment = Literal["prefer", "none", "require"]
CpuThreadPolicy = Literal["prefer", "share", "require", "isolate"]
CpuDistribution = Literal["packed", "cores", "caches"]
PreferCoreType = Literal["none", "performance", "efficiency"]

#: Values that refuse a request rather than place it otherwise, by how much they refuse: a wish cannot weaken these.
_RULES: Final[dict[str, tuple[str, ...]]] = {
    "uncore_cache_alignment": ("require",),
    "numa_policy": ("restricted", "single-numa-node"),
    "cpu_thread_policy": ("require", "isolate"),
}

#: What is preferred where a rule is left out.
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
    """Two values that cannot both be had."""


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

    @property
    def rules(self) -> tuple[str, ...]:
        """The fields whose value can refuse a request that there are CPUs enough for."""
        return _rules_of(self)

    def without(self, *rules: str) -> PlacementPolicy:
        """The same with the preference in the place of each of these rules."""
        changes = {name: _INSTEAD[name] for name in rules}
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def contradiction(self) -> tuple[tuple[str, str], tuple[str, str]] | None:
        """Two fields with values that cannot both be had, None where there are none."""
        for one, other in _CONTRADICTIONS:
            if getattr(self, one[0]) == one[1] and getattr(self, other[0]) == other[1]:
                return one, other
        return None

    def changed(self) -> dict[str, object]:
        """The fields that are not at their default."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


@lru_cache(256)
def _rules_of(policy: PlacementPolicy) -> tuple[str, ...]:
    return tuple([name for name, values in _RULES.items() if getattr(policy, name) in values])


class Wishes(NamedTuple):
    """What one request asks for itself; None leaves it to the operator. `near` is a NUMA node."""

    numa_policy: NumaPolicy | None = None
    cpu_thread_policy: CpuThreadPolicy | None = None
    uncore_cache_alignment: UncoreCacheAlignment | None = None
    near: int | None = None


NO_WISHES: Final = Wishes()


@lru_cache(256)
def with_wishes(policy: PlacementPolicy, wishes: Wishes) -> PlacementPolicy:
    """The operator's policy with a request's wishes in it, as far as the operator allows.

    What the operator only prefers a request may replace. A rule that refuses it may make stricter, never weaker: the
    operator's stays then.

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
