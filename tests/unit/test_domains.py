"""Domains: a pool's CPUs cut into cells, on machines where nodes, L3 domains and cores nest in every way."""

from __future__ import annotations

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.domains import NO_NODE, Topology, lowest, lowest_bits, topology, union
from epa_orchestrator.machine import Machine, read_machine
from epa_orchestrator.sysfs import RecordedSysfs
from tests.machines import made_up
from tools.synthetic import Shape, build


def cells(top: Topology) -> list[tuple[int, int, str]]:
    """(package, node, CPUs) of each cell."""
    return [(cell.package, cell.node, str(CpuSet.from_mask(cell.cpus))) for cell in top.cells]


def cores(top: Topology) -> list[str]:
    return [str(CpuSet.from_mask(core)) for cell in top.cells for core in cell.cores]


def whole(machine: Machine) -> Topology:
    return topology(machine, machine.online, EMPTY)


def test_several_l3_domains_in_a_node() -> None:
    top = whole(made_up(Shape(l3_per_node=2, cores_per_l3=2)))
    assert cells(top) == [(0, 0, "0-1"), (0, 0, "2-3")]


def test_several_nodes_below_an_l3_domain() -> None:
    top = whole(made_up(Shape(nodes_per_package=2, cores_per_l3=2, l3_scope="package")))
    assert cells(top) == [(0, 0, "0-1"), (0, 1, "2-3")]
    assert {cell.l3 for cell in top.cells} == {0}
    assert top.l3_cpus == {0: 0b1111}


def test_cpus_without_l3_share_one_by_package_and_node() -> None:
    top = whole(made_up(Shape(packages=2, nodes_per_package=2, cores_per_l3=2, l3_scope="none")))
    assert cells(top) == [(0, 0, "0-1"), (0, 1, "2-3"), (1, 2, "4-5"), (1, 3, "6-7")]
    assert len(top.l3_cpus) == 4


def test_online_cpus_in_no_node_are_a_node_of_their_own() -> None:
    files = build(Shape(cores_per_l3=4)) | {"devices/system/node/node0/cpulist": "0-1"}
    assert cells(whole(read_machine(RecordedSysfs(files)))) == [(0, NO_NODE, "2-3"), (0, 0, "0-1")]


def test_domains_hold_only_what_the_pool_may_grant() -> None:
    machine = made_up(Shape(cores_per_l3=4, threads_per_core=2))  # siblings 0 and 4, 1 and 5, ...
    top = topology(machine, CpuSet.parse("1-3,5"), EMPTY)
    assert cells(top) == [(0, 0, "1-3,5")]
    assert cores(top) == ["1,5", "2", "3"]


def test_reserved_thread_stays_in_its_core_but_not_in_the_cell() -> None:
    machine = made_up(Shape(cores_per_l3=2, threads_per_core=2))
    top = topology(machine, CpuSet.parse("0-1,3"), CpuSet.parse("2"))
    assert cells(top) == [(0, 0, "0-1,3")]
    assert cores(top) == ["0,2", "1,3"]


def test_masks() -> None:
    assert union([0b001, 0b100]) == 0b101
    assert union([]) == 0
    assert (lowest(0b1100), lowest(0)) == (2, -1)
    assert (lowest_bits(0b1101, 2), lowest_bits(0b1101, 9), lowest_bits(0b1101, 0)) == (0b101, 0b1101, 0)
