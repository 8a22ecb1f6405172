# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Last seen: the NUMA node and the core of each CPU, also of one that is offline, for which the kernel shows neither.

Its owner may release such a CPU by node, or have its core to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Machine


class LastSeen(NamedTuple):
    """What the kernel has shown about CPUs that are or were online.

    `nodes` are the CPUs of each NUMA node. `cores` are threads that were one core, last seen first; later sight wins
    where two contradict each other, as after a restart on another machine.
    """

    nodes: Mapping[int, CpuSet] = MappingProxyType({})
    cores: tuple[CpuSet, ...] = ()

    def updated(self, machine: Machine) -> LastSeen:
        """The same after a reading of the machine."""
        placed = EMPTY
        for node in machine.nodes:
            placed |= node.cpus
        nodes = {node_id: cpus - placed for node_id, cpus in self.nodes.items()}
        for node in machine.nodes:
            nodes[node.id] = nodes.get(node.id, EMPTY) | node.cpus
        now = [core.cpus for core in machine.cores if len(core.cpus) > 1]
        return LastSeen(nodes, (*now, *_join(self.cores, machine)[1]))

    def known_cores(self, machine: Machine | None) -> dict[int, int]:
        """By CPU: the threads of its core, if it has several: those online, and offline ones that were seen with them.

        Offline CPUs join a core over others that are offline too. Without a machine all CPUs count as offline.
        """
        cores, _ = _join(self.cores, machine)
        return {cpu: core.mask for core in cores for cpu in core if len(core) > 1}


def _join(seen: tuple[CpuSet, ...], machine: Machine | None) -> tuple[list[CpuSet], list[CpuSet]]:
    """The cores of the machine with offline threads that were `seen` in them, and what of `seen` led to that.

    What was seen is forgotten where the threads are in several cores now, directly or by what was seen later.
    """
    online = machine.online if machine is not None else EMPTY
    core_of = {cpu: CpuSet((cpu,)) for threads in (online, *seen) for cpu in threads}
    for core in machine.cores if machine is not None else ():
        core_of.update(dict.fromkeys(core.cpus, core.cpus))
    used: list[CpuSet] = []
    for threads in seen:
        if len({core_of[cpu] & online for cpu in threads & online}) > 1:
            threads -= online
        touched = {core_of[cpu] for cpu in threads}
        if len(touched) < 2 or sum(1 for core in touched if core & online) > 1:
            continue
        used.append(threads)
        joined = EMPTY
        for core in touched:
            joined |= core
        core_of.update(dict.fromkeys(joined, joined))
    return list(set(core_of.values())), used
