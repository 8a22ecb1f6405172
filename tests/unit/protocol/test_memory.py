# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The answer to get_memory_info: what it leaves out when it would be too long, and that it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epa_orchestrator.protocol.answers import MemoryAnswer, NodeHugepages, PageCapacity
from epa_orchestrator.protocol.memory import MAX_BYTES, NodePart, encode_memory

SIZES = (2048, 524288, 16777216)


def node(node_id: int, pages: dict[int, int], records: bytes = b"{}") -> NodePart:
    """A node with these total pages by size."""
    capacity = [PageCapacity(total=total, free=total, size=size) for size, total in pages.items()]
    return NodePart(node_id, capacity, records)


def without_pages(node_ids: range) -> list[NodePart]:
    """Nodes that have three sizes, and no pages of them."""
    return [node(node_id, dict.fromkeys(SIZES, 0)) for node_id in node_ids]


def told(nodes: list[NodePart], recorded: dict[tuple[int, int], int] | None = None, **more: Any) -> dict[str, Any]:
    name, problem, warnings = more.get("name", ""), more.get("state_error"), more.get("warnings", ())
    encoded = encode_memory(name, nodes, recorded or {}, problem, warnings)
    document = json.loads(encoded)
    assert len(encoded) <= MAX_BYTES
    MemoryAnswer.model_validate_json(encoded)
    return document


@pytest.mark.parametrize("problem", [None, "unreadable"])
def test_the_bytes_are_those_of_the_model(problem: str | None) -> None:
    part = node(0, {2048: 64}, b'{"a":{"2048":4}}')
    nodes = {"node0": NodeHugepages(capacity=list(part.capacity), allocations={"a": {"2048": 4}})}
    answer = MemoryAnswer(service_name="a", numa_hugepages=nodes, state_error=problem, warnings=("b",))
    assert encode_memory("a", [part], {}, problem, ("b",)) == answer.encode()


def test_an_answer_that_fits_is_whole() -> None:
    answer = told([node(0, {2048: 0, 1048576: 0}), node(1, {})])
    assert answer["numa_hugepages"] == {
        "node0": {
            "capacity": [{"total": 0, "free": 0, "size": 2048}, {"total": 0, "free": 0, "size": 1048576}],
            "allocations": {},
        },
        "node1": {"capacity": [], "allocations": {}},
    }
    assert "left_out" not in answer


def test_sizes_without_pages_are_left_out_first() -> None:
    answer = told([node(0, dict.fromkeys(SIZES, 4)), *without_pages(range(1, 34))])
    assert answer["left_out"] == {"sizes_kb": {str(size): "1-33" for size in SIZES}, "nodes": ""}
    assert answer["numa_hugepages"]["node1"] == {"capacity": [], "allocations": {}}
    assert [each["size"] for each in answer["numa_hugepages"]["node0"]["capacity"]] == list(SIZES)


def test_nodes_without_any_pages_are_left_out_next() -> None:
    answer = told([node(0, {2048: 4, 1048576: 0}), *without_pages(range(1, 600))])
    assert answer["left_out"] == {"sizes_kb": {"1048576": "0"}, "nodes": "1-599"}
    assert answer["numa_hugepages"].keys() == {"node0"}


def test_a_recorded_size_without_pages_stays() -> None:
    parts = [node(0, {2048: 0, 1048576: 0}, b'{"a":{"2048":4}}'), *without_pages(range(1, 34))]
    answer = told(parts, {(0, 2048): 4})
    assert answer["left_out"]["sizes_kb"]["1048576"] == "0"
    assert answer["numa_hugepages"]["node0"]["capacity"] == [{"total": 0, "free": 0, "size": 2048}]


def test_a_node_with_records_stays() -> None:
    parts = [*without_pages(range(600)), node(700, {}, b'{"a":{"2048":4}}')]
    answer = told(parts, {(700, 2048): 4})
    assert answer["numa_hugepages"] == {"node700": {"capacity": [], "allocations": {"a": {"2048": 4}}}}


def test_a_long_name_and_a_state_error_count() -> None:
    parts = without_pages(range(16))
    assert "left_out" not in told(parts)
    assert "left_out" in told(parts, name="\N{GRINNING FACE}" * 255, state_error="x" * 1000, warnings=["y" * 200])


def test_records_of_many_services_are_never_left_out() -> None:
    records = json.dumps({f"service-{number}": {"2048": 1} for number in range(400)}).encode()
    encoded = encode_memory("", [node(0, {2048: 400}, records), node(1, {2048: 0})], {(0, 2048): 400}, None)
    document = json.loads(encoded)
    assert len(document["numa_hugepages"]["node0"]["allocations"]) == 400
    assert document["left_out"] == {"sizes_kb": {}, "nodes": "1"}
