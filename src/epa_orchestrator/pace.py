"""Pace: whether the event loop may decide mutations itself, or leaves them to another thread.

Another thread is right for long decisions, but the two threads wait for each other. Where a decision takes 0.1 ms, 64
clients get 10 to 15 % fewer changes a second that way (`benchmarks`, 1,024 CPUs). So the event loop decides small
requests that no rule can refuse, as long as decisions have been quick on the present pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from epa_orchestrator.pools import Pools
from epa_orchestrator.protocol import AllocateCoresPercent, AllocateHugepages, Mutation

#: How long (seconds) a decision may take to count as quick.
_QUICK: Final = 0.001
#: How many decisions in a row have to be quick before the loop decides.
_ENOUGH_QUICK: Final = 16
#: The largest request (CPUs) that the loop decides.
_SMALL: Final = 32


class Pace:
    """How quick decisions have been on the present pools."""

    def __init__(self) -> None:
        self._pools: Pools | None = None
        self._quick_decisions = 0

    def note(self, pools: Pools, decisions: int, slowest: float) -> None:
        """Record some decisions on these pools, and how long the slowest of them took (seconds)."""
        if pools is not self._pools:
            self._pools, self._quick_decisions = pools, 0
        self._quick_decisions = self._quick_decisions + decisions if slowest < _QUICK else 0

    def is_quick(self, pools: Pools, requests: Iterable[Mutation]) -> bool:
        """Whether the loop may decide these requests."""
        if pools is not self._pools or self._quick_decisions < _ENOUGH_QUICK:
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
