# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Topology: the CPUs that a pool may grant, cut into cells along packages, NUMA nodes, L3 caches and L2 clusters.

A *cell* is a set of whole cores that share all four. Cells never overlap, on any machine: sub-NUMA clustering puts
several nodes below one L3, most servers have several L3s in one node. A core is in one cell with all its threads: it is
in the package, the L3 domain and the L2 cluster of its first thread that has one. Only its NUMA nodes may be several,
as in some virtual machines; nodes that have a core in common form one *node group*. All sets are bit masks here (see
CpuSet), because placement counts and intersects thousands of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from epa_orchestrator.cpuset import EMPTY, CpuSet, lowest, union

if TYPE_CHECKING:  # so that the protocol can name a summary without loading discovery
    from epa_orchestrator.hardware.machine import Cores, Machine

#: Stands for the node of online CPUs that no node lists.
NO_NODE: Final = -1

#: The kinds of domains that a cell is in, which are the names of its fields, in the order in which they usually nest.
Kind = Literal["package", "node", "l3", "l2"]
KINDS: Final[tuple[Kind, ...]] = ("package", "node", "l3", "l2")

#: Every kind of domain that a level of the cost is counted in.
Domain = Literal["package", "node", "l3", "l2", "core"]

#: How many cores have their table worked out again when one of them changes.
_CORES_IN_PART: Final = 8


#: The fields of a cell that name its domains.
_Key = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Cell:
    """Cores that share package, node group, L3 domain and L2 cluster.

    `package`, `l3` and `l2` are indexes; `l2` is below 0 for cores that are in no cluster. `node` is the lowest id of
    the node group, which is the node itself unless cores have threads in several. `cores` are the masks of the cores,
    by lowest CPU id, with reserved threads in them: such a core is never whole. `threads` is their union. `parts` are
    the same cores, a few at a time: `tables` remembers a table of each.
    """

    package: int
    node: int
    l3: int
    l2: int
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
    """A NUMA node: the cells that have CPUs of it, its own CPUs, the threads of these cells, and their packages."""

    id: int
    cells: tuple[Cell, ...]
    cpus: int
    threads: int
    packages: frozenset[int]


@dataclass(frozen=True, eq=False)
class Topology:
    """All cells, as nodes by id; the CPUs of each L3 domain and L2 cluster; the distances of all nodes to these.

    `nesting` has the kinds of domains, those that contain the others first; "l2" only where cores share an L2.
    `l3_spans_nodes` is true when some L3 domain is in more than one node, `cores_span_nodes` when some core is.
    `core_types` has the CPUs of each type of core on a hybrid machine. Of the threads that share cores with the pool,
    `system` are those of the operating system, `reserved` those in `reserved-cpus`, and `other_pool` those that the
    other pool may grant. All CPU ids of the pool are below `width`.
    """

    nodes: dict[int, Node]
    cells: tuple[Cell, ...]
    l3_cpus: dict[int, int]
    l2_cpus: dict[int, int]
    distance: dict[int, dict[int, int]]
    l3_spans_nodes: bool
    cores_span_nodes: bool
    nesting: tuple[Kind, ...]
    core_types: dict[str, int]
    system: int
    reserved: int
    other_pool: int
    width: int

    def nodes_of(self, mask: int) -> list[Node]:
        """The nodes that some of these CPUs are in, by id."""
        return [node for node in self.nodes.values() if node.cpus & mask]


class Outside(NamedTuple):
    """CPUs outside of a pool by what they are for; see Topology."""

    system: CpuSet = EMPTY
    reserved: CpuSet = EMPTY
    other_pool: CpuSet = EMPTY


NO_OUTSIDE: Final = Outside()


