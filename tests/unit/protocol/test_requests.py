# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The models of requests: which values they accept, what they refuse with which sentence, and what numbers mean."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.protocol.fields import ProtocolError
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import Request

from .builders import ACTIONS, MUTATIONS, WITH_POLICY, accept, encode, refusal


@pytest.mark.parametrize("action", ["get_memory_info", "allocate_hugepages"])
def test_ignores_fields_of_other_actions(action: str) -> None:
    more: dict[str, Any] = {"pool": 5, "preemption_policy": "x", "percent": "y", "numa_node": [], "num_of_cores": None}
    assert accept(encode(action, **more)) == accept(encode(action))


# --- dry runs, explanations, wishes ---

ALLOCATING = WITH_POLICY
HINTS: dict[str, tuple[str, ...]] = {
    "numa_policy": ("best-effort", "none", "restricted", "single-numa-node"),
    "cpu_thread_policy": ("prefer", "share", "require", "isolate"),
    "uncore_cache_alignment": ("prefer", "none", "require"),
}


@pytest.mark.parametrize("action", ALLOCATING)
@pytest.mark.parametrize("field", ["dry_run", "explain"])
def test_switch_is_off_unless_it_is_true(action: str, field: str) -> None:
    assert getattr(accept(encode(action)), field) is False
    for value in (True, False):
        assert getattr(accept(encode(action, **{field: value})), field) is value


@pytest.mark.parametrize("action", ALLOCATING)
@pytest.mark.parametrize("field", ["dry_run", "explain"])
@pytest.mark.parametrize("value", [None, 1, 0, "true", "", 1.0, [True], {}])
def test_refuses_a_switch_that_is_no_boolean(action: str, field: str, value: object) -> None:
    assert refusal(encode(action, **{field: value})).startswith(f"Field '{field}' must be true or false, not ")


@pytest.mark.parametrize("action", ALLOCATING)
@pytest.mark.parametrize(("field", "values"), HINTS.items())
def test_wish_is_null_unless_named(action: str, field: str, values: tuple[str, ...]) -> None:
    assert getattr(accept(encode(action)), field) is None
    for value in (None, *values):
        assert getattr(accept(encode(action, **{field: value})), field) == value


@pytest.mark.parametrize("action", ALLOCATING)
@pytest.mark.parametrize(("field", "values"), HINTS.items())
def test_refuses_other_wishes(action: str, field: str, values: tuple[str, ...]) -> None:
    others: list[object] = ["", "packed", values[0].upper(), f"{values[0]} ", 0, True, False, 1.5, [values[0]], {}]
    for value in others:
        sentence = refusal(encode(action, **{field: value}))
        assert sentence.startswith(f"Field '{field}' must be ")
        assert all(f"'{known}'" in sentence for known in values)


NEAR_DEVICES = (
    "0000:3b:00.0",
    "3b:00.1",
    "10000:E1:00.0",
    "eth0",
    "enp59s0f0np0",
    "bond0.7",
    "eth0:1",
    "x" * 64,
    "...",
)


@pytest.mark.parametrize("action", ["allocate_cores", "allocate_cores_percent"])
def test_near_accepts_a_node_or_a_device(action: str) -> None:
    for value in (None, 0, 1, 2**31 - 1, *NEAR_DEVICES):
        near = getattr(accept(encode(action, near=value)), "near", "")
        assert (near, type(near)) == (value, type(value))


@pytest.mark.parametrize("action", ALLOCATING)
@pytest.mark.parametrize(
    "value",
    [
        -1,
        2**31,
        10**30,
        True,
        False,
        1.5,
        1.0,
        "",
        " ",
        "a b",
        "a/b",
        "/",
        ".",
        "..",
        "../x",
        "x" * 65,
        "a\n",
        "\n",
        "a\0",
        "\x1b[2J",
        "\u00e9th0",
        "\u0661",
        [],
        [0],
        {},
    ],
    ids=ascii,
)
def test_near_refuses_anything_else(action: str, value: object) -> None:
    """It is looked up in sysfs, so it must not be a path."""
    sentence = refusal(encode(action, near=value))
    assert sentence.startswith("Field 'near' must be a NUMA node, a PCI address or a network interface, not ")
    assert len(sentence) < 300


def test_numa_request_accepts_null_for_near() -> None:
    assert accept(encode("allocate_numa_cores", near=None)) == accept(encode("allocate_numa_cores"))


def test_numa_request_refuses_near() -> None:
    for value in (0, 1, "eth0", "3b:00.0"):
        assert refusal(encode("allocate_numa_cores", near=value)) == (
            "Field 'near' is not allowed for allocate_numa_cores: numa_node says where"
        )


