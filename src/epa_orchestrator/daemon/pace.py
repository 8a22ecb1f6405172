# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Pace: whether the event loop decides mutations itself, or leaves them to the worker's thread.

Long decisions belong into the worker's thread, but the two threads wait for each other: where a decision takes 0.1 ms,
64 clients get 10 to 15 % fewer changes a second that way (`benchmarks`, 1,024 CPUs). So the event loop decides small
requests that no rule can refuse, as long as decisions on the present pools have been quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.protocol.requests import AllocateCoresPercent, AllocateHugepages, AllocateNumaCores, Mutation

#: A decision is quick if it takes less than this time (seconds).
_QUICK: Final = 0.001
#: The number of quick decisions in a row after which the loop decides.
_ENOUGH_QUICK: Final = 16
#: The largest request (CPUs) that the loop decides.
_SMALL: Final = 32

#: The pool and the NUMA node (None: any) where a request places CPUs; None when it places none.
_Target = tuple[str, int | None] | None


class Pace:
    """Counts the quick decisions on the present pools.

    Each pool and NUMA node has its own count, because placement remembers tables for each: the first placement on 4,096
    CPUs takes 100 ms, however quick releases and hugepage requests have been.
    """

    def __init__(self) -> None:
        self._pools: Pools | None = None
        self._quick_decisions: dict[_Target, int] = {}

    def note(self, pools: Pools, ledger: Ledger, changing: Iterable[Mutation], slowest: float) -> None:
        """Count decisions that led to this ledger. `slowest` is the time of the slowest one (seconds)."""
        quick = slowest < _QUICK and not _are_claims_outside(pools, ledger)
        if pools is not self._pools or not quick:
            self._pools, self._quick_decisions = pools, {}
        if quick:
            for request in changing:
                target = _target_of(request)
                self._quick_decisions[target] = self._quick_decisions.get(target, 0) + 1

    @staticmethod
    def is_quick_enough(slowest: float) -> bool:
        """Whether the loop may go on deciding when the slowest decision so far took this time (seconds)."""
        return slowest < _QUICK

    def is_quick(self, pools: Pools, ledger: Ledger, requests: Iterable[Mutation]) -> bool:
        """Whether the loop may decide these requests on this ledger."""
        if pools is not self._pools or _are_claims_outside(pools, ledger):
            return False
        has_rules = bool(pools.settings.placement.rules)
        return all(
            self._quick_decisions.get(_target_of(request), 0) >= _ENOUGH_QUICK
            and _is_small(request, ledger.claims, has_rules=has_rules)
            for request in requests
        )


def _are_claims_outside(pools: Pools, ledger: Ledger) -> bool:
    """Whether claimed CPUs are offline or in no pool: then each change needs a topology and tables of its own."""
    return bool(ledger.claimed.mask & ~pools.eligible.mask)


def _target_of(request: Mutation) -> _Target:
    if request.is_release or isinstance(request, AllocateHugepages):
        return None
    return request.pool, request.numa_node if isinstance(request, AllocateNumaCores) else None


def _is_small(request: Mutation, claims: Mapping[str, Claim], *, has_rules: bool) -> bool:
    """Whether the request is small, and no rule of the operator can refuse it.

    A service that shrinks keeps the best of all CPUs that it holds, so these must be few too.
    """
    if request.is_release or isinstance(request, AllocateHugepages):
        return True
    if isinstance(request, AllocateCoresPercent) or request.count is None or request.count > _SMALL:
        return False
    wishes = request.numa_policy or request.cpu_thread_policy or request.uncore_cache_alignment or request.near
    if has_rules or request.explain or request.make_room or wishes is not None:
        return False
    claim = claims.get(request.service_name)
    return claim is None or len(claim.cpus) <= _SMALL
