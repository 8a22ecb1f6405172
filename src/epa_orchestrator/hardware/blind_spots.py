# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Blind spots: what this process may not see of the host, in sentences for the operator."""

from __future__ import annotations

from collections.abc import Iterator

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.hugepages import are_hidden
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.nodes import can_list_nodes
from epa_orchestrator.hardware.promised import find_unreadable
from epa_orchestrator.hardware.sysfs import CONNECT_NODE_PLUG, CONNECT_TOPOLOGY_PLUG, NODE_DIR, Sysfs
from epa_orchestrator.units import format_size, named_nodes


def find_blind_spots(sysfs: Sysfs, machine: Machine) -> Iterator[str]:
    """A sentence for everything that is missing in the readings of this machine, with the remedy."""
    if not can_list_nodes(sysfs):
        yield (
            f"The NUMA nodes cannot be listed ({NODE_DIR}) and are found by their CPUs, so nodes that have memory only"
            f" may be missing: {CONNECT_NODE_PLUG}"
        )
    hidden = CpuSet(node_id for node_id in machine.node_ids if are_hidden(sysfs, node_id))
    if hidden:
        nodes = named_nodes(str(hidden))
        yield f"The hugepages of {nodes} cannot be read, so none can be allocated: {CONNECT_NODE_PLUG}"
    unreadable = [format_size(size) for size in find_unreadable(sysfs, machine.node_ids)]
    if unreadable:
        yield (
            f"Hugepages of {', '.join(unreadable)} that the kernel has promised to processes count as free, because"
            f" resv_hugepages in /sys/kernel/mm/hugepages cannot be read: {CONNECT_TOPOLOGY_PLUG}"
        )
