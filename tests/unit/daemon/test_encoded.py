# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Encoded: the parts of claims in a listing are encoded once per change, in order."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.encoded import ClaimParts, PageParts, Parts, RecordParts, encode_claim_part
from epa_orchestrator.protocol.answers import Allocation
from tests.unit.daemon.hosts import host


def claim(service: str, cpus: str, **fields: Any) -> Claim:
    return Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy", **fields)


@pytest.mark.parametrize("withheld", ["", "5", "9"])
def test_a_part_is_what_the_model_of_a_listing_makes_of_it(withheld: str) -> None:
    shown = Allocation(
        service_name='"ü\N{GRINNING FACE}',
        pool="isolated",
        allocated_cores="1-3",
        cores_count=3,
        is_explicit=False,
        preemption_policy="legacy",
        withheld_cpus="5" if withheld == "5" else None,
    )
    part = encode_claim_part(claim(shown.service_name, "1-3", withheld=CpuSet.parse(withheld)), CpuSet.parse("0-7"))
    assert part == shown.model_dump_json(exclude_none=True).encode()


def test_withheld_cpus_are_encoded_again_only_where_pools_changed() -> None:
    at = host(cpu_thread_policy="isolate")
    claims = {
        name: claim(name, own, withheld=CpuSet.parse(other)) for name, own, other in (("a", "1", "5"), ("b", "2", "6"))
    }
    parts = ClaimParts()
    parts.use(claims, at.pools().configured)
    a, b = parts.of_pool("isolated").in_order()
    parts.use(claims, at.pools().configured - CpuSet.parse("6"))
    after = parts.of_pool("isolated").in_order()
    assert after[0] is a
    assert (b'"withheld_cpus":"6"' in b, b"withheld_cpus" in after[1]) == (True, False)


def test_cpus_that_join_the_pools_are_shown_as_withheld_in_steps() -> None:
    claims = {f"s{n}": claim(f"s{n}", f"{2 * n}", withheld=CpuSet([2 * n + 1])) for n in range(250)}
    parts, fresh = ClaimParts(), ClaimParts()
    every, odd = CpuSet(range(500)), CpuSet(range(1, 500, 2))
    parts.use(claims, every)
    steps = 1
    while not parts.use(claims, every - odd, 100):
        steps += 1
    fresh.use(claims, every - odd)
    assert steps == 3
    assert parts.of_pool("isolated").in_order() == fresh.of_pool("isolated").in_order()


def test_parts_are_in_the_order_of_the_services() -> None:
    parts = Parts()
    for service in ("m", "b", "z"):
        parts.put(service, service.encode())
    parts.put("b", None)
    parts.put("a", b"a")
    parts.put("m", b"M")
    assert (parts.services(), parts.in_order()) == (["a", "m", "z"], [b"a", b"M", b"z"])


def test_a_hugepage_record_is_encoded_under_its_node() -> None:
    parts = PageParts()
    assert parts.use({"a": {(0, 2048): 4, (1, 1048576): 1}, "b": {(0, 2048): 2}})
    assert parts.nodes == {0, 1}
    assert parts.of_node(0) == b'{"a":{"2048":4},"b":{"2048":2}}'
    assert parts.of_node(1) == b'{"a":{"1048576":1}}'


def test_a_node_without_records_is_forgotten() -> None:
    parts = PageParts()
    parts.use({"a": {(3, 2048): 4}})
    parts.use({})
    assert (parts.nodes, parts.of_node(3)) == (set(), b"{}")


def test_records_are_encoded_by_service() -> None:
    parts = RecordParts()
    assert parts.use({"b": {(1, 4): 1, (0, 2048): 2}, '"': {(0, 4): 3}})
    assert parts.joined() == (
        b'{"\\"":[{"node_id":0,"size_kb":4,"hugepages":3}],'
        b'"b":[{"node_id":0,"size_kb":2048,"hugepages":2},{"node_id":1,"size_kb":4,"hugepages":1}]}'
    )
    assert parts.joined() is parts.joined()
    parts.use({})
    assert parts.joined() == b"{}"


def test_records_are_encoded_in_parts() -> None:
    parts, pages = RecordParts(), {f"s{number}": {(0, 4): number} for number in range(1, 6)}
    assert [parts.use(pages, 2) for _ in range(3)] == [False, False, True]
    assert parts.joined().count(b"node_id") == 5
