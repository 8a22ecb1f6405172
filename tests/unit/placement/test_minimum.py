# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Minimum: the fewest NUMA nodes and L3 domains of an empty pool that hold a number of CPUs."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.minimum import MinimumDomains, free_cores, minimum_domains, whole_core_sizes
from epa_orchestrator.placement.policy import CpuThreadPolicy
from epa_orchestrator.placement.topology import Topology, build_topology
from tests import oracle
from tests.machines import made_up, synthetic
from tools.synthetic import Shape

# Package/node 0: L3 {0,1,8,9}, L3 {2,3,10,11};  package/node 1: L3 {4,5,12,13}, L3 {6,7,14,15}; siblings 8 apart.
EIGHT_CORES = Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2)


def pool(shape: Shape, away: str = "", reserved: str = "") -> Topology:
    machine = made_up(shape)
    return build_topology(machine, machine.online - CpuSet.parse(away), CpuSet.parse(reserved))


@pytest.mark.parametrize(
    ("count", "threads", "expected"),
    [
        (1, "prefer", (1, 1)),
        (4, "prefer", (1, 1)),
        (5, "share", (1, 2)),
        (8, "prefer", (1, 2)),
        (9, "prefer", (2, 3)),
        (13, "prefer", (2, 4)),
        (17, "prefer", None),
        (4, "require", (1, 1)),
        (3, "require", None),
        (10, "require", (2, 3)),
        (2, "isolate", (1, 1)),
        (3, "isolate", (1, 2)),
        (5, "isolate", (2, 3)),
        (9, "isolate", None),
    ],
)
def test_minimum_of_the_pool(count: int, threads: CpuThreadPolicy, expected: tuple[int, int] | None) -> None:
    assert minimum_domains(pool(EIGHT_CORES), count, threads) == (expected and MinimumDomains(*expected))


def test_minimum_of_one_node() -> None:
    topology = pool(EIGHT_CORES)
    assert [minimum_domains(topology, count, "prefer", 1) for count in (4, 8, 9)] == [
        MinimumDomains(1, 1),
        MinimumDomains(1, 2),
        None,
    ]


def test_a_core_with_a_reserved_thread_is_not_whole() -> None:
    topology = pool(EIGHT_CORES, "0", "0")
    assert minimum_domains(topology, 8, "require") == MinimumDomains(1, 2)  # node 1
    assert minimum_domains(topology, 14, "require") == MinimumDomains(2, 4)
    assert minimum_domains(topology, 16, "require") is None
    assert minimum_domains(topology, 15, "prefer") == MinimumDomains(2, 4)
    assert (whole_core_sizes(topology, (1 << 16) - 2).bit_count(), free_cores(topology, (1 << 16) - 2)) == (8, 7)


def test_two_nodes_below_one_l3_domain_need_one_l3_domain() -> None:
    topology = pool(Shape(packages=2, nodes_per_package=2, cores_per_l3=4, l3_scope="package"))
    assert [minimum_domains(topology, count, "prefer") for count in (4, 5, 8, 9)] == [
        MinimumDomains(1, 1),
        MinimumDomains(2, 1),
        MinimumDomains(2, 1),
        MinimumDomains(3, 2),
    ]


def test_the_node_with_fewer_l3_domains_counts() -> None:
    # 0-1 and 2-3 of node 0, of node 1 only 4-5 and 7: four CPUs fit in two L3 domains of node 0 only.
    assert minimum_domains(
        pool(Shape(nodes_per_package=2, l3_per_node=2, cores_per_l3=2), "6"), 4, "prefer"
    ) == MinimumDomains(1, 2)


@pytest.mark.parametrize(
    ("available", "sizes", "cores"),
    [("", [0], 0), ("0,8", [0, 2], 1), ("0-1,8", [0, 2], 1), ("0-1,8-9", [0, 2, 4], 2), ("0-7", [0], 0)],
)
def test_whole_core_sizes_and_free_cores(available: str, sizes: list[int], cores: int) -> None:
    topology, mask = pool(EIGHT_CORES), CpuSet.parse(available).mask
    assert list(CpuSet.from_mask(whole_core_sizes(topology, mask))) == sizes
    assert free_cores(topology, mask) == cores


def test_cores_of_two_widths() -> None:
    machine = synthetic("raptorlake")  # six cores of two threads, eight of one
    topology = build_topology(machine, machine.online, EMPTY)
    assert whole_core_sizes(topology, machine.online.mask) == (1 << 21) - 1
    assert [minimum_domains(topology, count, "isolate") for count in (14, 15)] == [MinimumDomains(1, 1), None]


@pytest.mark.parametrize(
    "shape",
    [
        Shape(2, 1, 2, 1, 3, offline="5,9"),
        Shape(1, 3, 1, 2, 2, l3_scope="package", offline="11"),
        Shape(1, 2, 3, 2, offline="3,10-11"),
        Shape(3, 1, 1, 2, 2, l3_scope="none", offline="8-9"),
    ],
)
@pytest.mark.parametrize("threads", ["prefer", "require", "isolate"])
def test_minimum_is_that_of_trying_every_set(shape: Shape, threads: CpuThreadPolicy) -> None:
    machine = made_up(shape)
    for away, reserved in (("", ""), ("0", "0"), ("0,4", "4")):
        eligible, kept = machine.online - CpuSet.parse(away), CpuSet.parse(reserved) & machine.online
        topology = build_topology(machine, eligible, kept)
        where = oracle.world(machine, frozenset(eligible), frozenset(kept))
        for count in range(1, len(eligible) + 2):
            assert minimum_domains(topology, count, threads) == oracle.minimum(where, count, threads), (away, count)
