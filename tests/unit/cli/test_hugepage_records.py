# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Services that hold hugepages and no CPUs are found, and what they hold is said in words."""

from __future__ import annotations

from epa_orchestrator.cli.hugepage_records import only_hugepages
from epa_orchestrator.protocol.answers import MemoryAnswer, NodeHugepages


def memory(**nodes: dict[str, dict[str, int]]) -> MemoryAnswer:
    found = {name: NodeHugepages(capacity=[], allocations=records) for name, records in nodes.items()}
    return MemoryAnswer(service_name="", numa_hugepages=found)


def test_services_with_cpus_are_left_out() -> None:
    found = memory(node0={"nova": {"2048": 4}, "hp": {"2048": 1}})
    assert only_hugepages(found, {"nova"}) == {"hp": "1 x 2M on NUMA node 0"}


def test_records_of_all_nodes_and_sizes_are_named() -> None:
    found = memory(node0={"hp": {"2048": 1, "1048576": 2}}, node3={"hp": {"2048": 5}})
    assert only_hugepages(found, ()) == {"hp": "1 x 2M on NUMA node 0, 2 x 1G on NUMA node 0, 5 x 2M on NUMA node 3"}


def test_services_are_in_natural_order() -> None:
    assert [*only_hugepages(memory(node0={"vm-10": {"2048": 1}, "vm-2": {"2048": 1}}), ())] == ["vm-2", "vm-10"]
