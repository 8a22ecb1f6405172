"""Pace: whether the event loop may decide mutations itself, or leaves them to another thread.

Another thread is right for long decisions, but the two threads wait for each other. Where a decision takes 0.1 ms, 64
clients get 10 to 15 % fewer changes a second that way (`benchmarks`, 1,024 CPUs). So the event loop decides small
requests that no rule can refuse, as long as decisions have been quick on the present pools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.protocol.requests import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Mutation,
)

#: How long (seconds) a decision may take to count as quick.
_QUICK: Final = 0.001
#: How many decisions in a row have to be quick before the loop decides.
_ENOUGH_QUICK: Final = 16
#: The largest request (CPUs) that the loop decides.
_SMALL: Final = 32

_Where = tuple[str, int | None] | None


class Pace:
    """How quick decisions have been on the present pools.

    Each pool and NUMA node has its own count, because tables that placement remembers of one help no other: the first
    placement on 4,096 CPUs takes 100 ms, however quick releases and hugepages have been.
    """

    def __init__(self) -> None:
        self._pools: Pools | None = None
        self._quick_decisions: dict[_Where, int] = {}

    def note(self, pools: Pools, ledger: Ledger, changing: Iterable[Mutation], slowest: float) -> None:
        """Take in some decisions that led to this ledger, and how long the slowest of all took (seconds)."""
        lasting = not _outside(pools, ledger)
        if pools is not self._pools or slowest >= _QUICK or not lasting:
            self._pools, self._quick_decisions = pools, {}
        if slowest < _QUICK and lasting:
            for request in changing:
                where = _where(request)
                self._quick_decisions[where] = self._quick_decisions.get(where, 0) + 1

    @staticmethod
    def is_quick_enough(slowest: float) -> bool:
        """Whether the loop may go on when the slowest decision so far took this time (seconds)."""
        return slowest < _QUICK

    def is_quick(self, pools: Pools, ledger: Ledger, requests: Iterable[Mutation]) -> bool:
        """Whether the loop may decide these on this ledger."""
        if pools is not self._pools or _outside(pools, ledger):
            return False
        rules = bool(pools.settings.placement.rules)
        known, claims = self._quick_decisions, ledger.claims
        return all(known.get(_where(each), 0) >= _ENOUGH_QUICK and _is_easy(each, rules, claims) for each in requests)


def _outside(pools: Pools, ledger: Ledger) -> bool:
    """Whether claimed CPUs are offline or in no pool: each change in them makes a topology and tables of its own."""
    return bool(ledger.claimed.mask & ~pools.eligible.mask)


def _where(request: Mutation) -> _Where:
    """The pool and the node (None for any) that CPUs are placed in; None where none are placed."""
    if isinstance(request, AllocateNumaCores):
        return (request.pool, request.numa_node) if request.num_of_cores > 0 else None
    if isinstance(request, AllocateCores):
        return (request.pool, None) if request.num_of_cores >= 0 else None
    if isinstance(request, AllocateCoresPercent):
        return (request.pool, None) if request.percent > 0 else None
    return None


def _is_easy(request: Mutation, rules: bool, claims: Mapping[str, Claim]) -> bool:
    """Whether the request is a small one that no rule can refuse (`rules`: the operator has set some).

    A claim that shrinks is chosen from all that it holds, so that has to be small, too.
    """
    if isinstance(request, AllocateHugepages):
        return True
    if isinstance(request, AllocateCoresPercent):
        return request.percent <= 0
    if request.num_of_cores < 0:
        return True
    wishes = request.numa_policy or request.cpu_thread_policy or request.uncore_cache_alignment or request.near
    if not 0 < request.num_of_cores <= _SMALL or rules or request.explain or wishes is not None:
        return False
    held = claims.get(request.service_name)
    return held is None or len(held.cpus) <= _SMALL
