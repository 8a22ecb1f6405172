# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Wrong requests of every kind: each is refused with one clear sentence, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from .harness import READ_TIMEOUT, Daemon, Json, connect, decode, encode, error_of, read_to_end

SIZE_LIMIT: Final = 64 * 1024

#: A good request of each changing action.
CORES: Final[Json] = {"service_name": "svc", "num_of_cores": 1}
PERCENT: Final[Json] = {"service_name": "svc", "percent": 10}
NUMA: Final[Json] = {"service_name": "svc", "numa_node": 0, "num_of_cores": 1}
PAGES: Final[Json] = {"service_name": "svc", "node_id": 0, "size_kb": 2048, "hugepages_requested": 1}
GOOD: Final[dict[str, Json]] = {
    "allocate_cores": CORES,
    "allocate_cores_percent": PERCENT,
    "allocate_numa_cores": NUMA,
    "allocate_hugepages": PAGES,
    "list_allocations": {},
    "get_memory_info": {},
    "get_machine": {},
}


class Missing:
    """A field that is left out."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon for the whole module, with claims that no test may change."""
    with Daemon() as started:
        started.start()
        started.cores("holder", 2)
        started.numa("pinned", 1, 2, preemption_policy="non-preemptive")
        started.pages("holder", 0, 2048, 10)
        yield started


def sentence(daemon: Daemon, request: bytes, timeout: float = READ_TIMEOUT - 1) -> str:
    """The sentence by which the daemon refuses a bad request; the request must change nothing."""
    before = daemon.snapshot()
    found = error_of(decode(daemon.request(request, timeout)))
    assert daemon.snapshot() == before
    assert "Traceback" not in daemon.log()
    return found


#: No bytes that may follow can make one of these a JSON object, so the daemon need not wait for the read timeout.
NO_OBJECT: Final = {
    "a word": b"hello",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zero bytes": b"\0\0\0\0",
    "closing brace": b"}",
    "array": b"[]",
    "array of a request": b'[{"action": "list_allocations"}]',
    "null": b"null",
    "true": b"true",
    "number": b"1",
    "negative number": b"-1.5",
    "huge number": b"9" * 5000,
    "string": b'"list_allocations"',
    "string of a request": b'"{\\"action\\": \\"list_allocations\\"}"',
    "UTF-16": '{"action": "list_allocations"}'.encode("utf-16"),
    "UTF-32": '{"action": "list_allocations"}'.encode("utf-32"),
    "deep arrays": b"[" * 60_000,
}

