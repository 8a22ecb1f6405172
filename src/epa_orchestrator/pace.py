"""Pace: whether mutations are decided so soon that the event loop may do it, or are better left to another thread.

A thread is right for what takes long, but it and the loop wait for each other: 64 clients get 10 to 15 % fewer changes
a second than when the loop decides what takes 0.1 ms (`benchmarks`, 1,024 CPUs). So the loop decides small requests
that no rule can refuse, as long as such ones have been quick on these pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from epa_orchestrator.pools import Pools
from epa_orchestrator.protocol import AllocateCoresPercent, AllocateHugepages, Mutation

#: Seconds: what one decision may take on the loop.
_QUICK: Final = 0.001
#: After so many quick decisions in the thread the loop may decide.
_PROBATION: Final = 16
#: The largest request that the loop decides.
_SMALL: Final = 32


class Pace:
    """How quick decisions have been on the present pools."""

    def __init__(self) -> None:
        self._pools: Pools | None = None
        self._quick_ones = 0

    def note(self, pools: Pools, decisions: int, slowest: float) -> None:
        """Take in how long the slowest of some decisions took (seconds)."""
        if pools is not self._pools:
            self._pools, self._quick_ones = pools, 0
        self._quick_ones = self._quick_ones + decisions if slowest < _QUICK else 0

    def is_quick(self, pools: Pools, requests: Iterable[Mutation]) -> bool:
        """Whether the loop may decide these."""
        if pools is not self._pools or self._quick_ones < _PROBATION:
            return False
        rules = bool(pools.settings.placement.rules)
        return all(_is_easy(request, rules) for request in requests)


def _is_easy(request: Mutation, rules: bool) -> bool:
    """Whether the request is a small one that no rule can refuse (`rules`: the operator has set some)."""
    if isinstance(request, AllocateHugepages):
        return True
    if isinstance(request, AllocateCoresPercent):
        return request.percent <= 0
    if request.num_of_cores < 0:
        return True
    wishes = request.numa_policy or request.cpu_thread_policy or request.uncore_cache_alignment or request.near
    return 0 < request.num_of_cores <= _SMALL and not (rules or request.explain) and wishes is None
