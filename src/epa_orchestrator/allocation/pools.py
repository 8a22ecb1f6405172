# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Pools: which CPUs may be granted, for the machine as it is and the operator's settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal, NamedTuple

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.machine import Cores, Machine
from epa_orchestrator.names import PoolName
from epa_orchestrator.placement.topology import Outside, Topology, build_topology
from epa_orchestrator.units import cpus_are

#: How many topologies a pool keeps, of hosts on which claimed CPUs are offline.
_MAX_TOPOLOGIES: Final = 16

#: Shipped hypervisors search for the second half of this sentence: the host has no CPU pinning.
NO_ISOLATED_CPUS: Final = "No CPUs available: No Isolated CPUs configured"
NO_GENERAL_CPUS: Final = "No CPUs available in pool general"
#: What it means for openstack-hypervisor, which sends `num_of_cores: 0`, when no CPU is left.
NOTHING_TO_SHARE: Final = "shared_cpus is then empty, and openstack-hypervisor pins no guests"


class NodeCpus(NamedTuple):
    """A NUMA node's id and its CPUs, including those that were last seen there and are offline."""

    id: int
    cpus: CpuSet


@dataclass(frozen=True)
class Pool:
    """A named set of CPUs, and what a decision about them depends on.

    `configured` are the CPUs that the operator or the kernel names, `eligible` those of them that are online. `problem`
    is a sentence when nothing can be granted from the pool at all. `system` are the CPUs that the operating system runs
    on: online ones that are neither in a pool nor reserved. `neighbours` are all CPUs outside of the pool that others
    may run on: these, reserved ones, and those that the other pool may grant. `cores` has the threads of each core that
    has several, including those that are offline or in no pool.
    """

    name: PoolName
    source: Literal["isolated", "configured"]
    configured: CpuSet
    eligible: CpuSet
    problem: str | None
    settings: Settings
    machine: Machine | None
    cores: Cores
    neighbours: CpuSet = EMPTY
    system: CpuSet = EMPTY
    _around_claims: dict[int, Topology] = field(default_factory=dict[int, Topology], init=False, compare=False)

    @cached_property
    def _topology(self) -> Topology:
        return self._build_topology(EMPTY)

    def topology(self, claimed: CpuSet = EMPTY) -> Topology:
        """The topology of a pool that has eligible CPUs, for a service while other services hold the `claimed` CPUs.

        A claimed CPU that is offline, or has left every pool, still makes its core a shared one.
        """
        outside = claimed - self.eligible - self.neighbours
        if not outside:
            return self._topology
        known = self._around_claims.get(outside.mask)
        if known is None:
            known = self._build_topology(outside)
            if len(self._around_claims) >= _MAX_TOPOLOGIES:
                self._around_claims.clear()
            self._around_claims[outside.mask] = known
        return known

    def _build_topology(self, outside: CpuSet) -> Topology:
        assert self.machine is not None
        reserved = self.settings.reserved_cpus
        not_free = Outside(self.system, reserved, self.neighbours - self.system - reserved)
        return build_topology(self.machine, self.eligible, self.neighbours | outside, self.cores, not_free)


