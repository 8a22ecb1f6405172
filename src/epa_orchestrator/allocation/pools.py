"""Pools: which CPUs may be granted, for the machine as it is and the operator's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Cores, Machine
from epa_orchestrator.names import PoolName
from epa_orchestrator.placement.topology import Topology, build_topology

#: How many topologies are kept of hosts on which claimed CPUs are offline.
_MAX_TOPOLOGIES: Final = 16

#: What shipped hypervisors look for, to know that this host has no CPU pinning.
NO_ISOLATED_CPUS = "No CPUs available: No Isolated CPUs configured"
NO_GENERAL_CPUS = "No CPUs available in pool general"


@dataclass(frozen=True)
class Pool:
    """A named set of CPUs: `configured` as the operator or the kernel says, `eligible` those of it that are online.

    `problem` is a sentence when nothing can be granted from the pool at all.
    """

    name: PoolName
    source: Literal["isolated", "configured"]
    configured: CpuSet
    eligible: CpuSet
    problem: str | None = None


@dataclass(frozen=True)
class Pools:
    """Both pools of a machine. `general` is None when the operator configured none.

    `cores` has the threads of each core that has several, including those that are offline or in no pool.
    """

    machine: Machine | None
    settings: Settings
    isolated: Pool
    general: Pool | None
    cores: Cores = field(default_factory=dict[int, int])
    _around_claims: dict[tuple[str, int], Topology] = field(default_factory=dict[tuple[str, int], Topology])

    def get(self, name: PoolName) -> Pool | None:
        """The pool of this name, None for an unconfigured one."""
        return self.isolated if name == "isolated" else self.general

    @cached_property
    def eligible(self) -> CpuSet:
        """All CPUs that some pool may grant."""
        return self.isolated.eligible | (self.general.eligible if self.general else EMPTY)

    @cached_property
    def granted(self) -> CpuSet:
        """All CPUs that some pool is made of, offline ones too."""
        return self.isolated.configured | (self.general.configured if self.general else EMPTY)

    @cached_property
    def topologies(self) -> dict[str, Topology]:
        """The topology of each pool that has eligible CPUs."""
        pools = [pool for pool in (self.isolated, self.general) if pool and pool.eligible]
        return {pool.name: self._topology(pool, EMPTY) for pool in pools} if self.machine else {}

    def topology(self, pool: Pool, others: CpuSet) -> Topology:
        """The topology of a pool that has eligible CPUs, for a service next to others that hold these CPUs.

        A claimed CPU that is offline or has left every pool still makes its core a shared one.
        """
        outside = others - self.eligible
        if not outside:
            return self.topologies[pool.name]
        key = pool.name, outside.mask
        known = self._around_claims.get(key)
        if known is None:
            known = self._topology(pool, outside)
            if len(self._around_claims) >= _MAX_TOPOLOGIES:
                self._around_claims.clear()
            self._around_claims[key] = known
        return known

    def _topology(self, pool: Pool, outside: CpuSet) -> Topology:
        assert self.machine is not None
        # A thread that the other pool may grant counts as another owner's, as a reserved one does.
        others = self.eligible | self.settings.reserved_cpus | outside
        return build_topology(self.machine, pool.eligible, others - pool.eligible, self.cores)


def build_pools(machine: Machine | None, problem: str | None, settings: Settings, cores: Cores | None = None) -> Pools:
    """The pools of a machine; empty ones when the machine cannot be read (`problem` says why).

    `cores` may include threads that are offline now; without it only online ones count.
    """
    known = cores if cores is not None else machine.known_cores() if machine else {}
    if machine is None:
        isolated = Pool("isolated", "isolated", EMPTY, EMPTY, problem)
        configured = settings.cpu_pool - settings.reserved_cpus
        general = Pool("general", "configured", configured, EMPTY, problem) if settings.cpu_pool else None
        return Pools(None, settings, isolated, general, known)
    kernel = machine.isolated - settings.reserved_cpus
    isolated = Pool("isolated", "isolated", kernel, kernel & machine.online, None if kernel else NO_ISOLATED_CPUS)
    return Pools(machine, settings, isolated, _general(machine, settings), known)


def _general(machine: Machine, settings: Settings) -> Pool | None:
    if not settings.cpu_pool:
        return None
    configured = settings.cpu_pool - settings.reserved_cpus
    if both := configured & machine.isolated:
        problem = f"{NO_GENERAL_CPUS}: cpu-pool overlaps the isolated CPUs {both}; take them out of cpu-pool"
        return Pool("general", "configured", configured, EMPTY, problem)
    eligible = configured & machine.online
    return Pool("general", "configured", configured, eligible, None if eligible else NO_GENERAL_CPUS)
