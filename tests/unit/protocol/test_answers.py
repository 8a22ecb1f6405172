# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The models of answers: the fields and the bytes that clients rely on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.taken import taken_by
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.names import PreemptionPolicy
from epa_orchestrator.protocol.answers import (
    FEATURES,
    Allocated,
    Allocation,
    Answer,
    Candidate,
    CoresAnswer,
    ErrorAnswer,
    Explanation,
    HugepagesAnswer,
    Listing,
    ListingHead,
    MemoryAnswer,
    NodeHugepages,
    NumaCoresAnswer,
    PageCapacity,
    PercentAnswer,
    Placement,
    PoolSummary,
    add_warnings,
)
from epa_orchestrator.protocol.quoting import about_unknown_fields

from .builders import LONGEST_NAME

TAIL = {
    "total_available_cpus": int,
    "remaining_available_cpus": int,
    "pool": str,
    "preemption_policy": (str, type(None)),
}
FIELDS: dict[type[Answer], dict[str, Any]] = {
    ErrorAnswer: {"error": str},
    CoresAnswer: {
        "service_name": str,
        "num_of_cores": int,
        "cores_allocated": int,
        "allocated_cores": str,
        "shared_cpus": str,
        **TAIL,
    },
    PercentAnswer: {"service_name": str, "cores_allocated_count": int, "allocated_cores": str, **TAIL},
    NumaCoresAnswer: {"service_name": str, "numa_node": int, "num_of_cores": int, "cores_allocated": str, **TAIL},
    HugepagesAnswer: {
        "service_name": str,
        "hugepages_requested": int,
        "allocation_successful": bool,
        "message": str,
        "node_id": int,
        "size_kb": int,
    },
    MemoryAnswer: {"service_name": str, "numa_hugepages": dict},
}


def answers(name: str, policy: Any = "non-preemptive", cpus: str = "0-1023") -> list[Answer]:
    """One answer of each kind, with values as large as they get."""
    return [
        ErrorAnswer(error=f"Service '{name}' is unknown"),
        CoresAnswer(
            service_name=name,
            num_of_cores=1024,
            cores_allocated=1024,
            allocated_cores=cpus,
            shared_cpus=cpus,
            total_available_cpus=1024,
            remaining_available_cpus=1024,
            pool="isolated",
            preemption_policy=policy,
        ),
        PercentAnswer(
            service_name=name,
            cores_allocated_count=1024,
            allocated_cores=cpus,
            total_available_cpus=1024,
            remaining_available_cpus=1024,
            pool="general",
            preemption_policy=policy,
        ),
        NumaCoresAnswer(
            service_name=name,
            numa_node=2**31 - 1,
            num_of_cores=1024,
            cores_allocated=cpus,
            total_available_cpus=1024,
            remaining_available_cpus=1024,
            pool="isolated",
            preemption_policy=policy,
        ),
        HugepagesAnswer(
            service_name=name,
            hugepages_requested=2**31 - 1,
            allocation_successful=True,
            message=f"Successfully set allocation request to {2**31 - 1} hugepages",
            node_id=2**31 - 1,
            size_kb=2**31 - 1,
        ),
        MemoryAnswer(service_name=name, numa_hugepages={}),
    ]


@pytest.mark.parametrize("answer", answers("a"), ids=lambda answer: type(answer).__name__)
def test_answer_has_the_fields_of_the_protocol(answer: Answer) -> None:
    document = json.loads(answer.encode())
    assert document.pop("version") == "1.0"
    expected = FIELDS[type(answer)]
    assert set(document) == set(expected)
    for field, kind in expected.items():
        assert isinstance(document[field], kind), field
        assert kind is bool or not isinstance(document[field], bool), field


PLACEMENT = Placement(
    numa_nodes="0,2-3", packages=2, l3_domains=24, whole_cores=512, shared_cores=17, withheld_cpus="0-1023"
)
EXPLANATION = Explanation(
    policy={"numa-policy": "best-effort", "prefer-closest-numa-nodes": True, "near": 1},
    room={"0": 4, "1": 8},
    scopes=[Candidate(numa_nodes="0", cpus="2-3", cost={"numa_nodes": 1, "lowest_cpu": 2})],
    decided_by="Only NUMA node 0 is possible.",
)


@pytest.mark.parametrize(
    "answer", [each for each in answers("a") if isinstance(each, Allocated)], ids=lambda answer: type(answer).__name__
)
def test_answer_has_placement_dry_run_and_explanation_when_set(answer: Allocated) -> None:
    plain = answer.encode()
    assert not {"placement", "dry_run", "explanation"} & set(json.loads(plain))
    more = {"placement": PLACEMENT, "dry_run": True, "explanation": EXPLANATION}
    document = json.loads(answer.model_copy(update=more).encode())
    assert document == json.loads(plain) | {
        "placement": PLACEMENT.model_dump(),
        "dry_run": True,
        "explanation": EXPLANATION.model_dump(),
    }
    for name, value in more.items():
        assert name in json.loads(answer.model_copy(update={name: value}).encode())


