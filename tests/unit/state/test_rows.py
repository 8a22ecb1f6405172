"""Rows: claims and records survive a round trip, and derived values are not written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.machine import Seen
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from epa_orchestrator.state import rows

CLAIM = Claim("a", "isolated", CpuSet.parse("2-3"), CpuSet.parse("2"), "legacy")


@pytest.mark.parametrize(
    "claim",
    [
        CLAIM,
        replace(CLAIM, service="Ünïcode 服务", pool="general", preemption_policy="non-preemptive"),
        replace(CLAIM, alone=CpuSet.parse("3"), placed_by=PlacementPolicy(cpu_thread_policy="isolate")),
        replace(CLAIM, wishes=Wishes(near=0)),
        replace(CLAIM, withheld=CpuSet.parse("10")),  # of a database from before `alone` was kept
    ],
)
def test_a_claim_comes_back(claim: Claim) -> None:
    assert rows.claim_of(rows.claim_row(claim)) == claim


def test_withheld_cpus_are_derived_and_not_written() -> None:
    alone = replace(CLAIM, alone=CpuSet.parse("3"))
    assert rows.claim_row(replace(alone, withheld=CpuSet.parse("11"))) == rows.claim_row(alone)
    assert rows.claim_row(alone)[-1] == '{"alone": "3"}'


def test_a_claim_placed_by_default_says_nothing_of_it() -> None:
    assert rows.claim_row(CLAIM) == ("a", "isolated", "2-3", "2", "legacy", "")


def test_a_row_of_a_database_without_placements_is_a_claim() -> None:
    assert rows.claim_of(rows.claim_row(CLAIM)[:-1]) == CLAIM


def test_the_history_shows_withheld_cpus() -> None:
    told = json.loads(rows.claim_json(replace(CLAIM, withheld=CpuSet.parse("10-11"))) or "")
    assert told == {"pool": "isolated", "cpus": "2-3", "explicit": "2", "policy": "legacy", "withheld": "10-11"}
    assert rows.claim_json(None) is None


def test_pages() -> None:
    assert rows.pages_row("a", (0, 2048), 4) == ("a", 0, 2048, 4)
    assert json.loads(rows.pages_json((0, 2048), 4) or "") == {"node_id": 0, "size_kb": 2048, "hugepages": 4}
    assert (rows.pages_row("a", (0, 2048), 0), rows.pages_json((0, 2048), 0)) == (None, None)


def test_seen_cpus_survive_a_round_trip() -> None:
    seen = Seen({0: CpuSet.parse("0-1,8-9"), 2: CpuSet()}, {1: 0b1000000010, 9: 0b1000000010})
    assert rows.seen_texts(seen) == {"nodes": '{"0": "0-1,8-9", "2": ""}', "cores": '["1,9"]'}
    assert rows.seen_of(rows.seen_texts(seen)) == seen
    assert rows.seen_of({}) == Seen()


@pytest.mark.parametrize(
    "texts",
    [
        {"nodes": "[]"},
        {"nodes": "5"},
        {"nodes": '{"0": 1}'},
        {"nodes": "{"},
        {"cores": "5"},
        {"cores": "[5]"},
        {"cores": '["x"]'},
    ],
)
def test_what_says_in_another_form_where_cpus_were_seen_is_refused(texts: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # several sentences
        rows.seen_of(texts)


def test_checksums_tell_rows_apart_and_none_is_zero() -> None:
    assert rows.checksum(None) == 0
    # Worked out with blake2b of a digest of 7 bytes, outside of this project.
    assert rows.checksum(("a", "isolated", "2-3", "2", "legacy")) == 21833069709260625
    assert rows.checksum(("a", 1)) != rows.checksum(("a", 2))