@pytest.mark.parametrize("action", ["list_allocations", "get_memory_info", "allocate_hugepages"])
def test_other_actions_ignore_the_fields_of_allocations(action: str) -> None:
    more: dict[str, Any] = {"dry_run": 1, "explain": "x", "near": -1, **dict.fromkeys(HINTS, 5)}
    assert accept(encode(action, **more)) == accept(encode(action))


# --- numbers ---

#: (action, field, the lowest and highest valid number or None for one far off, invalid numbers inside of the range)
NUMBERS: list[tuple[str, str, int, int | None, tuple[int, ...]]] = [
    ("allocate_cores", "num_of_cores", -1, None, ()),
    ("allocate_cores_percent", "percent", -1, 100, ()),
    ("allocate_numa_cores", "numa_node", 0, None, ()),
    ("allocate_numa_cores", "num_of_cores", -1, None, (0,)),
    ("allocate_hugepages", "node_id", 0, None, ()),
    ("allocate_hugepages", "size_kb", 1, None, ()),
    ("allocate_hugepages", "hugepages_requested", -1, None, (0,)),
]


@pytest.mark.parametrize(("action", "field", "lowest", "highest", "holes"), NUMBERS)
def test_accepts_numbers_in_range(
    action: str, field: str, lowest: int, highest: int | None, holes: tuple[int, ...]
) -> None:
    for number in {lowest, lowest + 1, lowest + 2, 2, 16, 100, highest or 1048576} - set(holes):
        assert getattr(accept(encode(action, **{field: number})), field) == number


@pytest.mark.parametrize(("action", "field", "lowest", "highest"), [number[:4] for number in NUMBERS])
def test_refuses_numbers_out_of_range(action: str, field: str, lowest: int, highest: int | None) -> None:
    too_high = [highest + 1, highest + 100] if highest is not None else [2**31, 2**63, 2**64, 10**30]
    for number in (lowest - 1, lowest - 2, -(2**31), -(2**63) - 1, -(10**30), *too_high):
        sentence = refusal(encode(action, **{field: number}))
        limit = "at least" if number < lowest else "at most"
        assert sentence.startswith(f"Field '{field}' must be {limit} ")
        assert str(number) in sentence


@pytest.mark.parametrize(
    ("action", "field"), [("allocate_numa_cores", "num_of_cores"), ("allocate_hugepages", "hugepages_requested")]
)
def test_refuses_zero_where_it_has_no_meaning(action: str, field: str) -> None:
    assert refusal(encode(action, **{field: 0})) == f"{field}=0 is invalid for {action}"


@pytest.mark.parametrize(("action", "field"), [(number[0], number[1]) for number in NUMBERS])
@pytest.mark.parametrize("value", [True, False, "1", "", 1.0, 1.5, 1e300, None, [1], {"1": 1}])
def test_refuses_numbers_that_are_no_json_integer(action: str, field: str, value: object) -> None:
    assert refusal(encode(action, **{field: value})).startswith(f"Field '{field}' must be a JSON integer")


@pytest.mark.parametrize(("action", "field"), [(number[0], number[1]) for number in NUMBERS])
@pytest.mark.parametrize("number", ["1" * 4000, "-" + "1" * 4000, "1" * 5000, "1e400", "-0.0", "1E2", "1.0"])
def test_refuses_numbers_in_another_notation(action: str, field: str, number: str) -> None:
    text = encode(action, **{field: "@"}).replace(b'"@"', number.encode())
    refusal(text)


@pytest.mark.parametrize(
    ("action", "field"),
    [(action, name) for action in MUTATIONS for name in ACTIONS[action] if name != "service_name"],
)
def test_refuses_a_missing_number(action: str, field: str) -> None:
    fields = {name: value for name, value in ACTIONS[action].items() if name != field}
    assert refusal(json.dumps({"action": action, **fields}).encode()) == f"Field '{field}' is missing"


def test_num_of_cores_is_0_by_default() -> None:
    assert getattr(accept(encode("allocate_cores")), "num_of_cores", None) == 0


def test_allocate_cores_accepts_a_null_node() -> None:
    """An older hypervisor sends it."""
    assert accept(encode("allocate_cores", numa_node=None)) == accept(encode("allocate_cores"))


@pytest.mark.parametrize("node", [0, 1, -1, "0", False, [0], 1.5])
def test_allocate_cores_refuses_a_node(node: object) -> None:
    assert refusal(encode("allocate_cores", numa_node=node)) == (
        "Field 'numa_node' is not allowed for allocate_cores: use allocate_numa_cores"
    )


