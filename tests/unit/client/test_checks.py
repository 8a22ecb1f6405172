# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The client reads answers strictly, and an invalid answer becomes one sentence.

tests/faults/test_hostile_server.py has a long table of invalid answers; these tests cover the rest.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from epa_orchestrator.client import checks
from epa_orchestrator.client.checks import InvalidAnswerError
from epa_orchestrator.cpuset import MAX_CPU_ID
from epa_orchestrator.protocol.answers import (
    Allocation,
    Candidate,
    CoresAnswer,
    Explanation,
    HugepagesAnswer,
    LeftOut,
    Listing,
    ListingHead,
    MemoryAnswer,
    NumaCoresAnswer,
    PercentAnswer,
    Placement,
    PoolSummary,
)
from epa_orchestrator.protocol.history import ClaimAnswer, HistoryAnswer, HistoryEvent
from epa_orchestrator.protocol.machine import CoreThreads, MachineAnswer, MachineDescription, Node, PackageCpus
from epa_orchestrator.protocol.room import MakeRoom, RoomMove, RoomRequest
from epa_orchestrator.protocol.watching import ClaimEvent, MachineEvent

MODELS = (
    *(Allocation, CoresAnswer, Explanation, HugepagesAnswer, Listing, ListingHead, MemoryAnswer, NumaCoresAnswer),
    *(PercentAnswer, Placement, PoolSummary, Candidate, LeftOut),
    *(MakeRoom, RoomMove, RoomRequest),
    *(MachineAnswer, MachineDescription, PackageCpus, Node, CoreThreads),
    *(ClaimAnswer, HistoryAnswer, HistoryEvent, ClaimEvent, MachineEvent, RoomMove, RoomRequest, MakeRoom),
)


def cores(**changes: Any) -> CoresAnswer:
    fields: dict[str, Any] = {
        "service_name": "a",
        "num_of_cores": 2,
        "cores_allocated": 2,
        "allocated_cores": "2-3",
        "shared_cpus": "4-7",
        "total_available_cpus": 6,
        "remaining_available_cpus": 4,
        "pool": "isolated",
        "preemption_policy": "legacy",
    }
    return CoresAnswer(**(fields | changes))


def invalid(act: Callable[[], object]) -> str:
    """The sentence without its beginning."""
    with pytest.raises(InvalidAnswerError) as caught:
        act()
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix("gave an answer that this client does not understand: ")


def test_checked_fields_are_fields_of_answers() -> None:
    """A renamed field must not lose its check."""
    names = {name for model in MODELS for name in model.model_fields}
    assert names >= checks._CPU_LISTS
    assert names >= checks._NAMES
    assert names >= checks._REQUEST_NUMBERS
    assert set(checks._REPEATED) <= names


def test_every_cpu_list_field_is_checked() -> None:
    texts = {
        name
        for model in MODELS
        for name, field in model.model_fields.items()
        if "str" in str(field.annotation) and ("cpus" in name or "cores" in name) and name != "cores"
    }
    assert texts <= checks._CPU_LISTS
    assert len(texts) == 10


@pytest.mark.parametrize(
    "answer",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 200_000,
        b'{"a": 1} {"a": 1}',
    ],
)
def test_json_that_no_daemon_sends_is_invalid(answer: bytes) -> None:
    assert invalid(lambda: checks.decode(answer)) == "did not answer with a JSON object"


@pytest.mark.parametrize("value", [b"1", b"[]", b"{}"])
def test_too_many_values_are_refused_before_parsing(value: bytes) -> None:
    """Millions of parsed values would take gigabytes."""
    answer = b'{"a":[' + b",".join([value] * 2_100_000) + b"]}"
    begun = time.process_time()
    assert invalid(lambda: checks.decode(answer)) == "it has more than 2000000 values"
    assert time.process_time() - begun < 1


