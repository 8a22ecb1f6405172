"""The wire: bytes become a request, an error of one sentence, or wait for more; answers hold what clients rely on."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.names import PreemptionPolicy
from epa_orchestrator.protocol.answers import (
    FEATURES,
    Allocated,
    Allocation,
    Answer,
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
    Scope,
)
from epa_orchestrator.protocol.requests import ProtocolError, Request, parse

ACTIONS: dict[str, dict[str, Any]] = {
    "allocate_cores": {"service_name": "a"},
    "allocate_cores_percent": {"service_name": "a", "percent": 50},
    "allocate_numa_cores": {"service_name": "a", "numa_node": 0, "num_of_cores": 2},
    "list_allocations": {},
    "get_memory_info": {},
    "allocate_hugepages": {"service_name": "a", "node_id": 0, "size_kb": 2048, "hugepages_requested": 4},
}
READING = ("list_allocations", "get_memory_info")
MUTATIONS = tuple(action for action in ACTIONS if action not in READING)
WITH_POOL = ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores", "list_allocations")
WITH_POLICY = ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores")

#: 255 printable characters of four bytes each.
LONGEST_NAME = "\N{GRINNING FACE}" * 255


def encode(action: str, /, **fields: Any) -> bytes:
    """A valid request of an action with other or more fields."""
    return json.dumps({"version": "1.0", "action": action, **ACTIONS[action], **fields}).encode()


def accept(data: bytes) -> Request:
    """The request that these bytes are."""
    request = parse(data)
    assert request is not None
    return request


def refusal(data: bytes) -> str:
    """The sentence that refuses these bytes; one clear sentence, short enough for one recv."""
    with pytest.raises(ProtocolError) as caught:
        parse(data)
    sentence = str(caught.value)
    assert sentence
    assert sentence.isprintable(), sentence
    assert len(ErrorAnswer(error=sentence).encode()) < 4096
    return sentence


# --- arriving in pieces ---

WHOLE_REQUESTS: list[bytes] = [
    *(encode(action) for action in ACTIONS),
    encode("allocate_cores", service_name='a\\b"c/d\u00e4\N{GRINNING FACE}'),
    json.dumps(
        {"action": "list_allocations", "service_name": "\u00e4\u20ac\N{GRINNING FACE}", "x": [1.5e-3, -0, None, True]},
        ensure_ascii=False,
    ).encode(),
    b' \n\t{ "action" :\r\n "get_memory_info" , "x" : { "y" : [ [ ] , { } , -1.25E+2 , false ] } }',
    b'{"action":"list_allocations","x":"\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u00e4 \\ud83d\\ude00 \\u0000"}',
    b'{"x":"}","y":"\\"}","action":"list_allocations"}',
]


@pytest.mark.parametrize("whole", WHOLE_REQUESTS)
def test_a_request_is_waited_for_until_its_last_byte(whole: bytes) -> None:
    """Wherever it is cut: inside of characters, of escapes, of surrogate pairs, of numbers and literals."""
    for end in range(len(whole)):
        assert parse(whole[:end]) is None, whole[:end]
    assert accept(whole).version == "1.0"
    assert parse(bytearray(whole)) == parse(whole)


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
KNOWN = {"action", *(name for model in get_args(Request) for name in model.model_fields)}


@settings(deadline=None)
@given(
    action=st.sampled_from(list(ACTIONS)),
    more=st.dictionaries(st.text().filter(lambda name: name not in KNOWN), JSON_VALUES),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
)
def test_every_part_of_a_valid_request_waits_and_the_whole_is_served(
    action: str, more: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    """Unknown fields are ignored, whatever is in them."""
    text = json.dumps({**more, "action": action, **ACTIONS[action]}, ensure_ascii=ascii_only, indent=indent)
    whole = text.encode("utf-8", "surrogatepass")
    for end in range(len(whole)):
        assert parse(whole[:end]) is None, whole[:end]
    assert accept(whole) == accept(encode(action))


@pytest.mark.parametrize("blank", [b"", b" ", b"\n\r\t  "])
def test_blanks_around_a_request_do_not_matter(blank: bytes) -> None:
    assert parse(blank) is None
    assert accept(blank + encode("list_allocations") + blank) == accept(encode("list_allocations"))


# --- what cannot become a request ---


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"[",
        b"null",
        b"n",
        b"true",
        b"5",
        b"-",
        b'"action"',
        b'"',
        b"GET / HTTP/1.1\r\n",
        b"hello",
        b"}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"\0",
        b"  x",
        b"// {}",
    ],
)
def test_what_does_not_begin_as_an_object_is_refused_at_once(data: bytes) -> None:
    assert refusal(data) == "The request is not a JSON object"


@pytest.mark.parametrize(
    "data",
    [
        b"{]",
        b"{,",
        b"{'",
        b"{a",
        b"{1",
        b"{{",
        b'{"a"}',
        b'{"a",',
        b'{"a" "b"',
        b'{"a":}',
        b'{"a":,',
        b'{"a":1,}',
        b'{"a":1 "b"',
        b'{"a":[1,]',
        b'{"a":[}',
        b'{"a":01',
        b'{"a":+1',
        b'{"a":.5',
        b'{"a":1.}',
        b'{"a":1e}',
        b'{"a":0x1',
        b'{"a":--',
        b'{"a":NaN',
        b'{"a":Infinity',
        b'{"a":-Infinity',
        b'{"a":nan',
        b'{"a":True',
        b'{"a":nulL',
        b'{"a":"\n',
        b'{"a":"\x00',
        b'{"a":"\x1b',
        b'{"a":"\\x',
        b'{"a":"\\u12gg',
        b'{"a":"\\ud800"',
        b'{"a":"\\ud800x',
        b'{"a":"\\ud800\\ud800',
        b'{"a":"\\udc00"}',
        b'{"a":"\xff',
        b'{"a":"\xc3(',
        b'{"a":"\x80"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xf5\x80\x80\x80"}',
        b'{"\xff":1}',
        b'{"a":1}x',
        b'{"a":1}}',
        b'{"a":1}{"a":1}',
        b'{"a":1} []',
        b'{"a":1}\0',
        b'{"a":1}\xff',
        b"{/* */",
        b'{"a":' * 10_000,
        b'{"a":' + b"[" * 60_000,
        b'{"action":"list_allocations","a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' + b"9" * 60_000 + b"}",
    ],
)
def test_what_cannot_become_valid_json_is_refused_at_once(data: bytes) -> None:
    assert refusal(data).startswith("The request is not one valid JSON object: ")


@pytest.mark.parametrize("action", ACTIONS)
def test_one_request_per_connection(action: str) -> None:
    assert "trailing" in refusal(encode(action) + encode(action))
    assert "trailing" in refusal(encode(action) + b"\n" + b"x")


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_object_are_refused(data: bytes) -> None:
    if data.strip(b" \t\r\n") == b"":
        assert parse(data) is None
    elif not data.lstrip().startswith(b"{"):
        refusal(data)
    else:
        refusal(data + b"\xff\xff")


@settings(deadline=None)
@given(st.sampled_from(WHOLE_REQUESTS), st.integers(0, 1000), st.sampled_from([b"\x00", b"\x01", b"\xff", b"\x7f\xff"]))
def test_a_byte_that_json_never_holds_spoils_a_request(whole: bytes, at: int, byte: bytes) -> None:
    at = at % len(whole)
    refusal(whole[:at] + byte + whole[at:])


# --- common fields ---


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_known_with_and_without_version(action: str) -> None:
    assert accept(encode(action)).action == action
    without = json.dumps({"action": action, **ACTIONS[action]}).encode()
    assert accept(without) == accept(encode(action))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("version", ["1", "1.1", "2.0", "", " 1.0", 1.0, 1, None, True, ["1.0"], {}])
def test_any_other_version_is_an_error(action: str, version: object) -> None:
    sentence = refusal(encode(action, version=version))
    assert "'version'" in sentence
    assert "1.0" in sentence


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ("free_cores", "free_cores"),
        ("", ""),
        ("ALLOCATE_CORES", "ALLOCATE_CORES"),
        (" list_allocations", " list_allocations"),
        ("list_allocations\0", "list_allocations\N{REPLACEMENT CHARACTER}"),
        ("__class__", "__class__"),
        (5, "5"),
        (None, "None"),
        (True, "True"),
        (["allocate_cores"], "['allocate_cores']"),
        ({"a": 1}, "{'a': 1}"),
        (1.5, "1.5"),
    ],
)
def test_an_unknown_action_is_named(action: object, shown: str) -> None:
    assert refusal(json.dumps({"action": action}).encode()) == f"Unknown action: {shown}"


@pytest.mark.parametrize("document", [{}, {"version": "1.0", "service_name": "a"}, {"Action": "list_allocations"}])
def test_a_missing_action_is_an_error(document: dict[str, Any]) -> None:
    assert refusal(json.dumps(document).encode()) == "Field 'action' is missing"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "name",
    [
        "a",
        " ",
        "x" * 255,
        LONGEST_NAME,
        "nova-compute/0 (blue)",
        "\u00fcn\u00efc\u00f6d\u00e9",
        "[red]'\"\\{}$(x)",
        "\u4e2d\u6587",
    ],
)
def test_a_service_name_has_1_to_255_printable_characters(action: str, name: str) -> None:
    assert accept(encode(action, service_name=name)).service_name == name


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "must have 1 to 255 characters"),
        ("x" * 256, "must have 1 to 255 characters"),
        ("x" * 10_000, "must have 1 to 255 characters"),
        ("\0", "must hold printable characters only"),
        ("a\nb", "must hold printable characters only"),
        ("a\tb", "must hold printable characters only"),
        ("a\x7f", "must hold printable characters only"),
        ("\x1b[31mred", "must hold printable characters only"),
        ("\x9b31m", "must hold printable characters only"),
        ("a\u00a0b", "must hold printable characters only"),
        ("\u202egnp.exe", "must hold printable characters only"),
        ("a\u2028b", "must hold printable characters only"),
        ("\ufeffa", "must hold printable characters only"),
        (5, "must be a string"),
        (True, "must be a string"),
        (1.5, "must be a string"),
        (["a"], "must be a string"),
        ({"a": "b"}, "must be a string"),
    ],
)
def test_any_other_service_name_is_an_error(action: str, name: object, says: str) -> None:
    sentence = refusal(encode(action, service_name=name))
    assert sentence.startswith("Field 'service_name' ")
    assert says in sentence


@settings(deadline=None)
@given(st.sampled_from(list(ACTIONS)), st.text(max_size=300))
def test_any_service_name_is_served_as_it_is_or_refused(action: str, name: str) -> None:
    if name and len(name) <= 255 and name.isprintable():
        assert accept(encode(action, service_name=name)).service_name == name
    else:
        refusal(encode(action, service_name=name))


@pytest.mark.parametrize("action", READING)
def test_the_reading_actions_need_no_service_name(action: str) -> None:
    assert accept(encode(action)).service_name is None
    assert accept(encode(action, service_name=None)).service_name is None


@pytest.mark.parametrize("action", MUTATIONS)
def test_the_other_actions_need_one(action: str) -> None:
    fields = {name: value for name, value in ACTIONS[action].items() if name != "service_name"}
    assert refusal(json.dumps({"action": action, **fields}).encode()) == "Field 'service_name' is missing"
    assert "'service_name' must be a string" in refusal(encode(action, service_name=None))


@pytest.mark.parametrize("action", WITH_POOL)
def test_the_pool_is_isolated_unless_named(action: str) -> None:
    assert getattr(accept(encode(action)), "pool", None) == "isolated"
    for pool in ("isolated", "general"):
        assert getattr(accept(encode(action, pool=pool)), "pool", None) == pool


@pytest.mark.parametrize("action", WITH_POOL)
@pytest.mark.parametrize("pool", [None, "", "Isolated", "shared", "isolated ", 0, True, ["isolated"], {}])
def test_any_other_pool_is_an_error_and_never_a_fallback(action: str, pool: object) -> None:
    sentence = refusal(encode(action, pool=pool))
    assert sentence.startswith("Field 'pool' must be 'isolated' or 'general'")


@pytest.mark.parametrize("action", WITH_POLICY)
def test_the_policy_is_inherited_unless_named(action: str) -> None:
    assert getattr(accept(encode(action)), "preemption_policy", 0) is None
    for policy in (None, "legacy", "non-preemptive"):
        assert getattr(accept(encode(action, preemption_policy=policy)), "preemption_policy", 0) == policy


@pytest.mark.parametrize("action", WITH_POLICY)
@pytest.mark.parametrize("policy", ["", "Legacy", "nonpreemptive", "non_preemptive", 0, False, ["legacy"], {}])
def test_any_other_policy_is_an_error(action: str, policy: object) -> None:
    sentence = refusal(encode(action, preemption_policy=policy))
    assert "'preemption_policy'" in sentence
    assert "'legacy'" in sentence
    assert "'non-preemptive'" in sentence


@pytest.mark.parametrize("action", ["get_memory_info", "allocate_hugepages"])
def test_fields_of_other_actions_are_unknown_fields(action: str) -> None:
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
def test_a_switch_is_off_unless_it_is_true(action: str, field: str) -> None:
    assert getattr(accept(encode(action)), field) is False
    for value in (True, False):
        assert getattr(accept(encode(action, **{field: value})), field) is value
    others: list[object] = [None, 1, 0, "true", "", 1.0, [True], {}]
    for value in others:
        sentence = refusal(encode(action, **{field: value}))
        assert sentence.startswith(f"Field '{field}' must be true or false, not ")


@pytest.mark.parametrize("action", ALLOCATING)
@pytest.mark.parametrize(("field", "values"), HINTS.items())
def test_a_wish_is_the_operators_unless_named(action: str, field: str, values: tuple[str, ...]) -> None:
    assert getattr(accept(encode(action)), field) is None
    for value in (None, *values):
        assert getattr(accept(encode(action, **{field: value})), field) == value
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
def test_near_is_a_node_or_a_device(action: str) -> None:
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
def test_near_is_nothing_else(action: str, value: object) -> None:
    """It is looked up in sysfs, so it must not be a path."""
    sentence = refusal(encode(action, near=value))
    assert sentence.startswith("Field 'near' must be a NUMA node, a PCI address or a network interface, not ")
    assert len(sentence) < 300


def test_near_goes_without_a_node_of_the_requests_own() -> None:
    assert accept(encode("allocate_numa_cores", near=None)) == accept(encode("allocate_numa_cores"))
    for value in (0, 1, "eth0", "3b:00.0"):
        assert refusal(encode("allocate_numa_cores", near=value)) == (
            "Field 'near' is not allowed for allocate_numa_cores: numa_node says where"
        )


@pytest.mark.parametrize("action", ["list_allocations", "get_memory_info", "allocate_hugepages"])
def test_what_only_allocating_knows_is_ignored_elsewhere(action: str) -> None:
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
def test_numbers_in_their_range(
    action: str, field: str, lowest: int, highest: int | None, holes: tuple[int, ...]
) -> None:
    for number in {lowest, lowest + 1, lowest + 2, 2, 16, 100, highest or 1048576} - set(holes):
        assert getattr(accept(encode(action, **{field: number})), field) == number


@pytest.mark.parametrize(("action", "field", "lowest", "highest", "holes"), NUMBERS)
def test_numbers_out_of_their_range(
    action: str, field: str, lowest: int, highest: int | None, holes: tuple[int, ...]
) -> None:
    too_high = [highest + 1, highest + 100] if highest is not None else [2**31, 2**63, 2**64, 10**30]
    for number in (lowest - 1, lowest - 2, -(2**31), -(2**63) - 1, -(10**30), *too_high):
        sentence = refusal(encode(action, **{field: number}))
        assert f"'{field}'" in sentence
        assert str(number) in sentence
    for number in holes:
        assert refusal(encode(action, **{field: number})) == f"{field}={number} is invalid for {action}"


@pytest.mark.parametrize(("action", "field"), [(number[0], number[1]) for number in NUMBERS])
@pytest.mark.parametrize("value", [True, False, "1", "", 1.0, 1.5, 1e300, None, [1], {"1": 1}])
def test_numbers_are_json_integers(action: str, field: str, value: object) -> None:
    assert refusal(encode(action, **{field: value})).startswith(f"Field '{field}' must be a JSON integer")


@pytest.mark.parametrize(("action", "field"), [(number[0], number[1]) for number in NUMBERS])
@pytest.mark.parametrize("number", ["1" * 4000, "-" + "1" * 4000, "1" * 5000, "1e400", "-0.0", "1E2", "1.0"])
def test_numbers_in_any_odd_notation_are_refused(action: str, field: str, number: str) -> None:
    text = encode(action, **{field: "@"}).replace(b'"@"', number.encode())
    refusal(text)


@pytest.mark.parametrize(
    ("action", "field"),
    [(action, name) for action in MUTATIONS for name in ACTIONS[action] if name != "service_name"],
)
def test_a_missing_number_is_an_error(action: str, field: str) -> None:
    fields = {name: value for name, value in ACTIONS[action].items() if name != field}
    assert refusal(json.dumps({"action": action, **fields}).encode()) == f"Field '{field}' is missing"


def test_num_of_cores_may_be_left_out_of_allocate_cores() -> None:
    assert getattr(accept(encode("allocate_cores")), "num_of_cores", None) == 0


def test_allocate_cores_takes_a_null_node_and_no_other() -> None:
    """An older hypervisor sends the null."""
    assert accept(encode("allocate_cores", numa_node=None)) == accept(encode("allocate_cores"))
    for node in (0, 1, -1, "0", False, [0], 1.5):
        assert "'numa_node' is not allowed for allocate_cores" in refusal(encode("allocate_cores", numa_node=node))


# --- what errors repeat ---


@settings(deadline=None)
@given(
    st.sampled_from(["action", "version", "service_name", "pool", "preemption_policy", "num_of_cores", "numa_node"]),
    st.one_of(st.text(min_size=300, max_size=400), st.lists(st.text(min_size=100), min_size=3, max_size=5)),
)
def test_what_an_error_repeats_is_bounded_and_printable(field: str, value: object) -> None:
    """`refusal` checks that it is printable; escapes may make a character twelve bytes long."""
    assert len(refusal(encode("allocate_cores", **{field: value}))) < 300


@pytest.mark.parametrize("field", ["action", "pool", "version", "preemption_policy"])
def test_an_error_repeats_only_the_beginning_of_a_long_value(field: str) -> None:
    sentence = refusal(encode("allocate_cores", **{field: "y" * 60_000}))
    assert "yyyy" in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize("field", ["action", "pool", "version", "preemption_policy"])
def test_an_error_does_not_repeat_control_characters(field: str) -> None:
    sentence = refusal(encode("allocate_cores", **{field: "a\x1b[2J\r\n\u202eb"}))
    assert "\N{REPLACEMENT CHARACTER}[2J" in sentence


# --- answers ---

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
def test_an_answer_holds_what_the_protocol_lists(answer: Answer) -> None:
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
    scopes=[Scope(numa_nodes="0", cpus="2-3", cost={"numa_nodes": 1, "lowest_cpu": 2})],
    decided_by="NUMA node 0 alone has such CPUs.",
)


@pytest.mark.parametrize(
    "answer", [each for each in answers("a") if isinstance(each, Allocated)], ids=lambda answer: type(answer).__name__
)
def test_what_an_answer_has_beside_comes_after_what_was_there_before(answer: Allocated) -> None:
    """Byte for byte: whoever knows an older answer finds it as it was."""
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


def test_a_refusal_has_its_reasons_only_when_there_are_some() -> None:
    refused = EXPLANATION.model_copy(update={"rule": "numa-policy"})
    assert json.loads(ErrorAnswer(error="No", explanation=refused).encode()) == {
        "version": "1.0",
        "error": "No",
        "explanation": refused.model_dump(),
    }
    without = json.loads(ErrorAnswer(error="No", explanation=EXPLANATION).encode())["explanation"]
    assert "rule" not in without


def test_the_features_are_those_that_clients_look_for() -> None:
    assert FEATURES[:2] == ("non-preemptive-allocations", "cpu-pools")
    assert set(FEATURES[2:]) == {"placement", "placement-hints", "dry-run", "explain"}


@pytest.mark.parametrize("kind", [CoresAnswer, PercentAnswer, NumaCoresAnswer])
def test_after_a_release_the_policy_is_there_and_null(kind: type[Answer]) -> None:
    answer = next(each for each in answers("a", policy=None, cpus="") if isinstance(each, kind))
    document = json.loads(answer.encode())
    assert document["preemption_policy"] is None
    assert document["cores_allocated" if kind is NumaCoresAnswer else "allocated_cores"] == ""


@pytest.mark.parametrize("name", [LONGEST_NAME, '"' * 255, "\\" * 255, "x" * 255])
def test_an_answer_fits_into_one_recv_whatever_the_service_is_called(name: str) -> None:
    """4096 bytes is what shipped clients ask for; the lists of CPUs may have 2,000 of them."""
    for answer in answers(name, cpus=",".join(str(cpu) for cpu in range(0, 400, 2))):
        if isinstance(answer, Allocated):
            answer = answer.model_copy(update={"placement": PLACEMENT, "dry_run": True})
        encoded = answer.encode()
        assert len(encoded) < 4096, type(answer).__name__
        assert b"\n" not in encoded
        assert name in (json.loads(encoded).get("service_name") or json.loads(encoded)["error"])


def test_memory_info_by_node() -> None:
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


def test_a_listing_holds_what_the_protocol_lists() -> None:
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


def test_a_listing_tells_of_withheld_cpus_and_outdated_placements() -> None:
    withholding = CLAIMS[0].model_copy(update={"withheld_cpus": "10-11"})
    parts = [claim.model_dump_json(exclude_none=True).encode() for claim in (withholding, CLAIMS[1])]
    encoded = head(outdated_placements=("a", "b")).encode_with(parts)
    document = json.loads(encoded)
    assert document["outdated_placements"] == ["a", "b"]
    assert [claim.get("withheld_cpus", 0) for claim in document["allocations"]] == ["10-11", 0]
    listing = Listing.model_validate_json(encoded)
    assert (listing.outdated_placements, listing.allocations) == (("a", "b"), [withholding, CLAIMS[1]])


def test_a_listing_of_nothing() -> None:
    document = json.loads(head(total_allocations=0, total_allocated_cpus=0).encode_with([]))
    assert document["allocations"] == []


def test_a_client_reads_the_listing_that_was_prepared_in_parts() -> None:
    encoded = head(state_error="unreadable").encode_with(
        [claim.model_dump_json(exclude_none=True).encode() for claim in CLAIMS]
    )
    listing = Listing.model_validate_json(encoded)
    assert listing.allocations == CLAIMS
    assert listing.cpu_pool == head().cpu_pool
    assert listing.state_error == "unreadable"


@pytest.mark.parametrize("problem", ["The state database cannot be read", None])
def test_readings_tell_of_an_unreadable_state_only_when_it_is(problem: str | None) -> None:
    listing = json.loads(head(state_error=problem).encode_with([]))
    memory = json.loads(MemoryAnswer(service_name="a", numa_hugepages={}, state_error=problem).encode())
    for document in (listing, memory):
        assert document.get("state_error") == problem
        assert ("state_error" in document) == (problem is not None)


@settings(deadline=None)
@given(st.text())
def test_an_error_is_the_version_and_the_sentence(sentence: str) -> None:
    encoded = ErrorAnswer(error=sentence).encode()
    assert json.loads(encoded) == {"version": "1.0", "error": sentence}
    assert b"\n" not in encoded