@pytest.mark.parametrize(
    ("action", "field", "number", "is_release"),
    [
        ("allocate_cores", "num_of_cores", -1, True),
        ("allocate_cores", "num_of_cores", 0, False),
        ("allocate_cores", "num_of_cores", 1, False),
        ("allocate_cores_percent", "percent", -1, True),
        ("allocate_cores_percent", "percent", 0, True),
        ("allocate_cores_percent", "percent", 1, False),
        ("allocate_numa_cores", "num_of_cores", -1, True),
        ("allocate_numa_cores", "num_of_cores", 1, False),
        ("allocate_hugepages", "hugepages_requested", -1, True),
        ("allocate_hugepages", "hugepages_requested", 1, False),
    ],
)
def test_a_number_means_a_release_or_not(action: str, field: str, number: int, is_release: bool) -> None:
    assert getattr(accept(encode(action, **{field: number})), "is_release", None) is is_release


@pytest.mark.parametrize(("number", "count"), [(0, None), (1, 1), (7, 7)])
def test_zero_cores_mean_the_default_size(number: int, count: int | None) -> None:
    assert getattr(accept(encode("allocate_cores", num_of_cores=number)), "count", "") == count


# --- every field ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(get_args(Request)), st.data())
def test_any_value_of_a_field_is_accepted_or_refused_with_a_sentence(model: type[Request], data: st.DataObject) -> None:
    (action,) = get_args(model.model_fields["action"].annotation)
    field = data.draw(st.sampled_from(list(model.model_fields)))
    sentence = f"Field '{field}' "
    try:
        validate({"action": action, **ACTIONS[action], field: data.draw(JSON)})
    except ProtocolError as error:
        sentence = str(error)
    assert sentence.startswith((f"Field '{field}' ", f"{field}=0 ", "Unknown action: "))


# --- unknown fields ---


@pytest.mark.parametrize("action", ACTIONS)
def test_an_unknown_field_is_a_warning(action: str) -> None:
    assert accept(encode(action, dryrun=True, x={"y": [1]})).warnings == ("unknown field 'dryrun'", "unknown field 'x'")


@pytest.mark.parametrize("action", ACTIONS)
def test_an_unknown_field_changes_nothing_else(action: str) -> None:
    assert accept(encode(action, dryrun=True)) == accept(encode(action))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("value", [None, ["a"], "b"])
def test_a_field_named_warnings_is_an_unknown_one(action: str, value: object) -> None:
    assert accept(encode(action, warnings=value)).warnings == ("unknown field 'warnings'",)


@pytest.mark.parametrize(
    "document",
    [
        {"version": "1.0", "action": "allocate_cores", "service_name": "a", "num_of_cores": 0, "numa_node": None},
        {"action": "list_allocations", "service_name": "a"},
        {"action": "get_memory_info", "service_name": "a", "version": "1.0"},
        {"action": "list_allocations", "num_of_cores": None, "numa_node": None, "preemption_policy": None},
        {"action": "allocate_hugepages", "service_name": "a", "node_id": 0, "size_kb": 4, "hugepages_requested": 1},
    ],
    ids=str,
)
def test_fields_of_shipped_clients_are_no_warning(document: dict[str, Any]) -> None:
    assert validate(document).warnings == ()


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("allocate_hugepages", {"pool": "general"}),
        ("allocate_hugepages", {"dry_run": True}),
        ("get_memory_info", {"pool": "general"}),
        ("list_allocations", {"node_id": 0}),
        ("allocate_cores_percent", {"num_of_cores": 2}),
        ("allocate_cores", {"cores_requested": 2}),
        ("allocate_cores", {"cores_requested": None}),
    ],
)
def test_a_field_that_the_action_does_not_have_is_a_warning(action: str, fields: dict[str, Any]) -> None:
    assert accept(encode(action, **fields)).warnings == tuple(f"unknown field '{name}'" for name in fields)


def test_a_copy_keeps_the_warnings() -> None:
    request = accept(encode("allocate_cores", x=1)).model_copy(update={"service_name": "b"})
    assert request.warnings == ("unknown field 'x'",)


def test_requests_full_of_unknown_fields_have_few_warnings() -> None:
    many = {f"{number:x}": 0 for number in range(6000)}
    assert len(accept(encode("list_allocations", **many)).warnings) <= 20


@pytest.mark.parametrize("action", ["allocate_cores", "allocate_numa_cores"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"null", "null"),
        (b"true", "true"),
        (b'"2"', '"2"'),
        (b"2.5", "2.5"),
        (b"1e400", "1e999"),
        (b"-1e400", "-1e999"),
        (b"[null, false]", "[null, false]"),
        (b'{"a": "\\u0041"}', '{"a": "A"}'),
        (b"[1e400]", "[1e999]"),
    ],
)
def test_a_wrong_value_is_shown_as_json(action: str, value: bytes, shown: str) -> None:
    data = encode(action, num_of_cores=77).replace(b"77", value)
    assert refusal(data) == f"Field 'num_of_cores' must be a JSON integer, not {shown}"
