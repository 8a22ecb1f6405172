# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Topology: the CPUs that a pool may grant, cut into cells along packages, NUMA nodes and L3 caches.

A *cell* is the set of CPUs that share all three. Cells never overlap, on any machine: sub-NUMA clustering puts several
nodes below one L3, most servers have several L3s in one node. All sets are bit masks here (see CpuSet), because
placement counts and intersects thousands of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from epa_orchestrator.cpuset import CpuSet, lowest, union

if TYPE_CHECKING:  # so that the protocol can name a summary without loading discovery
    from epa_orchestrator.hardware.machine import Cores, Machine

#: Stands for the node of online CPUs that no node lists.
NO_NODE: Final = -1

#: The kinds of domains that a cell is in, which are the names of its fields, in the order in which they usually nest.
Kind = Literal["package", "node", "l3"]
KINDS: Final[tuple[Kind, ...]] = ("package", "node", "l3")

#: Every kind of domain that a level of the cost is counted in.
Domain = Literal["package", "node", "l3", "core"]

#: How many cores have their table worked out again when one of them changes.
_CORES_IN_PART: Final = 8


@dataclass(frozen=True, eq=False)
class Cell:
    """CPUs that share package, NUMA node and L3 domain (`package` and `l3` are indexes).

    `cores` are the masks of the cell's cores, by lowest CPU id, with reserved threads in them: such a core is never
    whole. `threads` is their union. `parts` are the same cores, a few at a time: `tables` remembers a table of each.
    """

    package: int
    node: int
    l3: int
    cpus: int
    threads: int
    cores: tuple[int, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """A few cores of a cell; `threads` is their union."""

    threads: int
    cores: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """The cells of a NUMA node, their union with and without reserved threads, and their packages."""

    id: int
    cells: tuple[Cell, ...]
    cpus: int
    threads: int
    packages: frozenset[int]


@dataclass(frozen=True, eq=False)
class Topology:
    """All cells, as nodes by id; the CPUs of each L3 domain; the distances of all nodes to these.

    `nesting` has the kinds of domains, those that contain the others first. `l3_spans_nodes` is true when some L3
    domain is in more than one node. `core_types` has the CPUs of each type of core on a hybrid machine. All CPU ids
    are below `width`.
    """

    nodes: dict[int, Node]
    cells: tuple[Cell, ...]
    l3_cpus: dict[int, int]
    distance: dict[int, dict[int, int]]
    l3_spans_nodes: bool
    nesting: tuple[Kind, ...]
    core_types: dict[str, int]
    width: int

    def nodes_of(self, mask: int) -> list[Node]:
        """The nodes that some of these CPUs are in, by id."""
        return [node for node in self.nodes.values() if node.cpus & mask]


def build_topology(machine: Machine, eligible: CpuSet, reserved: CpuSet, known: Cores | None = None) -> Topology:
    """Cut the machine's domains down to the `eligible` CPUs; cores also keep their `reserved` threads.

    `known` has the threads of each core, also offline ones, which may be reserved.
    """
    keys = _cell_keys(machine, eligible)
    cpus: dict[tuple[int, int, int], int] = {}
    for cpu, key in keys.items():
        cpus[key] = cpus.get(key, 0) | 1 << cpu
    cores: dict[tuple[int, int, int], list[int]] = {}
    for core in machine.cores:
        threads = (core.cpus & eligible).mask
        everything = core.cpus.mask | (known or {}).get(lowest(core.cpus.mask), 0)
        for key in {keys[cpu] for cpu in CpuSet.from_mask(threads)}:
            cores.setdefault(key, []).append(threads & cpus[key] | everything & reserved.mask)
    cells = tuple(_cell(key, mask, sorted(cores[key], key=lowest)) for key, mask in sorted(cpus.items()))
    nodes = {node: _node(node, [cell for cell in cells if cell.node == node]) for node in {cell.node for cell in cells}}
    return Topology(
        nodes=dict(sorted(nodes.items())),
        cells=cells,
        l3_cpus={l3: union(cell.cpus for cell in cells if cell.l3 == l3) for l3 in {cell.l3 for cell in cells}},
        distance={
            node: {other: machine.distance(node, other) for other in nodes} for node in {*nodes, *machine.node_ids}
        },
        l3_spans_nodes=len({(cell.node, cell.l3) for cell in cells}) > len({cell.l3 for cell in cells}),
        nesting=tuple(sorted(KINDS, key=lambda kind: len({getattr(cell, kind) for cell in cells}))),
        core_types={
            kind: union(core.cpus.mask for core in machine.cores if core.type == kind)
            for kind in ("performance", "efficiency")
        },
        width=(eligible | reserved).mask.bit_length(),
    )


def _cell(key: tuple[int, int, int], cpus: int, cores: list[int]) -> Cell:
    few = [tuple(cores[first : first + _CORES_IN_PART]) for first in range(0, len(cores), _CORES_IN_PART)]
    parts = tuple(Part(union(part), part) for part in few)
    return Cell(*key, cpus=cpus, threads=union(cores), cores=tuple(cores), parts=parts)


def _node(node_id: int, cells: list[Cell]) -> Node:
    return Node(
        id=node_id,
        cells=tuple(cells),
        cpus=union(cell.cpus for cell in cells),
        threads=union(cell.threads for cell in cells),
        packages=frozenset(cell.package for cell in cells),
    )


def _cell_keys(machine: Machine, eligible: CpuSet) -> dict[int, tuple[int, int, int]]:
    """(package index, node id, L3 index) of each eligible CPU; CPUs without an L3 share one by package and node."""
    package_of = {cpu: index for index, package in enumerate(machine.packages) for cpu in package.cpus & eligible}
    l3_of = {cpu: index for index, domain in enumerate(machine.l3_domains) for cpu in domain & eligible}
    node_of = {cpu: node.id for node in reversed(machine.nodes) for cpu in node.cpus & eligible}
    stand_ins: dict[tuple[int, int], int] = {}
    keys: dict[int, tuple[int, int, int]] = {}
    for cpu in eligible:
        outer = package_of.get(cpu, 0), node_of.get(cpu, NO_NODE)
        l3 = l3_of.get(cpu)
        if l3 is None:
            l3 = stand_ins.setdefault(outer, len(machine.l3_domains) + len(stand_ins))
        keys[cpu] = (*outer, l3)
    return keys
