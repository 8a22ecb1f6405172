# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machines that streams are replayed on: one for each way in which NUMA nodes, L3 domains and cores can nest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.placement.topology import Topology, build_topology
from tools.synthetic import Shape, build, build_hybrid


@dataclass(frozen=True, eq=False)
class Host:
    """A machine, all of which may be granted, and its domains as CPU masks by lowest CPU.

    The masks come from the machine and not from `topology`: the code that judges a choice shares none with placement.
    """

    name: str
    machine: Machine
    topology: Topology
    packages: tuple[int, ...]
    nodes: tuple[int, ...]
    l3s: tuple[int, ...]
    cores: tuple[int, ...]

    @property
    def cpus(self) -> int:
        """The mask of all CPUs."""
        return self.machine.online.mask

    @property
    def threads_per_core(self) -> int:
        """How many threads its widest cores have."""
        return max(core.bit_count() for core in self.cores)


SHAPES: Final[dict[str, Shape]] = {
    # Intel with SNC4: an L3 holds four nodes.
    "SNC4": Shape(packages=2, nodes_per_package=4, cores_per_l3=12, threads_per_core=2, l3_scope="package"),
    # EPYC 7002 with NPS4: a node holds four L3 domains of four cores.
    "NPS4": Shape(packages=2, nodes_per_package=4, l3_per_node=4, cores_per_l3=4, threads_per_core=2),
    # EPYC 9004 with NPS1: 24 L3 domains whose ids are not in the order of the CPUs.
    "24 L3": Shape(packages=2, l3_per_node=12, cores_per_l3=8, threads_per_core=2, l3_ids="scattered"),
    # Kunpeng 920: one thread in a core.
    "SMT1": Shape(packages=2, nodes_per_package=2, cores_per_l3=32),
    # POWER9: four threads in a core, adjacent; two cores share an L3 region.
    "SMT4": Shape(packages=2, l3_per_node=10, cores_per_l3=2, threads_per_core=4, siblings="adjacent"),
    "VM": Shape(packages=2, cores_per_l3=16, threads_per_core=2, siblings="adjacent"),
}
#: An Intel Core i9 of the 13th generation.
HYBRID: Final = "hybrid"
NAMES: Final = (*SHAPES, HYBRID)


@lru_cache
def host(name: str) -> Host:
    """One of NAMES."""
    return made_of(name, build_hybrid(8, 16) if name == HYBRID else build(SHAPES[name]))


def made_of(name: str, files: dict[str, str]) -> Host:
    """The machine whose sysfs files these are."""
    machine = read_machine(RecordedSysfs(files))
    return Host(
        name=name,
        machine=machine,
        topology=build_topology(machine, machine.online, EMPTY),
        packages=_masks(package.cpus for package in machine.packages),
        nodes=_masks(node.cpus for node in machine.nodes if node.cpus),
        l3s=_masks(machine.l3_domains),
        cores=_masks(core.cpus for core in machine.cores),
    )


def _masks(domains: Iterable[CpuSet]) -> tuple[int, ...]:
    return tuple(sorted((domain.mask for domain in domains), key=lambda mask: mask & -mask))
