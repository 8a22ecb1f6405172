# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claims: what a service owns, and the changes of it that a request makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import DEFAULT_POLICY, NO_WISHES, PlacementPolicy, Wishes

#: A NUMA node id and a hugepage size in KiB.
PageKind = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """The CPUs that one service owns in one pool.

    `alone` are the CPUs that have their core to themselves. `withheld` are the other threads of these cores, which no
    other service may have; the ledger derives them. `placed_by` is the placement policy that chose the CPUs, `wishes`
    are those of the request.
    """

    service: str
    pool: PoolName
    cpus: CpuSet
    explicit: CpuSet
    preemption_policy: PreemptionPolicy
    withheld: CpuSet = EMPTY
    placed_by: PlacementPolicy = DEFAULT_POLICY
    wishes: Wishes = NO_WISHES
    alone: CpuSet = EMPTY

    def without(self, cpus: CpuSet) -> Claim | None:
        """The claim after losing some CPUs: itself when it has none of them, None when none are left."""
        if not self.cpus & cpus:
            return self
        left = self.cpus - cpus
        if not left:
            return None
        withheld = EMPTY if self.alone else self.withheld
        return replace(self, cpus=left, explicit=self.explicit - cpus, alone=self.alone - cpus, withheld=withheld)


class ClaimChange(NamedTuple):
    """One service's claim before and after; None for no claim."""

    before: Claim | None
    after: Claim | None

    @property
    def service(self) -> str:
        """The service whose claim changes."""
        claim = self.after or self.before
        assert claim is not None
        return claim.service


class PagesChange(NamedTuple):
    """One service's hugepage count for a node and size before and after; 0 for no record."""

    service: str
    kind: PageKind
    before: int
    after: int


class Change(NamedTuple):
    """What a granted request changes; empty when everything was already as requested."""

    claims: tuple[ClaimChange, ...] = ()
    pages: PagesChange | None = None

    def __bool__(self) -> bool:
        return bool(self.claims) or self.pages is not None
