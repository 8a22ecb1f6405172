# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Last seen: the NUMA node and the core of each CPU, also of one that is offline, for which the kernel shows neither.

Its owner may release such a CPU by node, or have its core to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from epa_orchestrator.cpuset import EMPTY, CpuSet, iter_bits, lowest, union
from epa_orchestrator.hardware.machine import Machine


class LastSeen(NamedTuple):
    """What the kernel has shown about CPUs that are or were online.

    `nodes` are the CPUs of each NUMA node. `cores` are threads that were one core. Cores that overlap are in the order
    of time, last seen first: of two that contradict each other, as after a restart on another machine, the later one
    counts.
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
        joined = _Joined(machine)
        now = [core.cpus for core in machine.cores if len(core.cpus) > 1]
        return LastSeen(nodes, _in_order([*now, *(core for core in self.cores if joined.join(core.mask))]))

    def known_cores(self, machine: Machine | None) -> dict[int, int]:
        """By CPU: the threads of its core, if it has several: those online, and offline ones that were seen with them.

        Offline CPUs join a core over others that are offline too. Without a machine all CPUs count as offline.
        """
        joined = _Joined(machine)
        for core in self.cores:
            joined.join(core.mask)
        return {cpu: core for cpu, number in joined.core_of.items() if (core := joined.cores[number]).bit_count() > 1}


def _in_order(cores: list[CpuSet]) -> tuple[CpuSet, ...]:
    """The cores by CPU if no two overlap, so that a CPU that comes and goes leaves nothing new to store."""
    total = union(core.mask for core in cores)
    overlap = total.bit_count() < sum(map(len, cores))
    return tuple(cores if overlap else sorted(cores, key=lambda core: lowest(core.mask)))


class _Joined:
    """The machine's cores, as masks, and for each CPU the number of its core, while offline threads join them."""

    def __init__(self, machine: Machine | None) -> None:
        self._online = machine.online.mask if machine is not None else 0
        self.cores = [core.cpus.mask for core in machine.cores] if machine is not None else []
        self.core_of = {cpu: number for number, core in enumerate(self.cores) for cpu in iter_bits(core)}

    def join(self, threads: int) -> bool:
        """Let the offline ones of these threads, which were one core, join the core of the others; whether any does.

        None does where the threads are in several cores now, or were seen in several later.
        """
        if len(self._cores_of(threads & self._online)) > 1:
            threads &= ~self._online
        touched = self._cores_of(threads)
        joined = union(self.cores[number] for number in touched) | threads
        if sum([self.cores[number] & self._online != 0 for number in touched]) > 1 or joined.bit_count() < 2:
            return False
        largest = max(touched, key=lambda number: self.cores[number].bit_count(), default=len(self.cores))
        if largest == len(self.cores):
            self.cores.append(0)
        added = joined & ~self.cores[largest]
        self.cores[largest] = joined
        self.core_of.update(dict.fromkeys(iter_bits(added), largest))
        return added != 0

    def _cores_of(self, threads: int) -> set[int]:
        """The numbers of the cores that these threads are in."""
        numbers: set[int] = set()
        while threads:
            cpu = lowest(threads)
            number = self.core_of.get(cpu)
            threads &= ~(1 << cpu) if number is None else ~self.cores[number]
            if number is not None:
                numbers.add(number)
        return numbers
