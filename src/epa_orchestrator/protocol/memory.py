# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Memory: the bytes of the answer to get_memory_info, made short enough for one recv(4096) if that is possible.

Hosts exist with dozens of NUMA nodes that have no memory for hugepages. An answer that would be too long leaves out
first the sizes of which a node has no pages, and then the nodes without any, and says so in `left_out`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pydantic_core import to_json

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.protocol.answers import LeftOut, PageCapacity, add_warnings
from epa_orchestrator.protocol.fields import VERSION

#: The longest answer (bytes) that shipped clients can read.
MAX_BYTES: Final = 4095


class NodePart(NamedTuple):
    """The hugepages of one NUMA node; `records` are its `allocations` on the wire."""

    node_id: int
    capacity: Sequence[PageCapacity]
    records: bytes


class _Left(NamedTuple):
    """What is left of the nodes, and what is not: by size in KiB the nodes that lack it, and the missing nodes."""

    nodes: Sequence[NodePart]
    sizes_kb: Mapping[int, CpuSet]
    missing: CpuSet


def encode_memory(
    service_name: str,
    nodes: Iterable[NodePart],
    recorded: Mapping[tuple[int, int], int],
    state_error: str | None,
    warnings: Sequence[str] = (),
) -> bytes:
    """The bytes of a `MemoryAnswer`. `recorded` are the recorded pages by node and size in KiB: these sizes stay."""

    def encode(left: _Left) -> bytes:
        return add_warnings(_encode(service_name, left, state_error), warnings)

    left = _Left([*nodes], {}, EMPTY)
    answer = encode(left)
    if len(answer) > MAX_BYTES:
        left = _without_sizes(left.nodes, recorded)
        answer = encode(left)
    return answer if len(answer) <= MAX_BYTES else encode(_without_nodes(left))


def _without_sizes(nodes: Sequence[NodePart], recorded: Mapping[tuple[int, int], int]) -> _Left:
    """The nodes without the sizes of which they have no pages and no records."""
    shorter: list[NodePart] = []
    sizes_kb: dict[int, CpuSet] = {}
    for node in nodes:
        empty = {each.size for each in node.capacity if not each.total and (node.node_id, each.size) not in recorded}
        shorter.append(node._replace(capacity=[each for each in node.capacity if each.size not in empty]))
        for size in empty:
            sizes_kb[size] = sizes_kb.get(size, EMPTY) | CpuSet([node.node_id])
    return _Left(shorter, dict(sorted(sizes_kb.items())), EMPTY)


def _without_nodes(left: _Left) -> _Left:
    """What is left without the nodes that have neither pages nor records; they are named once, as nodes."""
    kept = [node for node in left.nodes if node.capacity or node.records != b"{}"]
    missing = CpuSet([node.node_id for node in left.nodes]) - CpuSet([node.node_id for node in kept])
    sizes_kb = {size: nodes - missing for size, nodes in left.sizes_kb.items() if nodes - missing}
    return _Left(kept, sizes_kb, missing)


def _encode(service_name: str, left: _Left, state_error: str | None) -> bytes:
    members = [
        b'"node%d":{"capacity":%b,"allocations":%b}' % (node_id, to_json(capacity), records)
        for node_id, capacity, records in left.nodes
    ]
    head = b'{"version":%b,"service_name":%b,"numa_hugepages":{' % (to_json(VERSION), to_json(service_name))
    parts = [head, b",".join(members), b"}"]
    if left.sizes_kb or left.missing:
        sizes_kb = {str(size): str(nodes) for size, nodes in left.sizes_kb.items()}
        parts.append(b',"left_out":' + to_json(LeftOut(sizes_kb=sizes_kb, nodes=str(left.missing))))
    if state_error is not None:
        parts.append(b',"state_error":' + to_json(state_error))
    return b"".join((*parts, b"}"))