def build_topology(
    machine: Machine, eligible: CpuSet, neighbours: CpuSet, known: Cores | None = None, outside: Outside = NO_OUTSIDE
) -> Topology:
    """Cut the machine's domains down to the `eligible` CPUs; cores also keep their threads among the `neighbours`.

    `known` has the threads of each core, also offline ones, which may be neighbours. `outside` says what the neighbours
    are for; those in none of its sets are claimed.
    """
    node_of = {cpu: node.id for node in reversed(machine.nodes) for cpu in node.cpus & eligible}
    cells = _cells(machine, eligible, neighbours, known or {}, node_of)
    threads = union(cell.threads for cell in cells)
    by_node: dict[int, int] = {}
    for cpu in eligible:
        node_id = node_of.get(cpu, NO_NODE)
        by_node[node_id] = by_node.get(node_id, 0) | 1 << cpu
    nodes = {
        node_id: _node(node_id, cpus, [cell for cell in cells if cell.cpus & cpus])
        for node_id, cpus in sorted(by_node.items())
    }
    l3_cpus = _cpus_by([(cell.l3, cell.cpus) for cell in cells])
    l2_cpus = _cpus_by([(cell.l2, cell.cpus) for cell in cells if cell.l2 >= 0])
    kinds = KINDS if l2_cpus else KINDS[:-1]
    return Topology(
        nodes=nodes,
        cells=cells,
        l3_cpus=l3_cpus,
        l2_cpus=l2_cpus,
        distance={
            node: {other: machine.distance(node, other) for other in nodes} for node in {*nodes, *machine.node_ids}
        },
        l3_spans_nodes=len({(node.id, cell.l3) for node in nodes.values() for cell in node.cells}) > len(l3_cpus),
        cores_span_nodes=len({cell.node for cell in cells}) < len(nodes),
        nesting=tuple(sorted(kinds, key=lambda kind: len({getattr(cell, kind) for cell in cells}))),
        core_types={
            kind: union(core.cpus.mask for core in machine.cores if core.type == kind)
            for kind in ("performance", "efficiency")
        },
        system=outside.system.mask & threads,
        reserved=outside.reserved.mask & threads,
        other_pool=outside.other_pool.mask & threads,
        width=eligible.mask.bit_length(),
    )


def _cells(
    machine: Machine, eligible: CpuSet, neighbours: CpuSet, known: Cores, node_of: dict[int, int]
) -> tuple[Cell, ...]:
    """The cores of the eligible CPUs, by the domains that they share."""
    eligible_cores = [(core.cpus, threads) for core in machine.cores if (threads := core.cpus & eligible)]
    nodes_of = [{node_of.get(cpu, NO_NODE) for cpu in threads} for _, threads in eligible_cores]
    group_of = _node_groups(nodes_of)
    package_of, l3_of, l2_of = (
        {cpu: index for index, domain in enumerate(domains) for cpu in domain}
        for domains in ([package.cpus for package in machine.packages], machine.l3_domains, machine.l2_clusters)
    )
    stand_ins: dict[tuple[int, int], int] = {}
    cpus: dict[_Key, int] = {}
    cores: dict[_Key, list[int]] = {}
    for (online, threads), nodes in zip(eligible_cores, nodes_of, strict=True):
        outer = _first(package_of, online, 0), group_of[min(nodes)]
        l3 = _first(l3_of, online, -1)
        if l3 < 0:  # cores without an L3 share one by package and node
            l3 = stand_ins.setdefault(outer, len(machine.l3_domains) + len(stand_ins))
        key = (*outer, l3, _first(l2_of, online, -1 - l3))
        everything = online.mask | known.get(lowest(online.mask), 0)
        cpus[key] = cpus.get(key, 0) | threads.mask
        cores.setdefault(key, []).append(threads.mask | everything & neighbours.mask)
    return tuple(_cell(key, mask, sorted(cores[key], key=lowest)) for key, mask in sorted(cpus.items()))


def _first(domain_of: dict[int, int], threads: CpuSet, default: int) -> int:
    """The domain of a core: that of its first thread that has one."""
    return next((domain_of[cpu] for cpu in threads if cpu in domain_of), default)


def _node_groups(nodes_of_cores: list[set[int]]) -> dict[int, int]:
    """The lowest id of each node's group; nodes that have a core in common are in one group."""
    group_of = {node: node for nodes in nodes_of_cores for node in nodes}
    for nodes in nodes_of_cores:
        joined = {group_of[node] for node in nodes}
        if len(joined) > 1:
            group_of = {node: min(joined) if group in joined else group for node, group in group_of.items()}
    return group_of


def _cpus_by(parts: list[tuple[int, int]]) -> dict[int, int]:
    """The union of the CPUs of each domain."""
    cpus: dict[int, int] = {}
    for domain, mask in parts:
        cpus[domain] = cpus.get(domain, 0) | mask
    return cpus


def _cell(key: _Key, cpus: int, cores: list[int]) -> Cell:
    few = [tuple(cores[first : first + _CORES_IN_PART]) for first in range(0, len(cores), _CORES_IN_PART)]
    parts = tuple(Part(union(part), part) for part in few)
    return Cell(*key, cpus=cpus, threads=union(cores), cores=tuple(cores), parts=parts)


def _node(node_id: int, cpus: int, cells: list[Cell]) -> Node:
    return Node(
        id=node_id,
        cells=tuple(cells),
        cpus=cpus,
        threads=union(cell.threads for cell in cells),
        packages=frozenset(cell.package for cell in cells),
    )