def test_separators_inside_strings_do_not_count() -> None:
    """Names may hold commas and brackets, and a listing may hold many such names."""
    names = ['{["' + "," * 250] * 10_000
    assert checks.decode(json.dumps({"outdated_placements": names}).encode()) == {"outdated_placements": names}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cores_allocated": "2"}, "cores_allocated: input should be a valid integer"),
        ({"cores_allocated": True}, "cores_allocated: input should be a valid integer"),
        ({"cores_allocated": 2.0}, "cores_allocated: input should be a valid integer"),
        ({"cores_allocated": 2**70}, "cores_allocated is out of range"),
        ({"cores_allocated": -1}, "cores_allocated is out of range"),
        ({"num_of_cores": -2}, "num_of_cores is out of range"),
        ({"pool": "other"}, "pool: input should be 'isolated' or 'general'"),
        ({"shared_cpus": "7-4"}, "shared_cpus has a range that runs backwards: '7-4'"),
        ({"shared_cpus": "all"}, "shared_cpus is not a CPU list: 'all'"),
        ({"shared_cpus": "4-99999"}, "shared_cpus names a CPU over 65535: '4-99999'"),
        ({"service_name": "a\x1b"}, "service_name holds control characters: 'a\N{REPLACEMENT CHARACTER}'"),
        ({"service_name": "a" * 256}, "service_name has 256 characters"),
    ],
)
def test_sentence_names_the_field_of_a_mistake(change: dict[str, Any], sentence: str) -> None:
    answer = json.dumps(json.loads(cores().encode()) | change).encode()
    assert invalid(lambda: checks.parse(CoresAnswer, answer)) == sentence


def test_unassigned_character_is_no_control_character() -> None:
    """The daemon's Python may be newer, and one such name must not hide the whole listing."""
    unknown = "\U000e0fff"
    assert unicodedata.category(unknown) == "Cn"
    answer = cores(service_name=f"a{unknown}")
    assert checks.parse(CoresAnswer, answer.encode()) == answer


@pytest.mark.parametrize("text", ["", "0", "0-3,8,10-11", str(MAX_CPU_ID), f"0-{MAX_CPU_ID}"])
def test_valid_cpu_lists(text: str) -> None:
    checks._check_cpu_list(text, "cpus")


@pytest.mark.parametrize(
    "text",
    [
        " ",
        ",",
        "0,",
        "-1",
        "1-",
        "0-1-2",
        "3-2",
        "a",
        "٣",
        "0;1",
        "0\n",
        str(MAX_CPU_ID + 1),
        "0-999999999",
        "1" * 5000,
    ],
)
def test_invalid_cpu_lists(text: str) -> None:
    assert invalid(lambda: checks._check_cpu_list(text, "cpus")).startswith("cpus ")


def test_high_cpu_ids_cost_no_more_time() -> None:
    """A set of CPUs as a bit mask would take 8 KiB for each item."""

    def cost(item: str) -> float:
        text = ",".join([item] * 20_000)
        begun = time.process_time()
        checks._check_cpu_list(text, "cpus")
        return time.process_time() - begun

    assert min(cost("65535") for _ in range(3)) < 5 * min(cost("1") for _ in range(3))


@pytest.mark.parametrize(
    ("fields", "answer", "sentence"),
    [
        ({"service_name": "b"}, cores(), "it is about service_name 'a', not 'b'"),
        ({"pool": "general"}, cores(), "it is about pool 'isolated', not 'general'"),
        ({"num_of_cores": 3}, cores(), "it grants 2 CPUs, not 3"),
        ({"num_of_cores": 2}, cores(num_of_cores=1), "it is about num_of_cores 1, not 2"),
        ({"num_of_cores": -1}, cores(), "after a release it still grants 2 CPUs"),
        ({"num_of_cores": 2, "dry_run": True}, cores(), "it is not about a dry run"),
        ({"num_of_cores": 2}, cores(dry_run=True), "it is about a dry run"),
        ({"num_of_cores": 2, "explain": True}, cores(), "the explanation is missing"),
    ],
)
def test_answer_to_another_request_is_invalid(fields: dict[str, Any], answer: CoresAnswer, sentence: str) -> None:
    assert invalid(lambda: checks.check_reply(fields, answer)) == sentence


def test_answer_to_this_request_is_valid() -> None:
    checks.check_reply({"service_name": "a", "pool": "isolated", "num_of_cores": 2, "dry_run": False}, cores())
    checks.check_reply({"num_of_cores": 0}, cores(num_of_cores=0))
    released = cores(num_of_cores=0, cores_allocated=0, allocated_cores="")
    checks.check_reply({"num_of_cores": -1, "explain": True}, released)


def test_name_may_come_back_in_another_unicode_form() -> None:
    composed, decomposed = "\u00e9a", "e\u0301a"
    checks.check_reply({"service_name": decomposed, "num_of_cores": 2}, cores(service_name=composed))
    assert checks.is_same_name(composed, decomposed)
    assert not checks.is_same_name("\u00e9a", "ea")


