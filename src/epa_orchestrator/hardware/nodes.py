# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Nodes: finds the NUMA nodes, also where this process may read their files but not list their directory.

A strictly confined snap without plugs is in that position; it cannot read the kernel's list of nodes either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet, lowest, union
from epa_orchestrator.hardware.cpu_files import CPU_DIR, MachineError, numbers, read_cpus, read_whole
from epa_orchestrator.hardware.machine import NumaNode
from epa_orchestrator.hardware.sysfs import MOST_DIGITS, NODE_DIR, Sysfs, is_number

NODE_LIST: Final = f"{NODE_DIR}/online"

#: The kernel has no more nodes than this (MAX_NUMNODES: CONFIG_NODES_SHIFT is 10 at most).
MOST_NODES: Final = 1024

_MEM_TOTAL: Final = re.compile(rf"MemTotal:\s+([0-9]{{1,{MOST_DIGITS}}}) kB")


def read_nodes(sysfs: Sysfs, present: CpuSet, online: CpuSet) -> tuple[NumaNode, ...]:
    """The NUMA nodes by id. A kernel without NUMA has one, node 0, with all present CPUs.

    Raises MachineError when the list of nodes, or that of a node's CPUs, is cut short.
    """
    ids = _ids(sysfs)
    cpus = {node_id: node_cpus(sysfs, node_id) for node_id in (_tried_ids(sysfs) if ids is None else ids)}
    if not cpus and _has_no_numa(sysfs, online):
        return (NumaNode(0, present),)
    if not ids or None in cpus.values():
        cpus |= _by_cpu(sysfs, online, {node_id: known or EMPTY for node_id, known in cpus.items()})
    return tuple(_node(sysfs, node_id, cpus[node_id] or EMPTY) for node_id in sorted(cpus))


def can_list_nodes(sysfs: Sysfs) -> bool:
    """Whether this process sees all nodes, or that there are none."""
    return sysfs.names(NODE_DIR) is not None or sysfs.read(NODE_LIST) is not None


def node_cpus(sysfs: Sysfs, node_id: int) -> CpuSet | None:
    """The node's CPUs by list, mask, or the links in its directory, which offline CPUs keep; None if none can be read.

    Raises MachineError when the list is cut short: a mask cannot stand in, as each request compares only the lists.
    """
    node = f"{NODE_DIR}/node{node_id}"
    read_whole(sysfs, f"{node}/cpulist")
    cpus = read_cpus(sysfs, f"{node}/cpulist", f"{node}/cpumap")
    if cpus is not None:
        return cpus
    names = sysfs.names(node)
    return None if names is None else CpuSet(numbers(names, "cpu"))


def _ids(sysfs: Sysfs) -> list[int] | None:
    """The ids that the kernel shows; None where neither its list nor the directory can be read."""
    names, listed = sysfs.names(NODE_DIR), _node_list(sysfs)
    if names is None:
        return None if listed is None else list(listed)
    ids = numbers(names, "node")
    return ids if listed is None else [node_id for node_id in ids if node_id in listed]


def _node_list(sysfs: Sysfs) -> CpuSet | None:
    """The ids in the list of online nodes, None where it cannot be read."""
    text = read_whole(sysfs, NODE_LIST)
    try:
        return None if text is None else CpuSet.parse(text)
    except ValueError as error:
        raise MachineError(f"sysfs {NODE_LIST} is not a list of nodes: {error}") from None


def _tried_ids(sysfs: Sysfs) -> list[int]:
    """The ids of all nodes whose directory is there, found by trying each number."""
    return [node_id for node_id in range(MOST_NODES) if sysfs.exists(f"{NODE_DIR}/node{node_id}")]


def _has_no_numa(sysfs: Sysfs, online: CpuSet) -> bool:
    """Whether the kernel knows no nodes at all, and not only this process."""
    return sysfs.exists(NODE_DIR) is False and _node_of_cpu(sysfs, lowest(online.mask), ()) is None


def _by_cpu(sysfs: Sysfs, online: CpuSet, nodes: dict[int, CpuSet]) -> dict[int, CpuSet]:
    """`nodes` with the online CPUs that are in none of them, and with the nodes that only these CPUs lead to."""
    left = online.mask & ~union(cpus.mask for cpus in nodes.values())
    while left:
        cpu = lowest(left)
        left &= ~(1 << cpu)
        node_id = _node_of_cpu(sysfs, cpu, nodes)
        if node_id is not None:
            known = nodes[node_id] if node_id in nodes else node_cpus(sysfs, node_id) or EMPTY
            nodes[node_id] = known | CpuSet((cpu,))
            left &= ~known.mask
    return nodes


def _node_of_cpu(sysfs: Sysfs, cpu: int, likely: Iterable[int]) -> int | None:
    """The node whose directory the CPU's own one links to; None for a CPU in no node."""
    directory = f"{CPU_DIR}/cpu{cpu}"
    names = sysfs.names(directory)
    if names is not None:
        return next(iter(numbers(names, "node")), None)
    ids = (*likely, *range(MOST_NODES))
    return next((node_id for node_id in ids if sysfs.exists(f"{directory}/node{node_id}")), None)


def _node(sysfs: Sysfs, node_id: int, cpus: CpuSet) -> NumaNode:
    directory = f"{NODE_DIR}/node{node_id}"
    return NumaNode(
        id=node_id,
        cpus=cpus,
        distances=_distances(sysfs.read(f"{directory}/distance")),
        memory_kb=_memory_kb(sysfs.read(f"{directory}/meminfo")),
    )


def _distances(text: str | None) -> tuple[int, ...]:
    words = (text or "").split()
    return tuple(int(word) for word in words) if all(map(is_number, words)) else ()


def _memory_kb(meminfo: str | None) -> int | None:
    match = _MEM_TOTAL.search(meminfo or "")
    return int(match[1]) if match else None
