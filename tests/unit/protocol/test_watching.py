# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watching: each line is one JSON object that its model reads, and ends with a newline."""

from __future__ import annotations

import json

import pytest

from epa_orchestrator.protocol.answers import Allocation, Listing, ListingHead, PageRecord, PoolSummary
from epa_orchestrator.protocol.watching import (
    ClaimEvent,
    HugepagesEvent,
    MachineEvent,
    PoolState,
    StateEvent,
    encode,
    encode_claim,
    encode_state,
)

SUMMARY = PoolSummary(source="isolated", configured_cpus="2-3", eligible_cpus="2", unavailable_allocated_cpus="")


def allocation(cpus: str) -> Allocation:
    return Allocation(
        service_name='"ü', pool="isolated", allocated_cores=cpus, cores_count=1, is_explicit=False,
        preemption_policy="legacy",
    )  # fmt: skip


def listing(pool: str) -> bytes:
    head = ListingHead.model_validate(
        {
            "pool": pool,
            "total_allocations": 0,
            "total_allocated_cpus": 0,
            "total_available_cpus": 1,
            "remaining_available_cpus": 1,
            "cpu_pool": SUMMARY,
        }
    )
    return head.encode_with([])


def test_the_first_line_is_a_listing_with_the_other_pool_in_it() -> None:
    records = b'{"a":[{"node_id":1,"size_kb":4,"hugepages":2}]}'
    line = encode_state(listing("isolated"), listing("general"), records, ("look at this",))
    assert line.startswith(b'{"event":"state","version":"1.0",')
    assert line.count(b"\n") == 1
    state = StateEvent.model_validate_json(line)
    assert (state.pool, state.warnings) == ("isolated", ("look at this",))
    assert state.other_pool == Listing.model_validate_json(listing("general"))
    assert state.hugepages == {"a": [PageRecord(node_id=1, size_kb=4, hugepages=2)]}


def test_the_first_line_has_no_other_pool_where_there_is_none() -> None:
    assert "other_pool" not in json.loads(encode_state(listing("isolated"), None, b"{}", ()))


@pytest.mark.parametrize("before", ["2", None])
@pytest.mark.parametrize("after", ["3", None])
@pytest.mark.parametrize("taken_by", ["ö", None])
@pytest.mark.parametrize("others", [0, 7])
def test_the_line_of_a_claim_is_what_its_model_reads(
    before: str | None, after: str | None, taken_by: str | None, others: int
) -> None:
    was, now = (None if cpus is None else allocation(cpus) for cpus in (before, after))
    parts = [None if each is None else each.model_dump_json(exclude_none=True).encode() for each in (was, now)]
    line = encode_claim('"ü', parts[0], parts[1], {'"x': "3"}, others=others, taken_by=taken_by)
    assert line.endswith(b"}\n")
    assert ("taken_by" in json.loads(line)) == (taken_by is not None)
    assert ("taken_from_others" in json.loads(line)) == (others > 0)
    assert ClaimEvent.model_validate_json(line) == ClaimEvent(
        event="claim",
        service_name='"ü',
        before=was,
        after=now,
        taken_from={'"x': "3"},
        taken_from_others=others,
        taken_by=taken_by,
    )


def test_the_line_of_a_record() -> None:
    event = HugepagesEvent(event="hugepages", service_name="a", node_id=1, size_kb=2048, before=0, after=3)
    assert encode(event) == (
        b'{"event":"hugepages","service_name":"a","node_id":1,"size_kb":2048,"before":0,"after":3}\n'
    )


def test_the_line_of_the_machine_leaves_out_what_does_not_apply() -> None:
    pool = PoolState(total_available_cpus=1, remaining_available_cpus=1, cpu_pool=SUMMARY, outdated_placements=())
    event = MachineEvent(event="machine", online_cpus="0-2", isolated_cpus="2-3", pools={"isolated": pool})
    line = json.loads(encode(event))
    assert list(line) == ["event", "online_cpus", "isolated_cpus", "pools"]
    assert MachineEvent.model_validate(line, strict=False) == event
