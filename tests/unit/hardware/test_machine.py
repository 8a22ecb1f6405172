# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Machine: the distances between nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.machine import NumaNode, with_siblings
from tests.machines import made_up, synthetic
from tools.synthetic import Shape


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


def test_siblings_are_added_and_a_cpu_without_a_known_core_stays() -> None:
    cores = {0: 0b0101, 2: 0b0101, 1: 0b1010, 3: 0b1010}
    assert with_siblings(0b10001, cores) == 0b10101
    assert with_siblings(0, cores) == 0