#: These begin like an object; they are invalid before their end, or followed by more.
INVALID_OBJECT: Final = {
    "single quotes": b"{'action': 'list_allocations'}",
    "bare key": b'{action: "list_allocations"}',
    "no value": b'{"action": }',
    "no colon": b'{"action" "list_allocations"}',
    "no comma": b'{"version": "1.0" "action": "list_allocations"}',
    "comma at the end": b'{"action": "list_allocations",}',
    "comment": b'{"action": "list_allocations" /* all */}',
    "line break in a string": b'{"action": "list_\nallocations"}',
    "unknown escape": b'{"action": "list_\\xallocations"}',
    "half an escape": b'{"action": "list_\\u12"}',
    "leading zero": b'{"action": "list_allocations", "x": 01}',
    "plus sign": b'{"action": "list_allocations", "x": +1}',
    "hexadecimal": b'{"action": "list_allocations", "x": 0x10}',
    "True": b'{"action": "list_allocations", "x": True}',
    "NaN": b'{"action": "allocate_cores", "service_name": "svc", "num_of_cores": NaN}',
    "NaN in an unknown field": b'{"action": "list_allocations", "x": NaN}',
    "Infinity": b'{"action": "allocate_cores", "service_name": "svc", "num_of_cores": Infinity}',
    "-Infinity": b'{"action": "allocate_cores", "service_name": "svc", "num_of_cores": -Infinity}',
    "two requests": b'{"action": "list_allocations"}{"action": "list_allocations"}',
    "text behind the request": b'{"action": "list_allocations"} x',
    "zero byte behind the request": b'{"action": "list_allocations"}\0',
    "Latin-1": '{"action": "get_memory_info", "service_name": "hôte"}'.encode("latin-1"),
    "byte FF": b'{"action": "list_allocations", "x": "\xff"}',
    "overlong slash": b'{"action": "list_allocations", "x": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"action": "list_allocations", "x": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"action": "list_allocations", "x": "\xf4\x90\x80\x80"}',
    "half a character": b'{"action": "list_allocations", "x": "\xe6\xbc"}',
    "invalid UTF-8 outside strings": b'{"action": "list_allocations", \xe6\xbc}',
    "deep unknown field": b'{"action": "list_allocations", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep action": b'{"action": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
}


@pytest.mark.parametrize("request_bytes", NO_OBJECT.values(), ids=NO_OBJECT.keys())
def test_refuses_all_but_an_object(daemon: Daemon, request_bytes: bytes) -> None:
    assert sentence(daemon, request_bytes) == "The request is not a JSON object"


@pytest.mark.parametrize("request_bytes", INVALID_OBJECT.values(), ids=INVALID_OBJECT.keys())
def test_refuses_invalid_json(daemon: Daemon, request_bytes: bytes) -> None:
    assert sentence(daemon, request_bytes).startswith("The request is not one valid JSON object: ")


@pytest.mark.parametrize("request_bytes", [b'{"a":' * 12_000, b'{"a":' + b"[" * 60_000], ids=["objects", "arrays"])
def test_refuses_deep_nesting_without_an_end(daemon: Daemon, request_bytes: bytes) -> None:
    # Shorter than the size limit: the daemon may wait for the rest.
    assert "recursion limit exceeded" in sentence(daemon, request_bytes, timeout=READ_TIMEOUT + 5)


@pytest.mark.parametrize("name", ["single quotes", "NaN", "Latin-1", "half a character", "array"])
def test_refuses_invalid_json_in_pieces(daemon: Daemon, name: str) -> None:
    request = (NO_OBJECT | INVALID_OBJECT)[name]
    with connect(daemon.socket_path, READ_TIMEOUT - 1) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(len(request)):
                client.sendall(request[start : start + 1])
                time.sleep(0.005)
        assert "JSON object" in error_of(decode(read_to_end(client)))


@pytest.mark.parametrize("value", ["2.0", "1", "1.0.0", "", " 1.0", None, 1.0, 1, True, ["1.0"], {}], ids=repr)
@pytest.mark.parametrize("action", GOOD)
def test_refuses_other_versions(daemon: Daemon, action: str, value: Any) -> None:
    found = sentence(daemon, json.dumps({"version": value, "action": action, **GOOD[action]}).encode())
    assert "version" in found.lower()


@pytest.mark.parametrize("value", ["foo", "allocate", "ALLOCATE_CORES", "allocate_cores ", "__init__", "hôte"])
def test_refuses_an_unknown_action(daemon: Daemon, value: str) -> None:
    assert sentence(daemon, encode(value, CORES)) == f"Unknown action: {value}"


@pytest.mark.parametrize("value", [MISSING, None, 1, True, ["allocate_cores"], {"allocate_cores": 1}], ids=repr)
def test_refuses_an_action_that_is_no_string(daemon: Daemon, value: Any) -> None:
    request: Json = {"version": "1.0", **CORES}
    if value is not MISSING:
        request["action"] = value
    assert "action" in sentence(daemon, json.dumps(request).encode()).lower()


@pytest.mark.parametrize("value", ["", "foo\nbar", "\x1b[31mred", "a\0b"], ids=ascii)
def test_refuses_an_unprintable_action(daemon: Daemon, value: str) -> None:
    assert "Unknown action" in sentence(daemon, encode(value, CORES))


BAD_NAMES: Final = {
    "empty": "",
    "256": "x" * 256,
    "10000": "x" * 10_000,
    "line break": "a\nb",
    "tab": "a\tb",
    "zero": "a\0b",
    "escape": "\x1b[2J",
    "delete": "a\x7f",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "zero width space": "a\u200bb",
    "right-to-left override": "a\u202eb",
    "byte order mark": "\ufeffa",
    "private use": "\ue000",
    "number": 1,
    "true": True,
    "array": ["svc"],
    "object": {"name": "svc"},
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
@pytest.mark.parametrize("action", GOOD)
def test_refuses_a_bad_service_name(daemon: Daemon, action: str, name: Any) -> None:
    assert "service_name" in sentence(daemon, encode(action, GOOD[action] | {"service_name": name}))


@pytest.mark.parametrize(("name", "half"), [("service_name", "\ud800"), ("action", "\ud800"), ("x", "\udc00")])
def test_refuses_a_lone_surrogate(daemon: Daemon, name: str, half: str) -> None:
    fields = {"version": "1.0", "action": "allocate_cores", **CORES, name: half}
    assert "hex escape" in sentence(daemon, json.dumps(fields).encode())


@pytest.mark.parametrize("name", [MISSING, None], ids=["missing", "null"])
@pytest.mark.parametrize("action", [action for action, fields in GOOD.items() if fields])
def test_refuses_a_change_without_service_name(daemon: Daemon, action: str, name: Any) -> None:
    fields = {key: value for key, value in GOOD[action].items() if key != "service_name"}
    if name is not MISSING:
        fields["service_name"] = name
    assert "service_name" in sentence(daemon, encode(action, fields))


NUMBERS: Final = [
    ("allocate_cores", "num_of_cores", [-2, -100]),
    ("allocate_cores_percent", "percent", [-2, 101, 1000, MISSING]),
    ("allocate_numa_cores", "num_of_cores", [-2, -100, MISSING]),
    ("allocate_numa_cores", "numa_node", [-1, -2, MISSING]),
    ("allocate_hugepages", "node_id", [-1, -2, MISSING]),
    ("allocate_hugepages", "size_kb", [0, -1, -2048, MISSING]),
    ("allocate_hugepages", "hugepages_requested", [-2, -100, MISSING]),
]
NO_INTEGERS: Final[list[Any]] = [None, True, False, "1", "", 1.0, 1.5, 1e2, [1], {}, -(10**30)]


@pytest.mark.parametrize(
    ("action", "field", "value"),
    [(action, field, value) for action, field, values in NUMBERS for value in [*values, *NO_INTEGERS]],
    ids=repr,
)
def test_refuses_a_bad_number(daemon: Daemon, action: str, field: str, value: Any) -> None:
    fields = {key: old for key, old in GOOD[action].items() if key != field}
    if value is not MISSING:
        fields[field] = value
    assert field in sentence(daemon, encode(action, fields))


@pytest.mark.parametrize(
    "value", [2**31, 2**63, 2**64, 10**30, 10**4000], ids=["2^31", "2^63", "2^64", "1e30", "1e4000"]
)
@pytest.mark.parametrize(("action", "field"), [(action, field) for action, field, _ in NUMBERS])
def test_refuses_a_huge_number(daemon: Daemon, action: str, field: str, value: int) -> None:
    assert field in sentence(daemon, encode(action, GOOD[action] | {field: value}))


@pytest.mark.parametrize(
    ("literal", "named"),
    [
        (b"9" * 5_000, "number out of range"),
        (b"-" + b"9" * 5_000, "number out of range"),
        (b"1" + b"0" * 60_000, "number out of range"),
        (b"1e400", "num_of_cores"),
        (b"-1e400", "num_of_cores"),
    ],
    ids=lambda value: value[:5] if isinstance(value, bytes) else "",
)
def test_refuses_a_number_beyond_machine_numbers(daemon: Daemon, literal: bytes, named: str) -> None:
    request = b'{"action": "allocate_cores", "service_name": "svc", "num_of_cores": %s}' % literal
    assert named in sentence(daemon, request)


@pytest.mark.parametrize(
    ("action", "field"), [("allocate_numa_cores", "num_of_cores"), ("allocate_hugepages", "hugepages_requested")]
)
def test_refuses_zero(daemon: Daemon, action: str, field: str) -> None:
    assert sentence(daemon, encode(action, GOOD[action] | {field: 0})) == f"{field}=0 is invalid for {action}"


@pytest.mark.parametrize("value", [0, 1, -1, "0", True, [0]], ids=repr)
def test_allocate_cores_refuses_a_numa_node(daemon: Daemon, value: Any) -> None:
    assert "numa_node" in sentence(daemon, encode("allocate_cores", CORES | {"numa_node": value}))


WITH_POOL: Final = ["allocate_cores", "allocate_cores_percent", "allocate_numa_cores", "list_allocations"]


@pytest.mark.parametrize(
    "pool", [None, "", "foo", "Isolated", "isolated ", "general", 0, True, ["isolated"], {}, "x\ny"], ids=repr
)
@pytest.mark.parametrize("action", WITH_POOL)
def test_refuses_an_unknown_pool(daemon: Daemon, action: str, pool: Any) -> None:
    assert "pool" in sentence(daemon, encode(action, GOOD[action] | {"pool": pool})).lower()


@pytest.mark.parametrize("pool", [None, "foo", "general"], ids=repr)
@pytest.mark.parametrize(
    ("action", "release"), [("allocate_cores", {"num_of_cores": -1}), ("allocate_cores_percent", {"percent": 0})]
)
def test_refuses_an_unknown_pool_in_a_release(daemon: Daemon, action: str, release: Json, pool: Any) -> None:
    assert "pool" in sentence(daemon, encode(action, {"service_name": "holder", "pool": pool, **release})).lower()


@pytest.mark.parametrize(
    "policy", ["", "foo", "Legacy", "non_preemptive", "legacy ", 0, True, ["legacy"], {}], ids=repr
)
@pytest.mark.parametrize("action", ["allocate_cores", "allocate_cores_percent", "allocate_numa_cores"])
def test_refuses_an_unknown_preemption_policy(daemon: Daemon, action: str, policy: Any) -> None:
    assert "preemption_policy" in sentence(daemon, encode(action, GOOD[action] | {"preemption_policy": policy}))


def padded(size: int) -> bytes:
    """A valid request of exactly this many bytes, by an unknown field."""
    start, end = b'{"action": "list_allocations", "x": "', b'"}'
    return start + b"a" * (size - len(start) - len(end)) + end


def test_accepts_the_largest_request(daemon: Daemon) -> None:
    assert "error" not in decode(daemon.request(padded(SIZE_LIMIT)))


TOO_LARGE: Final = "The request is larger than 65536 bytes"


def test_refuses_one_byte_more(daemon: Daemon) -> None:
    assert sentence(daemon, padded(SIZE_LIMIT + 1)) == TOO_LARGE


@pytest.mark.parametrize(
    ("mebibytes", "kind"),
    [(1, "valid JSON"), (1, "unfinished"), (1, "blanks"), (1, "noise"), (100, "valid JSON"), (100, "noise")],
)
def test_refuses_megabytes(daemon: Daemon, mebibytes: int, kind: str) -> None:
    # Clients send everything before they read, so a client sees the answer only if the daemon does not hang up.
    request = {
        "valid JSON": padded(mebibytes << 20),
        "unfinished": b'{"x": "' + b"a" * (mebibytes << 20),
        "blanks": b" " * (mebibytes << 20) + b'{"action": "list_allocations"}',
        "noise": b"\xff\0" * (mebibytes << 19),
    }[kind]
    expected = "The request is not a JSON object" if kind == "noise" else TOO_LARGE
    assert sentence(daemon, request, timeout=60) == expected


def test_bad_requests_have_changed_nothing(daemon: Daemon) -> None:
    assert {name: len(cpus) for name, cpus in daemon.claims().items()} == {"holder": 2, "pinned": 2}
    assert daemon.free_pages(0, 2048) == 54
