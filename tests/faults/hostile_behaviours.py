# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The behaviours of hostile, odd, slow and broken servers: in connections, in whole answers, and in single fields."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, cast

from .hostile_server import Behaviour, Exchange, Json, Outcome

ESCAPES: Final = "\x1b[31m\x1b]0;t\x07\x9b2J\r\n\u202e"
HUGE: Final = 10**30
MEGABYTES: Final = "5" * 3_000_000
MISSING: Final = object()


@dataclass(frozen=True)
class Key:
    """Another key instead of another value: this before the number of the node."""

    prefix: str


def _sends(name: str, outcome: Outcome, answer: Callable[[bytes], bytes]) -> Behaviour:
    """Another answer, made of the genuine one."""

    def serve(exchange: Exchange) -> bool:
        exchange.connection.sendall(answer(exchange.genuine))
        return True

    return Behaviour(name, outcome, serve)


def _with(field: str) -> Callable[[bytes], bytes]:
    """The genuine answer with one more field, as text."""
    return lambda genuine: genuine[:-1] + b"," + field.encode() + b"}"


def _reordered(genuine: bytes) -> bytes:
    return json.dumps(dict(reversed(json.loads(genuine).items())), indent=3).encode() + b"\n"


ANSWERS: Final = [
    _sends("nothing", "odd", lambda _: b""),
    _sends("a word", "odd", lambda _: b"hello"),
    _sends("HTTP", "odd", lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    *(_sends(text, "odd", lambda _, text=text: text.encode()) for text in ("[]", '["error"]', "null", '"error"', "5")),
    _sends("an empty object", "odd", lambda _: b"{}"),
    _sends("not UTF-8", "odd", lambda genuine: genuine[:-1] + b',"x":"\xff"}'),
    _sends("UTF-16", "odd", lambda genuine: genuine.decode().encode("utf-16")),
    _sends("a byte order mark", "odd", lambda genuine: b"\xef\xbb\xbf" + genuine),
    _sends("half", "odd", lambda genuine: genuine[: len(genuine) // 2]),
    _sends("two answers", "odd", lambda genuine: genuine * 2),
    _sends("rubbish after the answer", "odd", lambda genuine: genuine + b"\0"),
    _sends("deep arrays", "odd", lambda _: b"[" * 200_000),
    _sends("deep objects", "odd", lambda _: b'{"a":' * 200_000),
    _sends("deep nesting in a field", "odd", _with('"x":' + "[" * 50_000 + "]" * 50_000)),
    _sends("NaN", "odd", _with('"x":NaN')),
    _sends("infinity", "odd", _with('"x":-Infinity')),
    _sends("a number of 5000 digits", "odd", _with('"x":' + "9" * 5000)),
    _sends("a field twice", "odd", _with('"version":"1.0"')),
    _sends("a field twice, once escaped", "odd", _with('"v\\u0065rsion":"1.0"')),
    _sends("a lone surrogate", "odd", _with('"x":"\\ud800"')),
    _sends("millions of values", "odd", _with('"x":[' + "{}," * 1_300_000 + "{}]")),
    _sends("megabytes of blanks", "odd", lambda genuine: genuine + b" " * 6_000_000),
    *(
        _sends(f"the error {text[:30]}", "odd", _with(f'"error":{text}'))
        for text in ("null", "5", "true", "[]", '{"a": 1}', '"no","error":"yes"', '"\\udfff"')
    ),
    _sends("an error with odd reasons", "odd", lambda _: b'{"version":"1.0","error":"no","explanation":{"rule":5}}'),
    _sends("a refusal", "refused", lambda _: b'{"version":"1.0","error":"no"}'),
    _sends("an empty refusal", "refused", lambda _: b'{"version":"1.0","error":""}'),
    _sends("a refusal with escapes", "refused", lambda _: json.dumps({"error": f"no{ESCAPES}"}).encode()),
    _sends("a refusal of megabytes", "refused", lambda _: json.dumps({"error": MEGABYTES}).encode()),
    _sends("a refusal with results", "refused", _with('"error":"no"')),
    _sends("more fields", "fine", _with('"since":"1.1","x":{"y":[1.5,null]}')),
    _sends("another order and white space", "fine", _reordered),
]


def _connection(name: str, outcome: Outcome) -> Callable[[Callable[[Exchange], None]], Behaviour]:
    def made(serve: Callable[[Exchange], None]) -> Behaviour:
        return Behaviour(name, outcome, lambda exchange: serve(exchange) is None)

    return made


@_connection("single bytes", "fine")
def _single_bytes(exchange: Exchange) -> None:
    for byte in exchange.genuine:
        exchange.connection.sendall(bytes([byte]))


@_connection("the end before anything", "odd")
def _no_answer(exchange: Exchange) -> None:
    exchange.connection.shutdown(socket.SHUT_RDWR)


@_connection("an end that cuts the answer short", "odd")
def _cut_short(exchange: Exchange) -> None:
    exchange.connection.sendall(exchange.genuine[:-1])
    exchange.connection.shutdown(socket.SHUT_WR)


@_connection("endless blanks", "odd")
def _endless(exchange: Exchange) -> None:
    while not exchange.ended.is_set():
        exchange.connection.sendall(b" " * 65_536)


@_connection("silence", "late")
def _silence(exchange: Exchange) -> None:
    exchange.ended.wait(10)


@_connection("half an answer, then silence", "late")
def _stall(exchange: Exchange) -> None:
    exchange.connection.sendall(exchange.genuine[:20])
    exchange.ended.wait(10)


@_connection("an answer without an end", "late")
def _never_closes(exchange: Exchange) -> None:
    exchange.connection.sendall(exchange.genuine)
    exchange.ended.wait(10)


@_connection("a trickle", "late")
def _trickle(exchange: Exchange) -> None:
    """For at most 4 s: each byte comes soon after the one before, so only a deadline for the whole answer ends it."""
    for byte in exchange.genuine[:80]:
        if not exchange.ended.wait(0.05):
            exchange.connection.sendall(bytes([byte]))


@_connection("a trickle of blanks", "late")
def _trickle_of_blanks(exchange: Exchange) -> None:
    for _ in range(80):
        if not exchange.ended.wait(0.05):
            exchange.connection.sendall(b" ")


CONNECTIONS: Final = [
    *(_single_bytes, _no_answer, _cut_short, _endless),
    *(_silence, _stall, _never_closes, _trickle, _trickle_of_blanks),
]


def _changed(name: str, outcome: Outcome, path: str, value: object) -> Behaviour:
    """The genuine answer with another value at a path (`*` is every key or index), or without it."""

    return _documents(name, outcome, lambda document: _put(document, path.split("."), value))


def _added(name: str, outcome: Outcome, to: str, value: object) -> Behaviour:
    """The genuine answer with one more field, if it has the field `to`."""
    field = "dry_run" if value is True else "state_error"
    return _documents(name, outcome, lambda document: to in document and document.update({field: value}))


def _documents(name: str, outcome: Outcome, change: Callable[[Json], object]) -> Behaviour:
    """The genuine answer after `change`; an unchanged one is not hostile."""

    def serve(exchange: Exchange) -> bool:
        document = json.loads(exchange.genuine)
        before = json.dumps(document)
        change(document)
        after = json.dumps(document)
        if before != after:
            exchange.connection.sendall(after.encode())
        return before != after

    return Behaviour(name, outcome, serve)


def _put(at: Any, path: list[str], value: object) -> None:
    """Change what is at the path, if it is there."""
    name, *rest = path
    if isinstance(at, list):
        for item in cast("list[Any]", at):
            _put(item, rest, value)
    elif isinstance(at, dict):
        members = cast("Json", at)
        for key in [each for each in members if name in ("*", each)]:
            if rest:
                _put(members[key], rest, value)
            else:
                _replace(members, key, value)


def _replace(members: Json, key: str, value: object) -> None:
    if value is MISSING:
        del members[key]
    elif isinstance(value, Key):
        members[f"{value.prefix}{key.removeprefix('node')}"] = members.pop(key)
    else:
        members[key] = value


_BAD_CPUS: Final = ("x", "0-999999999", "3-2", "-1", "0,,1", "65536", MEGABYTES, ESCAPES, "٣", 5, ["2"])
_BAD_COUNTS: Final = (-1, HUGE, "2", True, 1.5, [2])
_BAD_TEXTS: Final = (ESCAPES, "\ud800", MEGABYTES, 5, {"a": "b"})

#: Invalid values by path in an answer. A field that several answers have is changed in each of them.
_BAD: Final[dict[str, tuple[object, ...]]] = {
    "version": _BAD_TEXTS,
    "pool": ("x", None, 5, ESCAPES),
    "service_name": ("another", *_BAD_TEXTS),
    "total_allocations": (MISSING, None, *_BAD_COUNTS),
    "total_allocated_cpus": _BAD_COUNTS,
    "total_available_cpus": (MISSING, None, *_BAD_COUNTS),
    "remaining_available_cpus": (MISSING, *_BAD_COUNTS),
    "supported_cpu_features": (5, "dry-run", [5], [ESCAPES], None),
    "outdated_placements": (5, "a", [5], [ESCAPES], ["a" * 256], ["a"] * 70_000),
    "cpu_pool": (MISSING, None, "2-7", [], {}),
    "cpu_pool.source": (MISSING, "x", None),
    "cpu_pool.configured_cpus": (MISSING, *_BAD_CPUS),
    "cpu_pool.eligible_cpus": _BAD_CPUS,
    "cpu_pool.unavailable_allocated_cpus": _BAD_CPUS,
    "allocations": (MISSING, None, {}, "a", [5], [None], [{"service_name": "a"}]),
    "allocations.*.service_name": (MISSING, None, "a" * 256, *_BAD_TEXTS),
    "allocations.*.pool": ("x", None),
    "allocations.*.allocated_cores": (MISSING, None, *_BAD_CPUS),
    "allocations.*.cores_count": _BAD_COUNTS,
    "allocations.*.is_explicit": ("yes", 1, None),
    "allocations.*.preemption_policy": ("x", None),
    "allocations.*.withheld_cpus": _BAD_CPUS,
    "numa_hugepages": (MISSING, None, [], 5),
    "numa_hugepages.node0": (None, [], {}),
    "numa_hugepages.*": tuple(
        Key(prefix) for prefix in ("numa", "", "node-", "node ", "node00", f"node{'9' * 30}", ESCAPES, "node\u0663")
    ),
    "numa_hugepages.*.capacity": (MISSING, None, {}, [5]),
    "numa_hugepages.*.capacity.*.total": _BAD_COUNTS,
    "numa_hugepages.*.capacity.*.free": (MISSING, *_BAD_COUNTS),
    "numa_hugepages.*.capacity.*.size": _BAD_COUNTS,
    "numa_hugepages.*.allocations": (MISSING, None, [], {ESCAPES: {}}, {"a" * 256: {}}, {"a": 5}, {"a": None}),
    "numa_hugepages.*.allocations.a": tuple({key: 4} for key in ("x", "-1", "2048.0", " 2048", "9" * 30, ESCAPES)),
    "numa_hugepages.*.allocations.a.2048": _BAD_COUNTS,
    "num_of_cores": (7, MISSING, HUGE, "2", True),
    "numa_node": (7, -1, None, "0", False),
    "node_id": (7, -1, None, "0", False),
    "size_kb": (7, None, "2048"),
    "hugepages_requested": (7, None, HUGE),
    "allocation_successful": ("yes", None, 1),
    "message": (MISSING, *_BAD_TEXTS),
    "allocated_cores": (MISSING, None, *_BAD_CPUS),
    "cores_allocated": (MISSING, None, -1, HUGE, True, 1.5, "x", "0-999999999", MEGABYTES, "40-63"),
    "cores_allocated_count": _BAD_COUNTS,
    "shared_cpus": _BAD_CPUS,
    "preemption_policy": ("x", 5, ESCAPES),
    "dry_run": (MISSING, None, False, "yes"),
    "placement": (5, [], {}, "0"),
    "placement.numa_nodes": _BAD_CPUS,
    "placement.packages": _BAD_COUNTS,
    "explanation": (MISSING, None, 5, {}),
    "explanation.policy": (None, {ESCAPES: 1}, {"a": ESCAPES}, {"a": None}, {"a": HUGE}),
    "explanation.room": ({"x": 1}, {"0": -1}, {ESCAPES: 1}, {"0": HUGE}),
    "explanation.scopes": (None, {}, [5]),
    "explanation.scopes.*.cpus": _BAD_CPUS,
    "explanation.scopes.*.cost": (None, {"a": HUGE}, {ESCAPES: 1}, {"a": "1"}),
    "explanation.decided_by": _BAD_TEXTS,
    "read_at": (MISSING, -1.0, "2", True),
    "checks": (MISSING, None, {}, [5]),
    "checks.*.result": (MISSING, None, "good", ESCAPES),
    "checks.*.seen": (MISSING, None, *_BAD_TEXTS),
    "claims": (MISSING, None, {}, [5]),
    "claims.*.service_name": (MISSING, None, "a" * 256, *_BAD_TEXTS),
    "claims.*.allocated_cores": (MISSING, None, *_BAD_CPUS),
    "claims.*.since": (MISSING, -1.0, "2", HUGE),
    "claims.*.owner.comm": (MISSING, *_BAD_TEXTS),
    "claims.*.now": (MISSING, 5, [], {}),
    "claims.*.now.seconds": (MISSING, None, -1.0, "2", 1e300),
    "claims.*.now.ticks": (MISSING, None, *_BAD_COUNTS),
    "claims.*.now.interrupts": (MISSING, None, [], {ESCAPES: 1}, {"a": -1}, {"a": HUGE}, {"a": "1"}),
    "claims.*.now.waited_seconds": (MISSING, -1.0, "2", 1e300),
    "claims.*.strangers": (MISSING, None, {}, [5]),
    "claims.*.strangers.*.name": (MISSING, None, *_BAD_TEXTS),
    "claims.*.strangers.*.cpu": (MISSING, None, *_BAD_COUNTS),
    "claims.*.more_threads": (None, [], {ESCAPES: 1}, {"strangers": -1}),
    "claims.*.culprit": (MISSING, *_BAD_TEXTS),
}


def _fields(*, one_each: bool = False) -> Generator[Behaviour]:
    """A behaviour for each value of each path, or for one value of each."""
    for index, (path, values) in enumerate(_BAD.items()):
        for number, value in enumerate(values):
            if one_each and number != index % len(values):
                continue
            shown = "missing" if value is MISSING else ascii(value)[:30]
            yield _changed(f"{path} {number} {shown}", "odd", path, value)


def _other_pool(document: Json) -> None:
    """The listing, or the claim, as it would be in the other pool."""
    if "pool" in document:
        document["pool"] = other = "general" if document["pool"] == "isolated" else "isolated"
        for claim in document.get("allocations", []):
            claim["pool"] = other


def _too_many(document: Json) -> None:
    """Twenty-four CPUs in answer to a request for a number of CPUs."""
    if "num_of_cores" in document:
        document["allocated_cores" if "allocated_cores" in document else "cores_allocated"] = "40-63"


def _in_general(name: str, path: str, value: object) -> Behaviour:
    """A change to the listing of the general pool only, which clients ask for last."""

    def change(document: Json) -> None:
        if document.get("pool") == "general" and "cpu_pool" in document:
            _put(document, path.split("."), value)

    return _documents(f"in the general pool {name}", "odd", change)


_MORE_FIELDS: Final = [
    _in_general("no pool", "cpu_pool", MISSING),
    _in_general("a pool of null", "cpu_pool", None),
    _in_general("no CPUs", "cpu_pool.configured_cpus", MISSING),
    _in_general("claims of null", "allocations", None),
    _in_general("claims that are numbers", "allocations", [5]),
    _in_general("a claim without a service", "allocations.*.service_name", MISSING),
    _in_general("a claim of an object", "allocations.*.service_name", {"a": "b"}),
    _documents("the other pool", "odd", _other_pool),
    _documents("too many CPUs", "odd", _too_many),
    _changed("a claim of the other pool", "odd", "allocations.*.pool", "general"),
    _added("a state_error with escapes", "odd", "cpu_pool", f"gone{ESCAPES}"),
    _added("a state_error with a surrogate", "odd", "numa_hugepages", "\ud800"),
    _added("a state_error of megabytes", "odd", "cpu_pool", MEGABYTES),
    _added("a state_error that is no text", "odd", "numa_hugepages", {"a": "b"}),
    _added("a dry run that was not asked for", "odd", "num_of_cores", True),
    _changed("a policy of null", "fine", "preemption_policy", None),
    _changed("a withheld list of null", "fine", "allocations.*.withheld_cpus", None),
    _changed("no sizes", "fine", "numa_hugepages.*.capacity", []),
]

BEHAVIOURS: Final = [*CONNECTIONS, *ANSWERS, *_MORE_FIELDS, *_fields()]

#: Each kind of mistake, and one in each field.
SHORT_FORM: Final = [*CONNECTIONS, *ANSWERS, *_MORE_FIELDS, *_fields(one_each=True)]
