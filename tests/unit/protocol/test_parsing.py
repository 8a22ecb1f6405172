# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Parsing: bytes become a request, an error of one sentence, or wait for more."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.protocol.parsing import parse
from epa_orchestrator.protocol.requests import Request

from .builders import ACTIONS, accept, encode, refusal

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
def test_waits_for_the_last_byte_of_a_request(whole: bytes) -> None:
    """Cut anywhere: inside characters, escapes, surrogate pairs, numbers and literals."""
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
def test_waits_for_the_rest_of_a_request_with_unknown_fields(
    action: str, more: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    """Unknown fields are ignored, whatever is in them."""
    text = json.dumps({**more, "action": action, **ACTIONS[action]}, ensure_ascii=ascii_only, indent=indent)
    whole = text.encode("utf-8", "surrogatepass")
    for end in range(len(whole)):
        assert parse(whole[:end]) is None, whole[:end]
    assert accept(whole) == accept(encode(action))


@pytest.mark.parametrize("blank", [b"", b" ", b"\n\r\t  "])
def test_ignores_blanks_around_a_request(blank: bytes) -> None:
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
def test_refuses_text_that_does_not_begin_an_object(data: bytes) -> None:
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
def test_refuses_text_that_cannot_become_json(data: bytes) -> None:
    assert refusal(data).startswith("The request is not one valid JSON object: ")


@pytest.mark.parametrize("action", ACTIONS)
def test_refuses_a_second_request(action: str) -> None:
    assert "trailing" in refusal(encode(action) + encode(action))
    assert "trailing" in refusal(encode(action) + b"\n" + b"x")


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_refuses_bytes_that_are_no_object(data: bytes) -> None:
    if data.strip(b" \t\r\n") == b"":
        assert parse(data) is None
    elif not data.lstrip().startswith(b"{"):
        refusal(data)
    else:
        refusal(data + b"\xff\xff")


@settings(deadline=None)
@given(st.sampled_from(WHOLE_REQUESTS), st.integers(0, 1000), st.sampled_from([b"\x00", b"\x01", b"\xff", b"\x7f\xff"]))
def test_refuses_a_byte_that_json_cannot_hold(whole: bytes, at: int, byte: bytes) -> None:
    at = at % len(whole)
    refusal(whole[:at] + byte + whole[at:])


# --- what errors repeat ---


@settings(deadline=None)
@given(
    st.sampled_from(["action", "version", "service_name", "pool", "preemption_policy", "num_of_cores", "numa_node"]),
    st.one_of(st.text(min_size=300, max_size=400), st.lists(st.text(min_size=100), min_size=3, max_size=5)),
)
def test_error_is_short_and_printable(field: str, value: object) -> None:
    """`refusal` checks that it is printable; escapes may make a character twelve bytes long."""
    assert len(refusal(encode("allocate_cores", **{field: value}))) < 300


@pytest.mark.parametrize("field", ["action", "pool", "version", "preemption_policy"])
def test_error_cuts_a_long_value(field: str) -> None:
    sentence = refusal(encode("allocate_cores", **{field: "y" * 60_000}))
    assert "yyyy" in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize("field", ["action", "pool", "version", "preemption_policy"])
def test_error_replaces_control_characters(field: str) -> None:
    sentence = refusal(encode("allocate_cores", **{field: "a\x1b[2J\r\n\u202eb"}))
    assert "\N{REPLACEMENT CHARACTER}[2J" in sentence
