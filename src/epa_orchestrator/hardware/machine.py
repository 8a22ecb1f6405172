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
from typing import Final, Literal

from epa_orchestrator.cpuset import CpuSet, iter_bits, union

#: The kernel's distance of a node to itself, and its default for other nodes where the firmware gives none
#: (LOCAL_DISTANCE and REMOTE_DISTANCE in include/linux/topology.h).
LOCAL_DISTANCE: Final = 10
REMOTE_DISTANCE: Final = 20

CoreType = Literal["performance", "efficiency"]

#: By CPU id: the threads of its core, as a mask (see CpuSet).
Cores = Mapping[int, int]


def with_siblings(mask: int, cores: Cores) -> int:
    """These CPUs with all threads of their cores, as a mask."""
    return mask | union(cores.get(cpu, 0) for cpu in iter_bits(mask))


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

    Packages, cores, L3 domains and L2 clusters hold online CPUs; a node may list offline ones, as the kernel's own
    files may. A CPU can be in no L3 domain (the kernel knows of none), and in no node. An L2 cluster is an L2 cache
    that several cores share, so a machine with one L2 per core has none.
    """

    present: CpuSet
    online: CpuSet
    isolated: CpuSet
    packages: tuple[Package, ...]
    nodes: tuple[NumaNode, ...]
    l3_domains: tuple[CpuSet, ...]
    cores: tuple[Core, ...]
    l2_clusters: tuple[CpuSet, ...] = ()

    @cached_property
    def node_ids(self) -> tuple[int, ...]:
        """The ids of all nodes, ascending."""
        return tuple(node.id for node in self.nodes)

    def node(self, node_id: int) -> NumaNode | None:
        """The node with this id, None when there is none."""
        return next((node for node in self.nodes if node.id == node_id), None)

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
