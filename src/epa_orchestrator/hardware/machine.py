# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Machine: a host's packages, NUMA nodes, L3 domains, cores and threads, each as a set of CPUs.

Nothing is derived from ids: real machines have gaps in them, interleave them over nodes, and number L3 caches in an
order of their own. `discovery` reads a machine from the kernel's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from epa_orchestrator.cpuset import CpuSet, lowest, union

#: The kernel's distance of a node to itself, and its default for other nodes where the firmware gives none
#: (LOCAL_DISTANCE and REMOTE_DISTANCE in include/linux/topology.h).
LOCAL_DISTANCE: Final = 10
REMOTE_DISTANCE: Final = 20

CoreType = Literal["performance", "efficiency"]

#: By CPU id: the threads of its core, as a mask (see CpuSet).
Cores = Mapping[int, int]


class LastSeen(NamedTuple):
    """Where each CPU was last seen: the CPUs of NUMA nodes, and of cores with several threads.

    The kernel shows neither for an offline CPU, but its owner may release it by node, or have its core to itself.
    """

    nodes: Mapping[int, CpuSet] = MappingProxyType({})
    cores: Cores = MappingProxyType({})


@dataclass(frozen=True)
class Package:
    """A physical package: its name, and its online CPUs."""

    id: str
    cpus: CpuSet


@dataclass(frozen=True)
class NumaNode:
    """A NUMA node; `cpus` is empty for a node that has memory only.

    `distances` is the node's row as the kernel prints it; `Machine.distance` interprets it. `memory_kb` is None where
    the kernel does not report it. It may change at any time, and no decision depends on it, so it does not count in
    comparisons.
    """

    id: int
    cpus: CpuSet
    distances: tuple[int, ...] = ()
    memory_kb: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Core:
    """A physical core: its online threads, and its type on a machine with cores of two types (else None)."""

    cpus: CpuSet
    type: CoreType | None = None


@dataclass(frozen=True)
class Machine:
    """The host's CPUs and the domains that they are in.

    Packages, cores and L3 domains hold online CPUs; a node may list offline ones, as the kernel's own files may. A CPU
    can be in no L3 domain (the kernel knows of none), and in no node.
    """

    present: CpuSet
    online: CpuSet
    isolated: CpuSet
    packages: tuple[Package, ...]
    nodes: tuple[NumaNode, ...]
    l3_domains: tuple[CpuSet, ...]
    cores: tuple[Core, ...]

    @cached_property
    def node_ids(self) -> tuple[int, ...]:
        """The ids of all nodes, ascending."""
        return tuple(node.id for node in self.nodes)

    def node(self, node_id: int) -> NumaNode | None:
        """The node with this id, None when there is none."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def known_cores(self, before: Cores | None = None) -> dict[int, int]:
        """The threads of each core that has several, with the now offline ones that were in it `before`.

        The kernel shows no core for an offline CPU. A core of `before` is forgotten when its online threads are in
        several cores now, as after a restart on another machine.
        """
        online = self.online.mask
        core_of = {cpu: core.cpus.mask for core in self.cores for cpu in core.cpus}

        def is_still_one_core(threads: int) -> bool:
            online_threads = threads & online
            core = core_of.get(lowest(online_threads), online_threads)
            return not online_threads & ~core

        kept = {cpu: threads for cpu, threads in (before or {}).items() if is_still_one_core(threads)}
        cores = {cpu: threads & ~online for cpu, threads in kept.items() if cpu not in self.online}
        for core in self.cores:
            offline_threads = union(kept.get(cpu, 0) for cpu in core.cpus) & ~online
            threads = core.cpus.mask | offline_threads
            cores.update((cpu, threads) for cpu in CpuSet.from_mask(threads))
        return {cpu: threads for cpu, threads in cores.items() if threads.bit_count() > 1}

    def distance(self, node_id: int, other_id: int) -> int:
        """The distance between two nodes; 10 means the same node.

        The kernel prints a node's row in the order of the online nodes. A row of another length cannot be interpreted
        and counts as the kernel's defaults.
        """
        ids = self.node_ids
        node = self.node(node_id)
        if node is not None and len(node.distances) == len(ids) and other_id in ids:
            return node.distances[ids.index(other_id)]
        return LOCAL_DISTANCE if node_id == other_id else REMOTE_DISTANCE
