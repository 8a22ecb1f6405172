# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Promised hugepages count on a node as far as the other nodes have no free pages for them."""

from __future__ import annotations

import pytest

from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.promised import count_by_node, count_of_size, count_on_node, find_unreadable
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tools.synthetic import Shape, build

NODES = (0, 1, 2)
#: 64 and 32 pages of 2 MiB, some of them free, and 4 of 1 GiB; node 2 has no size at all.
SHAPE = Shape(
    packages=3,
    cores_per_l3=2,
    hugepages={},
    node_hugepages={0: {2048: (64, 60), 1048576: (4, 4)}, 1: {2048: (32, 20)}},
)


def sysfs(promised: dict[int, int]) -> RecordedSysfs:
    files = build(SHAPE)
    for size, count in promised.items():
        files[f"kernel/mm/hugepages/hugepages-{size}kB/resv_hugepages"] = str(count)
    return RecordedSysfs(files)


@pytest.mark.parametrize(
    ("promised", "node_0", "node_1"),
    [
        (0, 0, 0),
        (20, 0, 0),  # node 1 can provide all of them
        (21, 1, 0),
        (60, 40, 0),
        (70, 50, 10),
        (80, 60, 20),
        (1000, 980, 940),  # more than there are: the kernel's counts may be of different moments
    ],
)
def test_promised_pages_count_where_no_other_node_can_provide_them(promised: int, node_0: int, node_1: int) -> None:
    counts = count_by_node(sysfs({2048: promised}), NODES)
    assert counts == {
        0: (Hugepages(2048, 64, 60, node_0), Hugepages(1048576, 4, 4)),
        1: (Hugepages(2048, 32, 20, node_1),),
        2: (),
    }


def test_one_node_counts_as_all_nodes_do() -> None:
    tree = sysfs({2048: 70, 1048576: 1})
    assert {node_id: count_on_node(tree, node_id, NODES) for node_id in NODES} == count_by_node(tree, NODES)


def test_a_size_that_only_one_node_has_is_promised_there() -> None:
    assert count_of_size(sysfs({1048576: 3}), 0, 1048576, NODES) == Hugepages(1048576, 4, 4, 3)


def test_a_size_that_a_node_does_not_have_is_none() -> None:
    assert count_of_size(sysfs({1048576: 3}), 1, 1048576, NODES) is None


def test_a_kernel_without_numa_promises_pages_of_its_one_node() -> None:
    pages = "kernel/mm/hugepages/hugepages-2048kB"
    files = {f"{pages}/nr_hugepages": "8", f"{pages}/free_hugepages": "6", f"{pages}/resv_hugepages": "2"}
    tree = RecordedSysfs(files)
    assert count_of_size(tree, 0, 2048, (0,)) == Hugepages(2048, 8, 6, 2)
    assert count_by_node(tree, (0,)) == {0: (Hugepages(2048, 8, 6, 2),)}


def test_sizes_with_pages_whose_promised_ones_are_hidden_are_found() -> None:
    files = build(SHAPE)
    del files["kernel/mm/hugepages/hugepages-1048576kB/resv_hugepages"]
    assert find_unreadable(RecordedSysfs(files), NODES) == [1048576]
    assert find_unreadable(sysfs({}), NODES) == []
