# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Machine checks: what makes an answer to get_machine one that no daemon gives, or too large to be shown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.protocol.machine import MachineAnswer

#: The most CPUs and the most NUMA nodes: Linux has at most 8,192 and 1,024. A view takes time and memory for each.
_MAX_CPUS: Final = 16_384
_MAX_NODES: Final = 1024
#: The most CPUs of all NUMA nodes together: on some machines every node lists every CPU.
_MAX_CPUS_IN_NODES: Final = 8 * _MAX_CPUS


def find_mistake(answer: MachineAnswer) -> str | None:
    """What is wrong with the machine, None if nothing is. The CPU lists are valid ones."""
    machine = answer.machine
    if len(machine.nodes) > _MAX_NODES:
        return f"the machine has {len(machine.nodes)} NUMA nodes"
    if len(CpuSet.parse(machine.present)) > _MAX_CPUS:
        return f"the machine has more than {_MAX_CPUS} CPUs"
    in_nodes = sum([len(CpuSet.parse(node.cpus)) for node in machine.nodes])
    if in_nodes > _MAX_CPUS_IN_NODES:
        return f"the NUMA nodes have {in_nodes} CPUs"
    parts = {
        "cores": [core.cpus for core in machine.cores],
        "packages": [package.cpus for package in machine.packages],
        "l3_domains": machine.l3_domains,
        "l2_clusters": machine.l2_clusters,
        "states": answer.states.values(),
    }
    return next((mistake for name, sets in parts.items() if (mistake := _mistake_in(name, sets))), None)


def _mistake_in(name: str, sets: Collection[str]) -> str | None:
    """What is wrong with sets of CPUs that have to be disjoint."""
    if len(sets) > _MAX_CPUS:
        return f"{name} has {len(sets)} entries"
    seen = 0
    for text in sets:
        mask = CpuSet.parse(text).mask
        if seen & mask:
            return f"{name} has a CPU twice"
        seen |= mask
    return f"{name} has more than {_MAX_CPUS} CPUs" if seen.bit_count() > _MAX_CPUS else None
