# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Topology: a pool's CPUs cut into cells, on machines where nodes, L3 domains and cores nest in every way."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet, union
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Core, Machine, Package
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.placement.topology import NO_NODE, Outside, Topology, build_topology
from tests.machines import made_up, with_cores, with_l2_clusters
from tools.synthetic import Shape, build


def cells(topology: Topology) -> list[tuple[int, int, str]]:
    """(package, node, CPUs) of each cell."""
    return [(cell.package, cell.node, str(CpuSet.from_mask(cell.cpus))) for cell in topology.cells]


def cores(topology: Topology) -> list[str]:
    return [str(CpuSet.from_mask(core)) for cell in topology.cells for core in cell.cores]


def whole(machine: Machine) -> Topology:
    return build_topology(machine, machine.online, EMPTY)


def test_several_l3_domains_in_a_node() -> None:
    topology = whole(made_up(Shape(l3_per_node=2, cores_per_l3=2)))
    assert cells(topology) == [(0, 0, "0-1"), (0, 0, "2-3")]


def test_several_nodes_below_an_l3_domain() -> None:
    topology = whole(made_up(Shape(nodes_per_package=2, cores_per_l3=2, l3_scope="package")))
    assert cells(topology) == [(0, 0, "0-1"), (0, 1, "2-3")]
    assert {cell.l3 for cell in topology.cells} == {0}
    assert topology.l3_cpus == {0: 0b1111}


def test_cpus_without_l3_share_one_by_package_and_node() -> None:
    topology = whole(made_up(Shape(packages=2, nodes_per_package=2, cores_per_l3=2, l3_scope="none")))
    assert cells(topology) == [(0, 0, "0-1"), (0, 1, "2-3"), (1, 2, "4-5"), (1, 3, "6-7")]
    assert len(topology.l3_cpus) == 4


def test_online_cpus_in_no_node_are_a_node_of_their_own() -> None:
    files = build(Shape(cores_per_l3=4)) | {"devices/system/node/node0/cpulist": "0-1"}
    assert cells(whole(read_machine(RecordedSysfs(files)))) == [(0, NO_NODE, "2-3"), (0, 0, "0-1")]


def test_domains_hold_only_what_the_pool_may_grant() -> None:
    machine = made_up(Shape(cores_per_l3=4, threads_per_core=2))  # siblings 0 and 4, 1 and 5, ...
    topology = build_topology(machine, CpuSet.parse("1-3,5"), EMPTY)
    assert cells(topology) == [(0, 0, "1-3,5")]
    assert cores(topology) == ["1,5", "2", "3"]


def test_reserved_thread_stays_in_its_core_but_not_in_the_cell() -> None:
    machine = made_up(Shape(cores_per_l3=2, threads_per_core=2))
    topology = build_topology(machine, CpuSet.parse("0-1,3"), CpuSet.parse("2"))
    assert cells(topology) == [(0, 0, "0-1,3")]
    assert cores(topology) == ["0,2", "1,3"]


def test_a_core_of_reserved_threads_only_is_left_out() -> None:
    topology = build_topology(
        made_up(Shape(cores_per_l3=2, threads_per_core=2)), CpuSet.parse("1,3"), CpuSet.parse("0,2")
    )
    assert cores(topology) == ["1,3"]


def test_a_node_in_two_packages_is_two_cells() -> None:
    machine = made_up(Shape(l3_per_node=2, cores_per_l3=2))
    packages = (Package("0", CpuSet.parse("0-1")), Package("1", CpuSet.parse("2-3")))
    topology = whole(replace(machine, packages=packages))
    assert cells(topology) == [(0, 0, "0-1"), (1, 0, "2-3")]
    assert topology.nodes[0].packages == {0, 1}
    assert topology.nesting == ("node", "package", "l3")
    assert not topology.l3_spans_nodes
    assert whole(machine).nesting == ("package", "node", "l3")


def crossed() -> Machine:
    """Siblings n and n+4; node 0 has 0-3, node 1 has 4-7, each with an L3."""
    return with_cores(made_up(Shape(nodes_per_package=2)), [f"{n},{n + 4}" for n in range(4)])


def test_a_core_with_threads_in_two_nodes_stays_whole() -> None:
    topology = whole(crossed())
    assert cores(topology) == ["0,4", "1,5", "2,6", "3,7"]
    assert [(node.id, str(CpuSet.from_mask(node.cpus))) for node in topology.nodes.values()] == [(0, "0-3"), (1, "4-7")]
    assert topology.cores_span_nodes
    assert not whole(made_up(Shape(nodes_per_package=2))).cores_span_nodes


def test_a_core_is_in_the_l3_of_its_first_thread() -> None:
    topology = whole(crossed())
    assert topology.l3_cpus == {0: 0b11111111}
    assert topology.l3_spans_nodes