def test_error_has_its_explanation() -> None:
    refused = EXPLANATION.model_copy(update={"rule": "numa-policy"})
    assert json.loads(ErrorAnswer(error="No", explanation=refused).encode()) == {
        "version": "1.0",
        "error": "No",
        "explanation": refused.model_dump(),
    }


def test_error_leaves_out_a_rule_that_is_null() -> None:
    assert "rule" not in json.loads(ErrorAnswer(error="No", explanation=EXPLANATION).encode())["explanation"]


def test_features_begin_with_those_of_version_1_0() -> None:
    assert FEATURES[:2] == ("non-preemptive-allocations", "cpu-pools")
    new = ("placement", "placement-hints", "dry-run", "explain", "may-take", "get-machine", "watch", "make-room")
    assert set(FEATURES[2:]) == {*new, "get-history", "get-claim", "get-isolation"}


@pytest.mark.parametrize("kind", [CoresAnswer, PercentAnswer, NumaCoresAnswer])
def test_policy_is_null_after_a_release(kind: type[Answer]) -> None:
    answer = next(each for each in answers("a", policy=None, cpus="") if isinstance(each, kind))
    document = json.loads(answer.encode())
    assert document["preemption_policy"] is None
    assert document["cores_allocated" if kind is NumaCoresAnswer else "allocated_cores"] == ""


