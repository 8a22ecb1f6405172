# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""L2 clusters: a request that fits in one does not straddle two; claims grow in their own, and shrink to few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.search import choose
from epa_orchestrator.placement.topology import build_topology
from tests.machines import made_up, real_machine
from tools.synthetic import Shape, build_hybrid

#: Clusters 0-3, 4-7, 8-11 of single threads below one L3, like those of Arm.
ARM = made_up(Shape(cores_per_l3=12, cores_per_l2=4))
#: Cores 0-1 and 2-3 with an L2 each, then modules 4-7 and 8-11.
HYBRID = read_machine(RecordedSysfs(build_hybrid(performance_cores=2, efficiency_cores=8, cores_per_l2=4)))
#: Two L3 domains of two clusters of two cores: 0-1,8-9 and 2-3,10-11; 4-5,12-13 and 6-7,14-15.
TWO_L3S = made_up(Shape(l3_per_node=2, cores_per_l3=4, threads_per_core=2, cores_per_l2=2))


def chosen(machine: Machine, free: str, count: int, own: str = "", **options: Any) -> str:
    topology = build_topology(machine, machine.online, EMPTY)
    return str(choose(topology, CpuSet.parse(free), CpuSet.parse(own), count, PlacementPolicy(**options)))


@pytest.mark.parametrize(
    ("machine", "free", "count", "cpus"),
    [
        (ARM, "2-11", 2, "2-3"),
        (ARM, "2-11", 3, "4-6"),
        (ARM, "2-11", 4, "4-7"),
        (ARM, "2-11", 5, "2-3,4-6"),
        (ARM, "2-11", 8, "4-11"),
        (ARM, "3-4,6-9", 2, "4,6"),
        (HYBRID, "0-11", 4, "0-3"),
        (HYBRID, "6-11", 3, "8-10"),
        (HYBRID, "2-3,6-11", 4, "2-3,6-7"),
        # The L3 domain in which two whole cores share an L2, though the other one fits tighter.
        (TWO_L3S, "1-2,9-10,4-7,12-15", 4, "4-5,12-13"),
        (TWO_L3S, "1-3,9-11,4-7,12-15", 4, "2-3,10-11"),
    ],
)
def test_a_request_takes_the_fewest_clusters(machine: Machine, free: str, count: int, cpus: str) -> None:
    assert CpuSet.parse(chosen(machine, free, count)) == CpuSet.parse(cpus)


def test_l3_domains_come_first() -> None:
    # Cluster 0-1 has another's CPUs; the three whole cores fit into the second L3 domain only.
    assert chosen(TWO_L3S, "2-6,10-14", 6) == "4-6,12-14"


@pytest.mark.parametrize(
    ("own", "free", "count", "cpus"),
    [
        ("5", "0-4,6-11", 2, "4-5"),
        ("4-6", "0-3,7-11", 4, "4-7"),
        ("9", "0-8,10-11", 4, "8-11"),
        ("2", "4-11", 3, "2,4-5"),
    ],
)
def test_a_claim_grows_in_its_own_cluster(own: str, free: str, count: int, cpus: str) -> None:
    assert chosen(ARM, free, count, own) == cpus


@pytest.mark.parametrize(
    ("own", "count", "cpus"),
    [("3-7", 4, "4-7"), ("0-2,4-6,8-9", 6, "0-2,4-6"), ("3,8-9", 2, "8-9"), ("0,4,8", 2, "0,4")],
)
def test_a_claim_shrinks_to_the_fewest_clusters(own: str, count: int, cpus: str) -> None:
    assert chosen(ARM, "", count, own) == cpus


@pytest.mark.parametrize(
    "options",
    [
        {"uncore_cache_alignment": "none"},
        {"uncore_cache_alignment": "require"},
        {"numa_policy": "none"},
        {"numa_policy": "single-numa-node"},
        {"numa_allocation_strategy": "spread"},
        {"numa_allocation_strategy": "distribute"},
        {"cpu_thread_policy": "share"},
        {"cpu_thread_policy": "require"},
        {"cpu_thread_policy": "isolate"},
        {"cpu_distribution": "cores"},
    ],
)
def test_every_policy_but_caches_compares_clusters(options: dict[str, Any]) -> None:
    assert chosen(ARM, "3-4,6-9", 2, **options) == "4,6"


def test_caches_spreads_and_compares_no_clusters() -> None:
    assert chosen(ARM, "3-4,6-9", 2, cpu_distribution="caches") == "3-4"


def test_clusters_without_an_l3() -> None:
    machine = made_up(Shape(packages=2, cores_per_l3=8, l3_scope="none", cores_per_l2=4))
    assert chosen(machine, "3-5,7-15", 3) == "4-5,7"


def test_a_cluster_across_l3_domains() -> None:
    # Four L3 domains of three CPUs; the L2 of 0-5, and that of 6-11.
    machine = replace(
        made_up(Shape(l3_per_node=4, cores_per_l3=3)), l2_clusters=(CpuSet(range(6)), CpuSet(range(6, 12)))
    )
    assert chosen(machine, "2-11", 6) == "6-11"


@pytest.mark.parametrize(
    ("name", "free", "count", "cpus"),
    [
        ("raptorlake-i7-1370p-20t", "13-19", 4, "16-19"),
        ("raptorlake-i7-1370p-20t", "13-19", 3, "13-15"),
        ("raptorlake-i7-1370p-20t", "14-19", 3, "16-18"),
        ("dunnington-16s4n-96c", "0,2-3,5-7", 2, "2,6"),
        ("altixxe320-e5472-8c-buggynuma", "0-1,3-7", 2, "4,6"),
    ],
)
def test_real_machines(name: str, free: str, count: int, cpus: str) -> None:
    assert chosen(real_machine(name), free, count) == cpus
