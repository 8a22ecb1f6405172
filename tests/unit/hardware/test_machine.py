# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Machine: the cores that offline CPUs were in, and the distances between nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.machine import NumaNode
from tests.machines import made_up, synthetic
from tools.synthetic import Shape


def test_an_offline_cpu_stays_in_the_core_that_it_was_seen_in() -> None:
    before = made_up(Shape(cores_per_l3=2, threads_per_core=2)).known_cores()
    after = made_up(Shape(cores_per_l3=2, threads_per_core=2, offline="3")).known_cores(before)
    assert after == before == {0: 0b0101, 2: 0b0101, 1: 0b1010, 3: 0b1010}


def test_a_core_whose_threads_are_in_several_cores_now_is_forgotten() -> None:
    """Another machine, on which CPUs 1 and 2 are offline; each CPU is in one core, in whatever order one looks."""
    before = made_up(Shape(cores_per_l3=2, threads_per_core=4, siblings="adjacent")).known_cores()
    after = made_up(Shape(cores_per_l3=4, threads_per_core=2, offline="1,2")).known_cores(before)
    assert {cpu: str(CpuSet.from_mask(threads)) for cpu, threads in after.items()} == {
        0: "0,4",
        4: "0,4",
        3: "3,7",
        7: "3,7",
    }


@pytest.mark.parametrize(("other", "distance"), [(1, 10), (0, 20)])
def test_distance_of_a_row_of_another_length_is_the_kernels_default(other: int, distance: int) -> None:
    machine = synthetic("offline-node")
    assert (machine.node_ids, machine.nodes[0].distances) == ((1,), (21, 10))
    assert machine.distance(1, other) == distance


@pytest.mark.parametrize(("node", "other", "distance"), [(0, 0, 10), (0, 73, 22), (33, 73, 17), (73, 33, 16)])
def test_distance_with_gaps_in_the_node_ids(node: int, other: int, distance: int) -> None:
    rows = {0: (10, 16, 22), 33: (16, 10, 17), 73: (22, 16, 10)}
    nodes = tuple(NumaNode(node_id, CpuSet([place]), row) for place, (node_id, row) in enumerate(rows.items()))
    assert replace(made_up(Shape()), nodes=nodes).distance(node, other) == distance
