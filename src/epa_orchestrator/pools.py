"""Pools: which CPUs may be granted, for the machine as it is and the operator's settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.domains import Topology, topology
from epa_orchestrator.machine import Machine
from epa_orchestrator.settings import Settings

PoolName = Literal["isolated", "general"]

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
    """Both pools of a machine. `general` is None when the operator configured none."""

    machine: Machine | None
    settings: Settings
    isolated: Pool
    general: Pool | None

    def get(self, name: PoolName) -> Pool | None:
        """The pool of this name, None for an unconfigured one."""
        return self.isolated if name == "isolated" else self.general

    @cached_property
    def eligible(self) -> CpuSet:
        """All CPUs that some pool may grant."""
        return self.isolated.eligible | (self.general.eligible if self.general else EMPTY)

    @cached_property
    def topologies(self) -> dict[str, Topology]:
        """The topology of each pool that has eligible CPUs."""
        pools = [pool for pool in (self.isolated, self.general) if pool and pool.eligible]
        if self.machine is None:
            return {}
        # A thread that the other pool may grant is somebody else's, as a reserved one is.
        beside = self.eligible | self.settings.reserved_cpus
        return {pool.name: topology(self.machine, pool.eligible, beside - pool.eligible) for pool in pools}


def build_pools(machine: Machine | None, problem: str | None, settings: Settings) -> Pools:
    """The pools of a machine; of no machine (its sysfs cannot be read, `problem` says why) empty ones."""
    if machine is None:
        isolated = Pool("isolated", "isolated", EMPTY, EMPTY, problem)
        configured = settings.cpu_pool - settings.reserved_cpus
        general = Pool("general", "configured", configured, EMPTY, problem) if settings.cpu_pool else None
        return Pools(None, settings, isolated, general)
    kernel = machine.isolated - settings.reserved_cpus
    isolated = Pool("isolated", "isolated", kernel, kernel & machine.online, None if kernel else NO_ISOLATED_CPUS)
    return Pools(machine, settings, isolated, _general(machine, settings))


def _general(machine: Machine, settings: Settings) -> Pool | None:
    if not settings.cpu_pool:
        return None
    configured = settings.cpu_pool - settings.reserved_cpus
    if both := configured & machine.isolated:
        problem = f"{NO_GENERAL_CPUS}: cpu-pool overlaps the isolated CPUs {both}; take them out of cpu-pool"
        return Pool("general", "configured", configured, EMPTY, problem)
    eligible = configured & machine.online
    return Pool("general", "configured", configured, eligible, None if eligible else NO_GENERAL_CPUS)