def test_an_l3_that_is_shown_for_one_thread_has_the_whole_core() -> None:
    machine = replace(made_up(Shape(l3_per_node=2, cores_per_l3=2, threads_per_core=2)), l3_domains=())
    for shown in (("0-1", "2-3"), ("4-5", "6-7"), ("0,5", "2,7")):
        topology = whole(replace(machine, l3_domains=tuple(map(CpuSet.parse, shown))))
        assert cells(topology) == [(0, 0, "0-1,4-5"), (0, 0, "2-3,6-7")]


def test_nodes_that_share_cores_are_one_group() -> None:
    machine = with_cores(made_up(Shape(nodes_per_package=4, cores_per_l3=2)), ["0", "1-2", "3", "4", "5", "6", "7"])
    assert [(cell.node, str(CpuSet.from_mask(cell.cpus))) for cell in whole(machine).cells] == [
        (0, "0-2"),
        (0, "3"),
        (2, "4-5"),
        (3, "6-7"),
    ]


def test_l2_clusters() -> None:
    topology = whole(made_up(Shape(l3_per_node=2, cores_per_l3=4, cores_per_l2=2)))
    assert cells(topology) == [(0, 0, "0-1"), (0, 0, "2-3"), (0, 0, "4-5"), (0, 0, "6-7")]
    assert topology.l2_cpus == {0: 0b11, 1: 0b1100, 2: 0b110000, 3: 0b11000000}
    assert topology.nesting == ("package", "node", "l3", "l2")


def test_cores_without_a_cluster_are_together() -> None:
    machine = with_l2_clusters(made_up(Shape(cores_per_l3=6)), ["2-3", "4-5"])
    topology = whole(machine)
    assert cells(topology) == [(0, 0, "0-1"), (0, 0, "2-3"), (0, 0, "4-5")]
    assert topology.l2_cpus == {0: 0b1100, 1: 0b110000}


def test_a_pool_outside_of_the_clusters_has_none() -> None:
    machine = with_l2_clusters(made_up(Shape(cores_per_l3=6)), ["2-3", "4-5"])
    assert build_topology(machine, CpuSet.parse("0-1"), EMPTY).l2_cpus == {}


def test_threads_of_the_operating_system_are_those_on_cores_of_the_pool() -> None:
    machine = made_up(Shape(cores_per_l3=4, threads_per_core=2))  # siblings 0 and 4, 1 and 5, ...
    outside = CpuSet.parse("0,3,7")
    topology = build_topology(machine, CpuSet.parse("1-2,4-6"), outside, outside=Outside(system=outside))
    assert CpuSet.from_mask(topology.system) == CpuSet.parse("0")
    assert cores(topology) == ["0,4", "1,5", "2,6"]


@pytest.mark.parametrize(("scope", "spans"), [("node", False), ("package", True), ("none", False)])
def test_l3_spans_nodes(scope: Literal["node", "package", "none"], spans: bool) -> None:
    assert whole(made_up(Shape(nodes_per_package=2, l3_scope=scope))).l3_spans_nodes is spans


def test_an_l3_domain_of_two_nodes_spans_none_in_a_pool_of_one_node() -> None:
    machine = made_up(Shape(nodes_per_package=2, cores_per_l3=2, l3_scope="package"))
    assert not build_topology(machine, CpuSet.parse("2-3"), EMPTY).l3_spans_nodes


def test_core_types() -> None:
    machine = made_up(Shape())
    hybrid = (Core(CpuSet.parse("0-1"), "performance"), Core(CpuSet.parse("2-3"), "efficiency"))
    assert whole(replace(machine, cores=hybrid)).core_types == {"performance": 0b0011, "efficiency": 0b1100}
    assert whole(machine).core_types == {"performance": 0, "efficiency": 0}


def test_distances_of_nodes_without_cpus_of_the_pool() -> None:
    machine = made_up(Shape(packages=2, cores_per_l3=2, memory_only_nodes=1))
    topology = build_topology(machine, CpuSet.parse("2-3"), EMPTY)
    assert list(topology.nodes) == [1]
    assert topology.distance == {0: {1: 32}, 1: {1: 10}, 2: {1: 17}}


def test_parts_hold_all_cores_of_a_cell_once() -> None:
    (cell,) = whole(made_up(Shape(cores_per_l3=19, threads_per_core=2))).cells
    assert [core for part in cell.parts for core in part.cores] == list(cell.cores)
    assert [len(part.cores) for part in cell.parts] == [8, 8, 3]
    assert union(part.threads for part in cell.parts) == cell.threads == cell.cpus


def test_width_and_nodes_of_some_cpus() -> None:
    topology = build_topology(made_up(Shape(packages=2)), CpuSet.parse("1-5"), CpuSet.parse("6"))
    assert topology.width == 6
    assert [[node.id for node in topology.nodes_of(mask)] for mask in (0b10, 0b110000, 0b11000, 0)] == [
        [0],
        [1],
        [0, 1],
        [],
    ]
