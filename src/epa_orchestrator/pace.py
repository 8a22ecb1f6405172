"""Pace: whether mutations are decided so soon that the event loop may do it, or are better left to another thread.

A thread is right for what takes long, but it and the loop wait for each other: 64 clients get 10 to 15 % fewer changes
a second than when the loop decides what takes 0.1 ms (`benchmarks`, 1,024 CPUs). So the loop decides small requests
that no rule can refuse, as long as such ones have been quick on these pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from epa_orchestrator.pools import Pools
from epa_orchestrator.protocol import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Mutation,
)

#: Seconds: what one decision may take on the loop.
_QUICK: Final = 0.001
#: After so many quick decisions in the thread the loop may decide.
_PROBATION: Final = 16
#: The largest request that the loop decides.
_SMALL: Final = 32

_Where = tuple[str, int | None] | None


class Pace:
    """How quick decisions have been on the present pools.

    Counted apart are those that look at different CPUs: what is remembered of one node or pool helps no other, and
    the first placement on 4,096 CPUs takes 100 ms, however quick releases and hugepages have been.
    """

    def __init__(self) -> None:
        self._pools: Pools | None = None
        self._quick_ones: dict[_Where, int] = {}

    def note(self, pools: Pools, changing: Iterable[Mutation], slowest: float) -> None:
        """Take in some decisions that changed something, and how long the slowest of all took (seconds)."""
        if pools is not self._pools or slowest >= _QUICK:
            self._pools, self._quick_ones = pools, {}
        if slowest < _QUICK:
            for request in changing:
                where = _where(request)
                self._quick_ones[where] = self._quick_ones.get(where, 0) + 1

    def is_quick(self, pools: Pools, requests: Iterable[Mutation]) -> bool:
        """Whether the loop may decide these."""
        if pools is not self._pools:
            return False
        rules = bool(pools.settings.placement.rules)
        known = self._quick_ones
        return all(known.get(_where(each), 0) >= _PROBATION and _is_easy(each, rules) for each in requests)


def _where(request: Mutation) -> _Where:
    """The pool and the node (None for any) that CPUs are placed in; None where none are placed."""
    if isinstance(request, AllocateNumaCores):
        return (request.pool, request.numa_node) if request.num_of_cores > 0 else None
    if isinstance(request, AllocateCores):
        return (request.pool, None) if request.num_of_cores >= 0 else None
    if isinstance(request, AllocateCoresPercent):
        return (request.pool, None) if request.percent > 0 else None
    return None


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
