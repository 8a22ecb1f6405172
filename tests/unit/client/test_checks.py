"""Answers: a client reads answers strictly, and an invalid one becomes one sentence.

tests/faults/test_hostile_server.py has the long table of what a server can say; here is what that cannot show.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from epa_orchestrator.client import checks as answers
from epa_orchestrator.client.checks import OddAnswerError
from epa_orchestrator.cpuset import MAX_CPU_ID
from epa_orchestrator.protocol.answers import (
    Allocation,
    CoresAnswer,
    Explanation,
    HugepagesAnswer,
    Listing,
    ListingHead,
    MemoryAnswer,
    NumaCoresAnswer,
    PercentAnswer,
    Placement,
    PoolSummary,
    Scope,
)

MODELS = (
    *(Allocation, CoresAnswer, Explanation, HugepagesAnswer, Listing, ListingHead, MemoryAnswer, NumaCoresAnswer),
    *(PercentAnswer, Placement, PoolSummary, Scope),
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


def odd(act: Callable[[], object]) -> str:
    """The sentence without its beginning."""
    with pytest.raises(OddAnswerError) as caught:
        act()
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix("gave an answer that this client does not understand: ")


def test_the_checked_fields_are_fields_of_answers() -> None:
    """A renamed field must not lose its check."""
    names = {name for model in MODELS for name in model.model_fields}
    assert names >= answers._CPU_LISTS
    assert names >= answers._NAMES
    assert names >= answers._ASKED_NUMBERS
    assert set(answers._ECHOED) <= names


def test_every_field_that_is_named_as_a_cpu_list_is_checked_as_one() -> None:
    texts = {
        name
        for model in MODELS
        for name, field in model.model_fields.items()
        if "str" in str(field.annotation) and ("cpus" in name or "cores" in name)
    }
    assert texts <= answers._CPU_LISTS
    assert len(texts) == 8


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
def test_json_that_no_daemon_sends_is_refused(answer: bytes) -> None:
    assert odd(lambda: answers.decode(answer)) == "did not answer with a JSON object"


@pytest.mark.parametrize("value", [b"1", b"[]", b"{}"])
def test_too_many_values_are_not_even_parsed(value: bytes) -> None:
    """Millions of them would take gigabytes."""
    answer = b'{"a":[' + b",".join([value] * 2_100_000) + b"]}"
    begun = time.process_time()
    assert odd(lambda: answers.decode(answer)) == "it has more than 2000000 values"
    assert time.process_time() - begun < 1


def test_marks_inside_of_text_are_no_values() -> None:
    """Names may hold commas and brackets, and a listing may hold many such names."""
    names = ['{["' + "," * 250] * 10_000
    assert answers.decode(json.dumps({"outdated_placements": names}).encode()) == {"outdated_placements": names}


def test_a_mistake_is_named_with_its_place() -> None:
    document = json.loads(cores().encode())
    for change, sentence in (
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
    ):
        answer = json.dumps(document | change).encode()
        assert odd(lambda answer=answer: answers.read(CoresAnswer, answer)) == sentence


def test_a_character_that_this_python_does_not_know_yet_is_no_control_character() -> None:
    """The daemon's Python may be newer, and one such name must not hide the whole listing."""
    unknown = "\U000e0fff"
    assert unicodedata.category(unknown) == "Cn"
    answer = cores(service_name=f"a{unknown}")
    assert answers.read(CoresAnswer, answer.encode()) == answer


@pytest.mark.parametrize("text", ["", "0", "0-3,8,10-11", str(MAX_CPU_ID), f"0-{MAX_CPU_ID}"])
def test_cpu_lists(text: str) -> None:
    answers._check_cpu_list(text, "cpus")


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
def test_texts_that_are_no_cpu_lists(text: str) -> None:
    assert odd(lambda: answers._check_cpu_list(text, "cpus")).startswith("cpus ")


def test_checking_a_cpu_list_costs_no_more_where_its_ids_are_high() -> None:
    """A set of CPUs as a bit mask would take 8 KiB for each item."""

    def cost(item: str) -> float:
        text = ",".join([item] * 20_000)
        begun = time.process_time()
        answers._check_cpu_list(text, "cpus")
        return time.process_time() - begun

    assert min(cost("65535") for _ in range(3)) < 5 * min(cost("1") for _ in range(3))


@pytest.mark.parametrize(
    ("asked", "answer", "sentence"),
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
def test_an_answer_to_something_else(asked: dict[str, Any], answer: CoresAnswer, sentence: str) -> None:
    assert odd(lambda: answers.check_reply(asked, answer)) == sentence


def test_an_answer_to_what_was_asked() -> None:
    answers.check_reply({"service_name": "a", "pool": "isolated", "num_of_cores": 2, "dry_run": False}, cores())
    answers.check_reply({"num_of_cores": 0}, cores(num_of_cores=0))
    released = cores(num_of_cores=0, cores_allocated=0, allocated_cores="")
    answers.check_reply({"num_of_cores": -1, "explain": True}, released)


def test_a_name_may_come_back_in_another_form_of_unicode() -> None:
    composed, decomposed = "\u00e9a", "e\u0301a"
    answers.check_reply({"service_name": decomposed, "num_of_cores": 2}, cores(service_name=composed))
    assert answers.is_same_name(composed, decomposed)
    assert not answers.is_same_name("\u00e9a", "ea")


@pytest.mark.parametrize("string", [b'""', b'"a'])
def test_millions_of_strings_without_separators_are_refused_at_once(string: bytes) -> None:
    answer = b"{" + b"," * 2_000_100 + string * 10_000_000 + b"}"
    begun = time.process_time()
    counts = (answer.count(b","), answer.count(b'"'))
    one_look = (time.process_time() - begun) / len(counts)
    begun = time.process_time()
    with pytest.raises(OddAnswerError, match="values"):
        answers.decode(answer)
    assert time.process_time() - begun < 15 * one_look


@pytest.mark.parametrize(("count", "fine"), [(10_000, True), (20_000, False)])
def test_more_sizes_of_hugepages_than_can_be_shown_are_odd(count: int, fine: bool) -> None:
    """A table of a million rows takes minutes and gigabytes."""
    half = count // 2
    nodes: dict[str, Any] = {
        "node0": {"capacity": [], "allocations": {"a": {str(size): 1 for size in range(half)}}},
        "node1": {"capacity": [], "allocations": {f"s{size}": {str(size): 1} for size in range(half)}},
    }
    sent = json.dumps({"version": "1.0", "service_name": "", "numa_hugepages": nodes}).encode()
    answer = answers.read(MemoryAnswer, sent)
    if fine:
        answers.check_reply({}, answer)
    else:
        assert odd(lambda: answers.check_reply({}, answer)).endswith("it has 20000 sizes of hugepages")
