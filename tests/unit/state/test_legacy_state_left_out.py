# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Records of the older daemon that own nothing are left out, each with a reason; the others are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.state.errors import LegacyStateError
from epa_orchestrator.state.legacy_state import read_legacy_state


def read(directory: Path, document: object) -> tuple[dict[str, str], dict[str, dict[Any, int]], list[str]]:
    """The claims, the hugepage records, and what was left out."""
    path = directory / "state.json"
    path.write_text(json.dumps(document))
    left_out: list[str] = []
    ledger = read_legacy_state(path, left_out.append)
    assert ledger is not None
    claims = {service: str(claim.cpus) for service, claim in ledger.claims.items()}
    return claims, {service: dict(counts) for service, counts in ledger.pages.items()}, left_out


def cores(**sections: Any) -> dict[str, Any]:
    """A document with nova on CPU 1, and these sections."""
    return {"allocations_db": {**sections, "allocations": {"nova": "1"} | sections.get("allocations", {})}}


def pages(*counts: object) -> dict[str, Any]:
    """A document in which nova has records on node 0, 1, … with these counts."""
    records = [{"node_id": node, "size_kb": 2048, "count": count} for node, count in enumerate(counts)]
    return {"hugepages_db": {"allocations": {"nova": records}}}


EMPTY_NAME = "its name is empty"
LONG_NAME = "its name has more than 255 characters"
UNPRINTABLE_NAME = "its name has characters that cannot be printed"


@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        ("", "''", EMPTY_NAME),
        ("x" * 256, f"'{'x' * 40}…'", LONG_NAME),
        ("a\nb", "'a\N{REPLACEMENT CHARACTER}b'", UNPRINTABLE_NAME),
        ("\u202e", "'\N{REPLACEMENT CHARACTER}'", UNPRINTABLE_NAME),
        ("\ud800", "'\N{REPLACEMENT CHARACTER}'", UNPRINTABLE_NAME),
    ],
)
def test_record_under_a_name_that_no_request_can_have_is_left_out(
    name: str, shown: str, reason: str, tmp_path: Path
) -> None:
    document = cores(
        allocations={name: "2-3"},
        explicit_allocations={name: "2"},
        preemption_policies={name: "non-preemptive"},
        allocation_pools={name: "general"},
    ) | {"hugepages_db": {"allocations": {name: [{"node_id": 0, "size_kb": 2048, "count": 4}]}}}
    claims, counts, left_out = read(tmp_path, document)
    assert (claims, counts) == ({"nova": "1"}, {})
    assert left_out == [
        f"the claim of service {shown} on CPUs '2-3', because {reason}",
        f"the hugepage records of service {shown}, because {reason}",
    ]


@pytest.mark.parametrize("value", ["2-x", "1", 5, None])
def test_cpus_of_such_a_name_are_not_judged(value: object, tmp_path: Path) -> None:
    claims, _, left_out = read(tmp_path, cores(allocations={"": value}))
    assert claims == {"nova": "1"}
    assert len(left_out) == 1


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_claim_without_cpus_is_left_out(blank: str, tmp_path: Path) -> None:
    """The older daemon stored it for a request of less than -1 CPUs of a NUMA node."""
    sections = {"preemption_policies": {"ovs": "legacy"}, "explicit_allocations": {"ovs": ""}}
    claims, _, left_out = read(tmp_path, cores(allocations={"ovs": blank}, **sections))
    assert (claims, left_out) == ({"nova": "1"}, ["the claim of service 'ovs', because it has no CPUs"])


@pytest.mark.parametrize("section", ["preemption_policies", "allocation_pools"])
@pytest.mark.parametrize("value", ["legacy", "general", "unknown", None, 5])
def test_policy_and_pool_without_cpus_are_left_out(section: str, value: object, tmp_path: Path) -> None:
    claims, _, left_out = read(tmp_path, cores(**{section: {"ovs": value}}))
    assert claims == {"nova": "1"}
    assert left_out == [f"{section} of service 'ovs', because it holds no CPUs"]


def test_explicit_cpus_without_a_claim_stop_the_import(tmp_path: Path) -> None:
    with pytest.raises(LegacyStateError, match="explicit_allocations names CPUs of service 'ovs', which holds none"):
        read(tmp_path, cores(explicit_allocations={"ovs": "1"}))


@pytest.mark.parametrize("count", [0, -1, -5, -(10**30)])
def test_hugepage_count_below_one_is_left_out(count: int, tmp_path: Path) -> None:
    _, counts, left_out = read(tmp_path, pages(count, 4))
    assert counts == {"nova": {(1, 2048): 4}}
    assert left_out == [f"a hugepage record of service 'nova', because its count is {count}"]


def test_hugepage_record_that_counts_nothing_is_not_judged_further(tmp_path: Path) -> None:
    records = [{"node_id": "x", "count": 0}, {"node_id": 0, "size_kb": 4, "count": 1}, {"node_id": 0, "count": -1}]
    _, counts, left_out = read(tmp_path, {"hugepages_db": {"allocations": {"nova": records}}})
    assert counts == {"nova": {(0, 4): 1}}
    assert len(left_out) == 2


@pytest.mark.parametrize("count", [True, False, 1.0, -5.0, "4", "-5", None, [], 2**31])
def test_hugepage_count_that_is_no_number_stops_the_import(count: object, tmp_path: Path) -> None:
    with pytest.raises(LegacyStateError, match="count of the hugepages of service 'nova' is"):
        read(tmp_path, pages(count))


def test_two_spellings_of_one_name_stay_two_services(tmp_path: Path) -> None:
    claims, _, left_out = read(tmp_path, cores(allocations={"\u00e9": "2", "e\u0301": "3"}))
    assert (claims, left_out) == ({"nova": "1", "\u00e9": "2", "e\u0301": "3"}, [])


def test_cpu_of_a_left_out_claim_may_have_another_owner(tmp_path: Path) -> None:
    claims, _, left_out = read(tmp_path, cores(allocations={"": "1"}))
    assert (claims, len(left_out)) == ({"nova": "1"}, 1)


def test_mistake_in_a_claim_stops_the_import_whatever_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(LegacyStateError, match="'ovs' are owned by another service"):
        read(tmp_path, cores(allocations={"": "4", "ovs": "1"}))