def gain(cpus: str, service: str) -> ClaimChange:
    return ClaimChange(None, Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy"))


def loss(cpus: str, service: str) -> ClaimChange:
    return ClaimChange(Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy"), None)


@pytest.mark.parametrize("name", [LONGEST_NAME, '"' * 255, "\\" * 255, "x" * 255])
def test_answer_fits_into_one_recv(name: str) -> None:
    """4096 bytes is what shipped clients ask for; the lists of CPUs may have 2,000 of them."""
    unknown = about_unknown_fields([name + str(number) for number in range(2000)])
    lost = Change((gain("0-399", LONGEST_NAME + "a"), *(loss(f"{number}", f"{name}{number}") for number in range(400))))
    taken = taken_by(lost)
    for answer in answers(name, cpus=",".join(str(cpu) for cpu in range(0, 400, 2))):
        answer = answer.model_copy(update={"warnings": unknown})
        if isinstance(answer, Allocated):
            answer = answer.model_copy(update={"placement": PLACEMENT, "dry_run": True})
        if isinstance(answer, NumaCoresAnswer):
            warnings = (f"'taken' does not name all services: the request takes {taken.words_about_others()}", *unknown)
            answer = answer.model_copy(update={"taken": taken.services, "warnings": warnings})
        encoded = answer.encode()
        assert len(encoded) < 4096, type(answer).__name__
        assert b"\n" not in encoded
        assert name in (json.loads(encoded).get("service_name") or json.loads(encoded)["error"])


def test_memory_answer_lists_each_node() -> None:
    answer = MemoryAnswer(
        service_name="",
        numa_hugepages={
            "node0": NodeHugepages(
                capacity=[PageCapacity(total=64, free=60, size=2048), PageCapacity(total=2, free=0, size=1048576)],
                allocations={"a": {"2048": 4}, "b": {"1048576": 2}},
            ),
            "node1": NodeHugepages(capacity=[], allocations={}),
        },
    )
    assert json.loads(answer.encode()) == {
        "version": "1.0",
        "service_name": "",
        "numa_hugepages": {
            "node0": {
                "capacity": [
                    {"total": 64, "free": 60, "size": 2048},
                    {"total": 2, "free": 0, "size": 1048576},
                ],
                "allocations": {"a": {"2048": 4}, "b": {"1048576": 2}},
            },
            "node1": {"capacity": [], "allocations": {}},
        },
    }


def head(**changes: Any) -> ListingHead:
    """The head of a listing of two claims."""
    fields: dict[str, Any] = {
        "pool": "isolated",
        "total_allocations": 2,
        "total_allocated_cpus": 4,
        "total_available_cpus": 6,
        "remaining_available_cpus": 3,
        "cpu_pool": PoolSummary(
            source="isolated", configured_cpus="2-7", eligible_cpus="2-7", unavailable_allocated_cpus="9"
        ),
    }
    return ListingHead(**(fields | changes))


CLAIMED: tuple[tuple[str, str, bool, PreemptionPolicy], ...] = (
    ("a", "2-3", True, "legacy"),
    (LONGEST_NAME, "4,9", False, "non-preemptive"),
)
CLAIMS = [
    Allocation(
        service_name=name,
        pool="isolated",
        allocated_cores=cpus,
        cores_count=2,
        is_explicit=explicit,
        preemption_policy=policy,
    )
    for name, cpus, explicit, policy in CLAIMED
]


def test_listing_has_the_fields_of_the_protocol() -> None:
    encoded = head().encode_with([claim.model_dump_json(exclude_none=True).encode() for claim in CLAIMS])
    assert json.loads(encoded) == {
        "version": "1.0",
        "supported_cpu_features": list(FEATURES),
        "pool": "isolated",
        "total_allocations": 2,
        "total_allocated_cpus": 4,
        "total_available_cpus": 6,
        "remaining_available_cpus": 3,
        "cpu_pool": {
            "source": "isolated",
            "configured_cpus": "2-7",
            "eligible_cpus": "2-7",
            "unavailable_allocated_cpus": "9",
        },
        "outdated_placements": [],
        "allocations": [
            {
                "service_name": "a",
                "pool": "isolated",
                "allocated_cores": "2-3",
                "cores_count": 2,
                "is_explicit": True,
                "preemption_policy": "legacy",
            },
            {
                "service_name": LONGEST_NAME,
                "pool": "isolated",
                "allocated_cores": "4,9",
                "cores_count": 2,
                "is_explicit": False,
                "preemption_policy": "non-preemptive",
            },
        ],
    }
    assert b"\n" not in encoded


def test_listing_has_withheld_cpus_and_outdated_placements() -> None:
    withholding = CLAIMS[0].model_copy(update={"withheld_cpus": "10-11"})
    parts = [claim.model_dump_json(exclude_none=True).encode() for claim in (withholding, CLAIMS[1])]
    encoded = head(outdated_placements=("a", "b")).encode_with(parts)
    document = json.loads(encoded)
    assert document["outdated_placements"] == ["a", "b"]
    assert [claim.get("withheld_cpus", 0) for claim in document["allocations"]] == ["10-11", 0]
    listing = Listing.model_validate_json(encoded)
    assert (listing.outdated_placements, listing.allocations) == (("a", "b"), [withholding, CLAIMS[1]])


def test_listing_without_claims_has_an_empty_list() -> None:
    document = json.loads(head(total_allocations=0, total_allocated_cpus=0).encode_with([]))
    assert document["allocations"] == []


def test_client_reads_a_listing_encoded_in_parts() -> None:
    encoded = head(state_error="unreadable").encode_with(
        [claim.model_dump_json(exclude_none=True).encode() for claim in CLAIMS]
    )
    listing = Listing.model_validate_json(encoded)
    assert listing.allocations == CLAIMS
    assert listing.cpu_pool == head().cpu_pool
    assert listing.state_error == "unreadable"


@pytest.mark.parametrize("problem", ["The state database cannot be read", None])
def test_state_error_is_sent_only_when_set(problem: str | None) -> None:
    listing = json.loads(head(state_error=problem).encode_with([]))
    memory = json.loads(MemoryAnswer(service_name="a", numa_hugepages={}, state_error=problem).encode())
    for document in (listing, memory):
        assert document.get("state_error") == problem
        assert ("state_error" in document) == (problem is not None)


@settings(deadline=None)
@given(st.text())
def test_error_has_the_version_and_the_sentence(sentence: str) -> None:
    encoded = ErrorAnswer(error=sentence).encode()
    assert json.loads(encoded) == {"version": "1.0", "error": sentence}
    assert b"\n" not in encoded


# --- warnings and takings ---


@pytest.mark.parametrize("answer", answers("a"), ids=lambda answer: type(answer).__name__)
def test_an_answer_without_warnings_does_not_have_the_field(answer: Answer) -> None:
    assert "warnings" not in json.loads(answer.encode())


@pytest.mark.parametrize("answer", answers("a"), ids=lambda answer: type(answer).__name__)
def test_warnings_are_the_last_field(answer: Answer) -> None:
    encoded = answer.model_copy(update={"warnings": ("unknown field 'a'", "b")}).encode()
    assert encoded.endswith(b',"warnings":["unknown field \'a\'","b"]}')
    assert json.loads(encoded) == json.loads(answer.encode()) | {"warnings": ["unknown field 'a'", "b"]}


def test_a_refusal_with_warnings_begins_as_clients_expect() -> None:
    assert ErrorAnswer(error="No", warnings=("a",)).encode().startswith(b'{"version":"1.0","error":"No"')


def test_warnings_are_added_to_a_listing() -> None:
    listing = Listing.model_validate_json(add_warnings(head().encode_with([]), ("a", "b")))
    assert listing.warnings == ("a", "b")


def test_nothing_taken_is_not_sent() -> None:
    assert all("taken" not in json.loads(answer.encode()) for answer in answers("a"))


def test_taken_cpus_are_sent_by_service() -> None:
    numa = next(each for each in answers("a") if isinstance(each, NumaCoresAnswer))
    sent = json.loads(numa.model_copy(update={"taken": {"b": "2-3"}}).encode())
    assert sent["taken"] == {"b": "2-3"}
