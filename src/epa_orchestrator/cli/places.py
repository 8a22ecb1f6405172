# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Places: the NUMA nodes, L3 domains and shared cores of each claim, from what the daemon says of the machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epa_orchestrator.cpuset import CpuSet, iter_bits

if TYPE_CHECKING:
    from epa_orchestrator.protocol.machine import MachineAnswer


@dataclass(frozen=True)
class Place:
    """Where some CPUs are: the ids of their NUMA nodes, and numbers of domains and cores.

    A shared core has a thread of another owner or of the operating system.
    """

    nodes: CpuSet
    l3_domains: int
    packages: int
    shared_cores: int


class Places:
    """Finds the place of a claim's CPUs on one machine."""

    def __init__(self, answer: MachineAnswer) -> None:
        machine = answer.machine
        self.nodes = {node.id: CpuSet.parse(node.cpus) for node in machine.nodes}
        self._node_of = _owner((node, cpus.mask) for node, cpus in self.nodes.items())
        self._l3_of = _owner(enumerate(map(_mask, machine.l3_domains)))
        self._package_of = _owner(enumerate(_mask(package.cpus) for package in machine.packages))
        self._cores = [_mask(core.cpus) for core in machine.cores]
        self._core_of = _owner(enumerate(self._cores))
        self._free = _mask(answer.states.get("free", ""))

    def of(self, cpus: CpuSet, withheld: CpuSet) -> Place:
        """The place of a claim with these CPUs, because of which these siblings are withheld."""
        own_or_free = cpus.mask | withheld.mask | self._free
        ids = list(iter_bits(cpus.mask))
        cores = {self._core_of[cpu] for cpu in ids if cpu in self._core_of}
        return Place(
            nodes=CpuSet({self._node_of[cpu] for cpu in ids if cpu in self._node_of}),
            l3_domains=len({self._l3_of[cpu] for cpu in ids if cpu in self._l3_of}),
            packages=len({self._package_of[cpu] for cpu in ids if cpu in self._package_of}),
            shared_cores=sum(1 for core in cores if self._cores[core] & ~own_or_free),
        )


def _mask(cpus: str) -> int:
    return CpuSet.parse(cpus).mask


def _owner(domains: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The domain of each CPU; the first one of a CPU in several."""
    found: dict[int, int] = {}
    for domain, mask in reversed(list(domains)):
        found.update(dict.fromkeys(iter_bits(mask), domain))
    return found
