# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Framing: the pieces of a request do not change the result, and the cost is linear in its bytes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.protocol import framing
from epa_orchestrator.protocol.fields import ProtocolError
from epa_orchestrator.protocol.framing import MAX_PIECES, IncomingRequest
from epa_orchestrator.protocol.parsing import MAX_REQUEST_BYTES, parse
from epa_orchestrator.protocol.readings import GetMemoryInfo
from epa_orchestrator.protocol.requests import Request

LISTING = b'{"action": "list_allocations"}'


def fed(data: bytes, size: int) -> tuple[Request | str | None, int]:
    """The result of the data in pieces of this size (a request, an error or None), and after how many bytes."""
    incoming = IncomingRequest()
    for start in range(0, len(data), size):
        try:
            request = incoming.feed(data[start : start + size])
        except ProtocolError as error:
            return str(error), start + size
        if request is not None:
            return request, start + size
    return None, len(data)


def padded(body: bytes) -> bytes:
    """A listing with an unknown field."""
    return b'{"action": "list_allocations", "x": ' + body + b"}"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    "text",
    [
        LISTING,
        padded(b'"} { ] [ \\" \\\\"'),
        padded(b'"\\\\\\"}"'),
        padded(b'[{"a": [[], {}]}, "}", []]'),
        padded('"漢\N{GRINNING FACE}"'.encode()),
        b"\n\t " + LISTING,
    ],
)
def test_request_is_whole_with_its_last_brace(text: bytes, size: int) -> None:
    request, read = fed(text, size)
    assert request == parse(text)
    assert len(text) <= read < len(text) + size


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


@given(value=JSON, ascii_only=st.booleans(), data=st.data())
def test_any_object_in_any_pieces(value: object, ascii_only: bool, data: st.DataObject) -> None:
    text = json.dumps({"action": "list_allocations", "x": value}, ensure_ascii=ascii_only).encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    incoming, request = IncomingRequest(), None
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        request = incoming.feed(text[start:end])
        assert (request is None) == (end < len(text))
    assert request == parse(text)


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize(
    ("text", "at"),
    [
        (b"hello, this is no JSON", 1),
        (b"  \n x" + b" " * 100, 5),
        (b"{'action': 'list_allocations'}", 2),
        (b'{"action" "list_allocations"}', 11),
        (b'{"action": nothing', 13),
        (b'{"x": "\xff' + b"a" * 100, 8),
        (b'{"x": 01' + b"1" * 100, 8),
    ],
)
def test_mistakes_show_with_the_byte_that_makes_them(text: bytes, at: int, size: int) -> None:
    found, read = fed(text, size)
    assert isinstance(found, str)
    assert at <= read < at + size
    with pytest.raises(ProtocolError) as raised:
        parse(text[:read])
    assert found == str(raised.value)


def test_mistake_in_a_long_request_shows_when_it_has_doubled() -> None:
    text = padded(b'"' + b"a" * 20_000 + b'" oops' + b"a" * 40_000)
    found, read = fed(text, 1024)
    assert isinstance(found, str)
    assert read <= 2 * 20_043 + 1024


def test_text_behind_the_request_in_the_piece_that_ends_it() -> None:
    incoming = IncomingRequest()
    assert incoming.feed(LISTING[:10]) is None
    with pytest.raises(ProtocolError, match="trailing characters"):
        incoming.feed(LISTING[10:] + b'{"action": ')


@pytest.mark.parametrize("size", [4096, MAX_REQUEST_BYTES, MAX_REQUEST_BYTES + 1])
def test_size_limit(size: int) -> None:
    largest = padded(b'"' + b"a" * (MAX_REQUEST_BYTES - len(padded(b'""'))) + b'"')
    assert len(largest) == MAX_REQUEST_BYTES
    assert fed(largest, size)[0] == parse(LISTING)
    assert fed(b" " + largest, size)[0] == "The request is larger than 65536 bytes"


def test_limit_on_pieces() -> None:
    text = padded(b'"' + b"a" * 2 * MAX_PIECES)
    found, read = fed(text, 1)
    assert found == f"The request came in more than {MAX_PIECES} pieces: send it in one write"
    assert read == MAX_PIECES + 1


def test_an_incomplete_request_can_be_checked() -> None:
    incoming = IncomingRequest()
    assert not incoming
    incoming.feed(padded(b'"' + b"a" * 30_000))
    assert incoming
    assert incoming.check() is None
    assert incoming.feed(b'" oops') is None
    with pytest.raises(ProtocolError, match="The request is not one valid JSON object"):
        incoming.check()


def test_names_in_pieces() -> None:
    name = "hôte-漢字"
    text = json.dumps({"action": "get_memory_info", "service_name": name}, ensure_ascii=False).encode()
    request, _ = fed(text, 1)
    assert isinstance(request, GetMemoryInfo)
    assert request.service_name == name


@pytest.mark.parametrize(
    ("start", "unit"),
    [(b'"', b"aa"), (b'"', b'\\"'), (b"[", b"1,"), (b"[", b"[],"), (b"[", b'"",'), (b"", b"  ")],
    ids=["string", "escapes", "numbers", "arrays", "strings", "blanks"],
)
def test_no_byte_costs_more_in_a_long_request(start: bytes, unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_PIECES", MAX_REQUEST_BYTES)

    def cost_of_a_byte(size: int) -> float:
        text = padded(start + unit * (size // len(unit)))[:-1]
        best = float("inf")
        for _ in range(3):
            begin = time.process_time()
            assert fed(text, 1)[0] is None
            best = min(best, time.process_time() - begin)
        return best / len(text)

    short, long = cost_of_a_byte(4_000), cost_of_a_byte(60_000)
    assert long < 3 * short, f"{long * 1e6:.1f} µs a byte instead of {short * 1e6:.1f}"
    assert long < 20e-6, f"{long * 1e6:.1f} µs a byte"
