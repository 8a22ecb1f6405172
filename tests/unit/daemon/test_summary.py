# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Summary: the domains that a claim's CPUs are in, counted."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.summary import summarize
from epa_orchestrator.placement.topology import build_topology
from epa_orchestrator.protocol.answers import Placement
from tests.machines import made_up, synthetic
from tools.synthetic import Shape

# Package/node 0: L3 {0,1,8,9}, L3 {2,3,10,11};  package/node 1: L3 {4,5,12,13}, L3 {6,7,14,15}; siblings 8 apart.
EIGHT_CORES = Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2)


@pytest.mark.parametrize(
    ("cpus", "own_or_free", "nodes", "counts"),
    [
        # Packages, L3 domains, whole and shared cores.
        ("0-1,8", "0-15", "0", (1, 1, 1, 0)),  # 9 is free
        ("0-1,8", "0-8,10-15", "0", (1, 1, 1, 1)),  # 9 is another service's
        ("0,2,4,8", "0-15", "0-1", (2, 3, 1, 0)),
        ("", "0-15", "", (0, 0, 0, 0)),
    ],
)
def test_summary(cpus: str, own_or_free: str, nodes: str, counts: tuple[int, int, int, int]) -> None:
    topology = build_topology(made_up(EIGHT_CORES), CpuSet(range(16)), EMPTY)
    found = summarize(topology, CpuSet.parse(cpus), CpuSet.parse(own_or_free))
    names = ("packages", "l3_domains", "whole_cores", "shared_cores")
    assert found == Placement(numa_nodes=nodes, **dict(zip(names, counts, strict=True)))


def test_a_cpu_in_no_node_adds_no_node() -> None:
    machine = synthetic("offline-node")  # the even CPUs are in no node
    topology = build_topology(machine, machine.online, EMPTY)
    found = summarize(topology, CpuSet([4, 5]), machine.online)
    assert (found.numa_nodes, found.nodeless_cpus) == ("1", 1)
