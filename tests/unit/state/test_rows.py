# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Rows: claims and records come back as they were, and derived values are not written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from epa_orchestrator.state import rows
from tests.unit.state.builders import claim

CLAIM = claim("a", "2-3", "2")


@pytest.mark.parametrize(
    "each",
    [
        CLAIM,
        replace(CLAIM, service="Ünïcode 服务", pool="general", preemption_policy="non-preemptive"),
        replace(CLAIM, alone=CpuSet.parse("3"), placed_by=PlacementPolicy(cpu_thread_policy="isolate")),
        replace(CLAIM, wishes=Wishes(near=0)),
        replace(CLAIM, wishes=Wishes(numa_policy="restricted", near=0)),
        replace(CLAIM, placed_by=PlacementPolicy("none", "spread", False, "none", "share", "cores", "performance", 2)),
        replace(CLAIM, withheld=CpuSet.parse("10")),  # of a database from before `alone` was kept
    ],
)
def test_a_claim_comes_back(each: Claim) -> None:
    assert rows.claim_of(rows.claim_row(each)) == each


def test_withheld_cpus_are_derived_and_not_written() -> None:
    alone = replace(CLAIM, alone=CpuSet.parse("3"))
    assert rows.claim_row(replace(alone, withheld=CpuSet.parse("11"))) == rows.claim_row(alone)
    assert rows.claim_row(alone)[-1] == '{"alone": "3"}'


def test_a_claim_placed_by_default_has_an_empty_placement() -> None:
    assert rows.claim_row(CLAIM) == ("a", "isolated", "2-3", "2", "legacy", "")


def test_a_row_without_a_placement_is_a_claim() -> None:
    assert rows.claim_of(rows.claim_row(CLAIM)[:-1]) == CLAIM


def claim_placed(record: dict[str, object]) -> Claim:
    """The claim in a row with this record of its placement."""
    return rows.claim_of((*rows.claim_row(CLAIM)[:-1], json.dumps(record)))


def test_an_empty_record_is_a_placement_by_default() -> None:
    assert claim_placed({}) == claim_placed({"policy": {}, "wishes": {}}) == CLAIM


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("numa_policy", "strict"),
        ("numa_policy", True),
        ("cpu_thread_policy", ""),
        ("near", "0"),
        ("near", True),
        ("prefer_closest_numa_nodes", 1),
        ("color", "red"),
    ],
)
def test_a_policy_with_an_unknown_value_is_refused(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^the claim of service 'a': '{option}' cannot be {value!r}$"):
        claim_placed({"policy": {option: value}})


@pytest.mark.parametrize("option", ["numa_allocation_strategy", "prefer_core_type", "cpu_distribution"])
def test_a_wish_for_an_option_of_the_operator_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"'{option}' cannot be"):
        claim_placed({"wishes": {option: getattr(PlacementPolicy(), option)}})


@pytest.mark.parametrize("wishes", [[], ["none"], "none", 1, None])
def test_wishes_that_are_no_object_are_refused(wishes: object) -> None:
    with pytest.raises(ValueError, match=r"^the claim of service 'a': 'wishes' cannot be"):
        claim_placed({"wishes": wishes})


def test_a_member_that_a_later_daemon_may_add_is_ignored() -> None:
    assert claim_placed({"reason": "unknown here"}) == CLAIM


def test_the_history_shows_withheld_cpus() -> None:
    shown = json.loads(rows.claim_json(replace(CLAIM, withheld=CpuSet.parse("10-11"))) or "")
    assert shown == {"pool": "isolated", "cpus": "2-3", "explicit": "2", "policy": "legacy", "withheld": "10-11"}
    assert rows.claim_json(None) is None


def test_a_hugepage_record_is_a_row_and_a_line_of_the_history() -> None:
    assert rows.pages_row("a", (0, 2048), 4) == ("a", 0, 2048, 4)
    assert json.loads(rows.pages_json((0, 2048), 4) or "") == {"node_id": 0, "size_kb": 2048, "hugepages": 4}


def test_no_pages_have_no_row() -> None:
    assert (rows.pages_row("a", (0, 2048), 0), rows.pages_json((0, 2048), 0)) == (None, None)


def test_seen_cpus_come_back() -> None:
    seen = LastSeen({0: CpuSet.parse("0-1,8-9"), 2: CpuSet()}, tuple(map(CpuSet.parse, ("2,10", "1,9"))))
    assert rows.seen_texts(seen) == {"nodes": '{"0": "0-1,8-9", "2": ""}', "cores": '["2,10", "1,9"]'}
    assert rows.seen_of(rows.seen_texts(seen)) == seen
    assert rows.seen_of({}) == LastSeen()


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
        {"cores": '["\\ud800"]'},
    ],
)
def test_seen_cpus_in_an_unknown_form_are_refused(texts: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # several sentences
        rows.seen_of(texts)


def test_the_checksum_of_no_row_is_zero() -> None:
    assert rows.checksum(None) == 0


def test_checksums_of_different_rows_differ() -> None:
    assert rows.checksum(("a", 1)) != rows.checksum(("a", 2))


def test_a_checksum_is_stable() -> None:
    # Worked out with blake2b of a digest of 7 bytes, outside of this project.
    assert rows.checksum(("a", "isolated", "2-3", "2", "legacy")) == 21833069709260625


# --- who takes CPUs from whom ---


def records(*changes: ClaimChange) -> list[tuple[Any, Any]]:
    """What the history holds of each change, before and after."""
    takings = rows.takings_of(Change(changes))
    found = [rows.claim_records(each, takings) for each in changes]
    return [(before and json.loads(before), after and json.loads(after)) for before, after in found]


OVS = ClaimChange(None, claim("ovs", "2-4", "2-4"))
NOVA_LOSES = ClaimChange(claim("nova", "2-5"), claim("nova", "5"))


def test_both_services_of_a_taking_are_named() -> None:
    (_, taker), (loser, left) = records(OVS, NOVA_LOSES)
    assert taker["taken_from"] == {"nova": "2-4"}
    assert loser["taken_by"] == {"ovs": "2-4"}
    assert "taken_by" not in left


def test_a_service_that_loses_everything_is_named() -> None:
    _, (loser, left) = records(OVS, ClaimChange(claim('no"va', "2-4"), None))
    assert (loser["taken_by"], left) == ({"ovs": "2-4"}, None)


def test_a_change_that_takes_nothing_has_the_records_of_before() -> None:
    change = ClaimChange(claim("a", "2"), claim("a", "2-3"))
    assert rows.claim_records(change, rows.takings_of(Change((change,)))) == (
        rows.claim_json(change.before),
        rows.claim_json(change.after),
    )


def test_the_record_of_a_taking_is_bounded() -> None:
    losers = [ClaimChange(claim(f"{number:0255}", str(number)), None) for number in range(2048)]
    taker = ClaimChange(None, claim("ovs", "0-2047"))
    takings = rows.takings_of(Change((taker, *losers)))
    _, after = rows.claim_records(taker, takings)
    assert after is not None
    assert len(after) < 1500
    assert json.loads(after)["taken_from_others"] == 2048 - len(json.loads(after)["taken_from"])
