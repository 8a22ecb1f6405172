# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Summary: in which domains the CPUs of an answer are, as the protocol's model."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.allocation.allocate import Grant
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.topology import NO_NODE, Topology
from epa_orchestrator.protocol.answers import Placement

#: The longest list of withheld CPUs (characters) in an answer, so that the answer fits into one recv(4096).
_LONG: Final = 1024


def of_grant(grant: Grant, free: CpuSet, configured: CpuSet) -> Placement | None:
    """Where the granted CPUs are; None for a release. `free` is free after it, `configured` the CPUs of all pools."""
    task, claim = grant.task, grant.claim
    if task is None or claim is None:
        return None
    withheld = str(claim.withheld & configured)
    own_or_free = free | claim.cpus | claim.withheld
    return summarize(task.topology, grant.cpus, own_or_free, withheld if len(withheld) <= _LONG else None)


def summarize(topology: Topology, cpus: CpuSet, own_or_free: CpuSet, withheld: str | None = None) -> Placement:
    """The summary of `cpus`; a core with a thread that is neither one of them nor in `own_or_free` is shared."""
    mask, of_others = cpus.mask, ~(own_or_free | cpus).mask
    cells = [cell for cell in topology.cells if cell.cpus & mask]
    cores = [core for cell in cells for core in cell.cores if core & mask]
    nodeless = topology.nodes[NO_NODE].cpus & mask if NO_NODE in topology.nodes else 0
    return Placement(
        numa_nodes=nodes_of(topology, cpus),
        packages=len({cell.package for cell in cells}),
        l3_domains=len({cell.l3 for cell in cells}),
        whole_cores=sum([not core & ~mask for core in cores]),
        shared_cores=sum([core & of_others != 0 for core in cores]),
        withheld_cpus=withheld,
        nodeless_cpus=nodeless.bit_count() or None,
    )


def nodes_of(topology: Topology, cpus: CpuSet) -> str:
    """The NUMA nodes of CPUs, as a list of ids."""
    return str(CpuSet([node.id for node in topology.nodes_of(cpus.mask) if node.id != NO_NODE]))
