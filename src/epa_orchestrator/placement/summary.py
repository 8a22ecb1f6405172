# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Summary: in which domains the CPUs of a claim are, as numbers for people."""

from __future__ import annotations

from typing import NamedTuple

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.topology import NO_NODE, Topology


class PlacementSummary(NamedTuple):
    """The NUMA nodes of some CPUs, and the numbers of packages, L3 domains, whole and shared cores that they are in.

    `whole_cores` are the service's own with all threads; it shares `shared_cores` with another owner.
    """

    numa_nodes: CpuSet
    packages: int
    l3_domains: int
    whole_cores: int
    shared_cores: int


def summarize(topology: Topology, cpus: CpuSet, own_or_free: CpuSet) -> PlacementSummary:
    """The summary of `cpus`; a core with a thread that is neither one of them nor in `own_or_free` is shared."""
    mask, of_others = cpus.mask, ~(own_or_free | cpus).mask
    cells = [cell for cell in topology.cells if cell.cpus & mask]
    cores = [core for cell in cells for core in cell.cores if core & mask]
    return PlacementSummary(
        numa_nodes=CpuSet(cell.node for cell in cells if cell.node != NO_NODE),
        packages=len({cell.package for cell in cells}),
        l3_domains=len({cell.l3 for cell in cells}),
        whole_cores=sum(1 for core in cores if not core & ~mask),
        shared_cores=sum(1 for core in cores if core & of_others),
    )