@dataclass(frozen=True)
class Pools:
    """Both pools of a machine. `general` is None when the operator configured none.

    `unconfigured` stands for the general pool while it is not configured: claims in it can be listed and released.
    """

    isolated: Pool
    general: Pool | None
    unconfigured: Pool

    @property
    def machine(self) -> Machine | None:
        """The machine; None when it cannot be read."""
        return self.isolated.machine

    @property
    def settings(self) -> Settings:
        """The operator's settings."""
        return self.isolated.settings

    @property
    def cores(self) -> Cores:
        """The threads of each core that has several."""
        return self.isolated.cores

    @property
    def existing(self) -> tuple[Pool, ...]:
        """The pools that there are: without a general one that is not configured."""
        return (self.isolated,) if self.general is None else (self.isolated, self.general)

    def get(self, name: PoolName) -> Pool | None:
        """The pool of this name, None for an unconfigured one."""
        return self.isolated if name == "isolated" else self.general

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about unusable options, and about options that do not fit the machine or the clients."""
        found = [*self.settings.warnings, self._default_size_warning]
        general, machine = self.general, self.machine
        if general is not None and machine is not None:
            # The warnings of the settings name unusable options already.
            if self.settings.unusable.keys().isdisjoint(("cpu-pool", "reserved-cpus")):
                found.append(self._general_warning(general))
            if gone := general.configured - machine.present:
                found.append(f"cpu-pool names CPUs {gone}, which this machine does not have: remove them from cpu-pool")
        return tuple([warning for warning in found if warning is not None])

    def _general_warning(self, general: Pool) -> str | None:
        """Why the general pool grants nothing, with the CPUs and what to do. CPUs that do not exist are named apart."""
        if general.problem != NO_GENERAL_CPUS or self.machine is None:
            return general.problem
        offline = (general.configured & self.machine.present) - self.machine.online
        reserved = self.settings.cpu_pool & self.settings.reserved_cpus
        reasons = [f"{cpus_are(str(offline))} offline (bring them online)"] if offline else []
        reasons += [f"{cpus_are(str(reserved))} reserved (take them out of reserved-cpus)"] if reserved else []
        return f"{NO_GENERAL_CPUS}: {' and '.join(reasons)}; or name others in cpu-pool" if reasons else None

    @property
    def _default_size_warning(self) -> str | None:
        """The warning that a request for the default size leaves no CPU to share."""
        settings = self.settings
        is_large = len(self.isolated.configured) > settings.large_system_threshold
        if settings.default_allocation_percent == 100:
            option = "default-allocation-percent=100"
        elif settings.large_system_reserved_cpus == 0 and is_large:
            option = "large-system-reserved-cpus=0"
        else:
            return None
        return f"{option} grants every free CPU to a service that asks for the default size: {NOTHING_TO_SHARE}"

    @cached_property
    def eligible(self) -> CpuSet:
        """All CPUs that some pool may grant."""
        return self.isolated.eligible | (self.general.eligible if self.general else EMPTY)

    @cached_property
    def configured(self) -> CpuSet:
        """All CPUs of the pools, offline ones too."""
        return self.isolated.configured | (self.general.configured if self.general else EMPTY)


def build_pools(machine: Machine | None, problem: str | None, settings: Settings, cores: Cores | None = None) -> Pools:
    """The pools of a machine; empty ones when the machine cannot be read (`problem` says why).

    `cores` may include threads that are offline now; without it only online ones count.
    """
    known = cores if cores is not None else LastSeen().known_cores(machine)
    isolated = _isolated(machine, problem, settings, known)
    general = _general(machine, problem, settings, known)
    unconfigured = replace(
        isolated,
        name="general",
        source="configured",
        configured=EMPTY,
        eligible=EMPTY,
        problem=f"{NO_GENERAL_CPUS}: cpu-pool is not configured",
    )
    if general is None:
        return Pools(_next_to(isolated, EMPTY), None, unconfigured)
    return Pools(_next_to(isolated, general.eligible), _next_to(general, isolated.eligible), unconfigured)


def _next_to(pool: Pool, other: CpuSet) -> Pool:
    """The pool next to another one with these eligible CPUs."""
    others = (other | pool.settings.reserved_cpus) - pool.eligible
    system = pool.machine.online - pool.eligible - others if pool.machine else EMPTY
    return replace(pool, neighbours=others | system, system=system)


def _isolated(machine: Machine | None, problem: str | None, settings: Settings, cores: Cores) -> Pool:
    if machine is None:
        return Pool("isolated", "isolated", EMPTY, EMPTY, problem, settings, machine, cores)
    configured = machine.isolated - settings.reserved_cpus
    unknown_source = _unknown_source(settings)
    unknown = _unknown_reservation(settings) or unknown_source
    eligible = EMPTY if unknown else configured & machine.online
    problem = unknown if configured or unknown_source else NO_ISOLATED_CPUS
    return Pool("isolated", "isolated", configured, eligible, problem, settings, machine, cores)


def _general(machine: Machine | None, problem: str | None, settings: Settings, cores: Cores) -> Pool | None:
    unusable = settings.unusable.get("cpu-pool")
    if not settings.cpu_pool and unusable is None:
        return None
    configured = settings.cpu_pool - settings.reserved_cpus
    unknown = f"{NO_GENERAL_CPUS}: {unusable}" if unusable else _unknown_reservation(settings)
    overlap = configured & machine.isolated if machine else EMPTY
    eligible = configured & machine.online if machine and not overlap and not unknown else EMPTY
    if unknown:
        problem = unknown
    elif overlap:
        problem = f"{NO_GENERAL_CPUS}: cpu-pool overlaps the isolated CPUs {overlap}; take them out of cpu-pool"
    elif machine:
        problem = None if eligible else NO_GENERAL_CPUS
    return Pool("general", "configured", configured, eligible, problem, settings, machine, cores)


def _unknown_reservation(settings: Settings) -> str | None:
    """Why no pool grants CPUs while it is not known which ones are reserved; None when that is known."""
    reason = settings.unusable.get("reserved-cpus")
    return f"No CPUs can be granted, because the reserved ones are not known: {reason}" if reason else None


def _unknown_source(settings: Settings) -> str | None:
    """Why the pool `isolated` grants no CPUs while it is not known which file has them; None when that is known."""
    reason = settings.unusable.get("isolated-cpus-from")
    return (
        f"No CPUs of pool isolated can be granted, because it is not known which ones they are: {reason}"
        if reason
        else None
    )
