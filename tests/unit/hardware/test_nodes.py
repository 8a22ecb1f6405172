# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""NUMA nodes are found by list, by directory, by number and by CPU, and a host is one node only without NUMA."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.cpu_files import MachineError
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.nodes import can_list_nodes, node_cpus, read_nodes
from epa_orchestrator.hardware.sysfs import CUT, RecordedSysfs
from tools.synthetic import Shape, build

CPU, NODE = "devices/system/cpu", "devices/system/node"

#: Node 0 has CPUs 0-1, node 1 has CPUs 2-3, node 2 has memory only.
FILES = build(Shape(packages=2, cores_per_l3=2, memory_only_nodes=1))
LINKS = {f"{CPU}/cpu{cpu}": [f"node{cpu // 2}", "topology"] for cpu in range(4)}
ALL = CpuSet(range(4))


def without(*parts: str) -> dict[str, str]:
    return {path: text for path, text in FILES.items() if not any(part in path for part in parts)}


def nodes(sysfs: RecordedSysfs) -> dict[int, str]:
    return {node.id: str(node.cpus) for node in read_nodes(sysfs, ALL, ALL)}


@pytest.mark.parametrize(
    "sysfs",
    [
        RecordedSysfs(FILES),
        RecordedSysfs(without("node/online")),
        RecordedSysfs(FILES, hidden=[NODE]),
        RecordedSysfs(without("node/online"), {NODE: ["online"]}, hidden=[NODE]),
        RecordedSysfs(without("node/online"), LINKS, hidden=[NODE, CPU]),
    ],
    ids=["listed", "without the list", "directory hidden", "directory and list hidden", "both directories hidden"],
)
def test_all_nodes_are_found(sysfs: RecordedSysfs) -> None:
    assert nodes(sysfs) == {0: "0-1", 1: "2-3", 2: ""}


def test_node_outside_of_the_kernels_list_is_offline() -> None:
    assert nodes(RecordedSysfs(FILES | {f"{NODE}/online": "0-1"})) == {0: "0-1", 1: "2-3"}


def test_listed_node_without_directory_is_left_out() -> None:
    assert nodes(RecordedSysfs(FILES | {f"{NODE}/online": "0-3"})) == {0: "0-1", 1: "2-3", 2: ""}


@pytest.mark.parametrize("hidden", [False, True], ids=["CPU directories listed", "CPU directories hidden"])
def test_cpus_lead_to_nodes_whose_files_are_hidden(hidden: bool) -> None:
    sysfs = RecordedSysfs(
        without("system/node"), {"devices/system": ["node"]} | LINKS, hidden=[NODE, *(LINKS if hidden else ())]
    )
    assert nodes(sysfs) == {0: "0-1", 1: "2-3"}


def test_node_with_a_hidden_list_has_the_cpus_that_lead_to_it() -> None:
    sysfs = RecordedSysfs(without("node1/cpulist"), LINKS, hidden=[f"{NODE}/node1"])
    assert nodes(sysfs) == {0: "0-1", 1: "2-3", 2: ""}


def test_cpu_in_no_node_stays_in_none() -> None:
    links = LINKS | {f"{CPU}/cpu3": ["topology"]}
    sysfs = RecordedSysfs(without("system/node"), {"devices/system": ["node"]} | links, hidden=[NODE])
    assert nodes(sysfs) == {0: "0-1", 1: "2"}


def test_kernel_without_numa_has_one_node() -> None:
    assert nodes(RecordedSysfs(without("system/node"))) == {0: "0-3"}


@pytest.mark.parametrize(
    "sysfs",
    [
        RecordedSysfs(without("system/node"), {"devices/system": ["node"]}),
        RecordedSysfs(without("system/node"), {"devices/system": ["node"]}, hidden=[NODE]),
        RecordedSysfs(without("system/node"), hidden=[NODE]),
    ],
    ids=["empty directory", "hidden directory", "unknown directory"],
)
def test_host_whose_nodes_are_unknown_is_not_one_node(sysfs: RecordedSysfs) -> None:
    assert nodes(sysfs) == {}


def test_links_of_cpus_count_where_the_directory_of_nodes_is_missing() -> None:
    assert nodes(RecordedSysfs(without("system/node"), LINKS)) == {0: "0-1", 1: "2-3"}


@pytest.mark.parametrize(
    ("text", "sentence"), [(f"0-1,{CUT}", "node/online is cut short"), ("0-x", "node/online is not a list of nodes")]
)
def test_damaged_list_of_nodes_is_an_error(text: str, sentence: str) -> None:
    with pytest.raises(MachineError, match=sentence):
        read_machine(RecordedSysfs(FILES | {f"{NODE}/online": text}))


@pytest.mark.parametrize(
    ("files", "entries", "cpus"),
    [
        ({f"{NODE}/node1/cpulist": "2-3"}, {}, "2-3"),
        ({f"{NODE}/node1/cpumap": "c"}, {}, "2-3"),
        ({}, {f"{NODE}/node1": ["cpu2", "cpu3", "cpumap"]}, "2-3"),
        ({}, {}, ""),
    ],
    ids=["list", "mask", "links", "nothing"],
)
def test_cpus_of_a_node(files: dict[str, str], entries: dict[str, list[str]], cpus: str) -> None:
    assert str(node_cpus(RecordedSysfs(files, entries), 1)) == cpus


def test_cpus_of_a_hidden_node_are_unknown() -> None:
    assert node_cpus(RecordedSysfs({}, hidden=[f"{NODE}/node1"]), 1) is None


@pytest.mark.parametrize(
    ("sysfs", "expected"),
    [
        (RecordedSysfs(FILES), True),
        (RecordedSysfs({}), True),
        (RecordedSysfs(FILES, hidden=[NODE]), True),
        (RecordedSysfs(without("node/online"), hidden=[NODE]), False),
    ],
    ids=["listed", "no NUMA", "list only", "hidden"],
)
def test_nodes_can_be_listed(sysfs: RecordedSysfs, expected: bool) -> None:
    assert can_list_nodes(sysfs) == expected
