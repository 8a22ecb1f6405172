# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task: one request to place, with everything that decides which CPUs it gets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.cost import Cost, Levels, cost, levels_on, rank
from epa_orchestrator.placement.policy import DEFAULT_POLICY, PlacementPolicy
from epa_orchestrator.placement.topology import Topology


@dataclass(frozen=True)
class Task:
    """A request to place: `count` CPUs in all for a service that holds `own` while `free` is free.

    `reclaimable` are CPUs of `free` that would have to be taken from other services; `sparing` allows it only when the
    rest of `free` does not suffice. `node` is the id of the only NUMA node that the CPUs are in, when the request names
    one. `around` are CPUs in other nodes that are free or the service's own: these cannot be chosen, but a core that
    has them is not shared with another owner for that.
    """

    topology: Topology
    free: CpuSet
    own: CpuSet
    count: int
    policy: PlacementPolicy = DEFAULT_POLICY
    reclaimable: CpuSet = EMPTY
    node: int | None = None
    sparing: bool = True
    around: CpuSet = EMPTY

    def __post_init__(self) -> None:
        if not 0 <= self.count <= len(self.free) + len(self.own):
            raise ValueError(f"{self.count} CPUs cannot come out of {len(self.free)} free and {len(self.own)} own ones")

    @cached_property
    def shrinking(self) -> bool:
        """Whether the service gives up CPUs, so that the choice is among its own."""
        return self.count < len(self.own)

    @cached_property
    def levels(self) -> Levels:
        """The levels by which candidates are compared."""
        return levels_on(self.topology, self.policy, shrinking=self.shrinking, sparing=self.sparing)

    def cost(self, chosen: CpuSet) -> Cost:
        """The cost vector of a candidate."""
        free, own = (self.free | self.own, EMPTY) if self.shrinking else (self.free, self.own)
        masks = free.mask, own.mask, chosen.mask
        return cost(self.topology, *masks, self.policy, self.reclaimable.mask, self.around.mask)

    def rank(self, chosen: CpuSet) -> tuple[int, ...]:
        """The compared levels of the cost vector: of two candidates the one with the smaller rank is better."""
        return rank(self.cost(chosen), self.levels)
