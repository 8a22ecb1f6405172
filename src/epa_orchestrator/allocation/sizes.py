# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sizes: how many CPUs a request comes to that names no number: the default size, or a percentage of the pool."""

from __future__ import annotations

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.minimum import free_cores, whole_core_sizes
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.topology import Topology


def percent_of(eligible: CpuSet, percent: int) -> int:
    """So many percent of the CPUs, rounded up, and at least one."""
    return max(-(-len(eligible) * percent // 100), 1)


def default_size(
    settings: Settings,
    topology: Topology | None,
    free: CpuSet,
    held: CpuSet,
    policy: PlacementPolicy,
    placed_by: PlacementPolicy | None = None,
) -> int:
    """The default size for a service that may have the `free` CPUs too; never fewer than it holds.

    A repeated request keeps its size although the operator has changed the thread policy since: `placed_by` is the
    policy that placed the claim, None for a new one.
    """
    available = free | held
    if placed_by is not None and len(held) == _size_under(settings, topology, available, placed_by):
        return len(held)
    return max(_size_under(settings, topology, available, policy), len(held))


def _size_under(settings: Settings, topology: Topology | None, available: CpuSet, policy: PlacementPolicy) -> int:
    """The default size, of CPUs that the thread policy can grant."""
    if topology is not None and policy.cpu_thread_policy == "isolate":
        return settings.default_size(free_cores(topology, available.mask))
    size = settings.default_size(len(available))
    if topology is not None and policy.cpu_thread_policy == "require":
        possible = whole_core_sizes(topology, available.mask) & (1 << size + 1) - 1
        return (possible.bit_length() - 1) or size
    return size