@pytest.mark.parametrize("string", [b'""', b'"a'])
def test_millions_of_strings_are_refused_quickly(string: bytes) -> None:
    answer = b"{" + b"," * 2_000_100 + string * 10_000_000 + b"}"
    begun = time.process_time()
    counts = (answer.count(b","), answer.count(b'"'))
    one_look = (time.process_time() - begun) / len(counts)
    begun = time.process_time()
    with pytest.raises(InvalidAnswerError, match="values"):
        checks.decode(answer)
    assert time.process_time() - begun < 15 * one_look


@pytest.mark.parametrize(("count", "fine"), [(10_000, True), (20_000, False)])
def test_too_many_hugepage_sizes_are_invalid(count: int, fine: bool) -> None:
    """A table of a million rows takes minutes and gigabytes."""
    half = count // 2
    nodes: dict[str, Any] = {
        "node0": {"capacity": [], "allocations": {"a": {str(size): 1 for size in range(half)}}},
        "node1": {"capacity": [], "allocations": {f"s{size}": {str(size): 1} for size in range(half)}},
    }
    sent = json.dumps({"version": "1.0", "service_name": "", "numa_hugepages": nodes}).encode()
    answer = checks.parse(MemoryAnswer, sent)
    if fine:
        checks.check_reply({}, answer)
    else:
        assert invalid(lambda: checks.check_reply({}, answer)).endswith("it has 20000 sizes of hugepages")


def numa(**changes: Any) -> NumaCoresAnswer:
    fields: dict[str, Any] = {
        "service_name": "a",
        "numa_node": 0,
        "num_of_cores": 2,
        "cores_allocated": "2-3",
        "total_available_cpus": 6,
        "remaining_available_cpus": 4,
        "pool": "isolated",
        "preemption_policy": "legacy",
    }
    return NumaCoresAnswer(**(fields | changes))


NUMA_REQUEST = {"service_name": "a", "numa_node": 0, "num_of_cores": 2}


@pytest.mark.parametrize("taken", [{}, {"b": "2"}, {"b": "2", "c": "3"}, {"b": "2-3"}])
def test_cpus_taken_from_others_are_among_the_granted(taken: dict[str, str]) -> None:
    checks.check_reply(NUMA_REQUEST, numa(taken=taken))


@pytest.mark.parametrize("taken", [{"b": "4"}, {"b": "2", "c": "2"}, {"a": "2"}, {"b": ""}, {"b": "2-4"}], ids=str)
def test_impossible_takings_are_invalid(taken: dict[str, str]) -> None:
    assert "of service '" in invalid(lambda: checks.check_reply(NUMA_REQUEST, numa(taken=taken)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"taken": {"b": "x"}}, "taken is not a CPU list: 'x'"),
        ({"taken": {"b\x1b": "2"}}, "service_name holds control characters: 'b\ufffd'"),
        ({"taken": {"b" * 256: "2"}}, "service_name has 256 characters"),
        ({"warnings": ["a"] * 1001}, "warnings has 1001 entries"),
        ({"warnings": ["\x07"]}, "warnings holds control characters: '\ufffd'"),
        ({"warnings": "a"}, "warnings: input should be a valid array"),
    ],
)
def test_warnings_and_takings_are_checked(changes: dict[str, Any], reason: str) -> None:
    answer = json.dumps(json.loads(numa().encode()) | changes).encode()
    assert invalid(lambda: checks.parse(NumaCoresAnswer, answer)) == reason


def memory(numa_hugepages: dict[str, Any], **changes: Any) -> MemoryAnswer:
    document = {"version": "1.0", "service_name": "", "numa_hugepages": numa_hugepages, **changes}
    return checks.parse(MemoryAnswer, json.dumps(document).encode())


NO_PAGES: dict[str, Any] = {"capacity": [], "allocations": {}}


def test_answer_about_one_node_holds_that_node() -> None:
    checks.check_reply({"node_id": 1}, memory({"node1": NO_PAGES}))


@pytest.mark.parametrize("nodes", [{}, {"node0": NO_PAGES}, {"node0": NO_PAGES, "node1": NO_PAGES}], ids=str)
def test_answer_about_other_nodes_is_invalid(nodes: dict[str, Any]) -> None:
    assert invalid(lambda: checks.check_reply({"node_id": 1}, memory(nodes))) == "it is not about node 1 alone"


@pytest.mark.parametrize(
    "left_out",
    [
        {"sizes_kb": {"2048": "x"}, "nodes": ""},
        {"sizes_kb": {"x": "0"}, "nodes": ""},
        {"sizes_kb": {}, "nodes": "3-1"},
        {"sizes_kb": {}},
    ],
    ids=str,
)
def test_what_is_left_out_is_checked(left_out: dict[str, Any]) -> None:
    invalid(lambda: memory({}, left_out=left_out))
