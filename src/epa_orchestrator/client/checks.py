# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks of a server's bytes: they become the answer to a request, or one sentence about the mistake in them.

A snap that may write the socket's directory can put its own server there, so the client trusts no server. The
protocol's models define the fields of an answer; this module reads them strictly, and checks their values by name.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from epa_orchestrator.client.machine_checks import find_mistake
from epa_orchestrator.cpuset import MAX_CPU_ID, CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.names import MAX_NAME_LENGTH
from epa_orchestrator.protocol.answers import (
    Allocated,
    Answer,
    CoresAnswer,
    ErrorAnswer,
    Listing,
    MemoryAnswer,
    NumaCoresAnswer,
    PercentAnswer,
)
from epa_orchestrator.protocol.machine import MachineAnswer

_MODEL = TypeVar("_MODEL", bound=BaseModel)

#: The most characters of a text: a list of every second CPU up to MAX_CPU_ID has 190,000 characters.
_MAX_TEXT_LENGTH: Final = 262_144
#: The most entries of a list: each claim in a listing has a CPU of its own.
_MAX_LIST_LENGTH: Final = MAX_CPU_ID + 1
#: The largest number: every JSON reader can represent it, and a daemon's counts are far below.
_MAX_NUMBER: Final = 2**53 - 1
#: The most values of an answer (a listing of 65,536 claims has 460,000), so that reading one takes at most a second.
_MAX_VALUES: Final = 2_000_000
#: The most sizes of hugepages, of all nodes together: Linux has at most 1,024 nodes, each with a handful.
_MAX_SIZES: Final = 16_384
#: The most warnings of an answer.
_MAX_WARNINGS: Final = 1000
#: The most characters of a server's text that a sentence quotes.
_MAX_QUOTE_LENGTH: Final = 200

_CPU_LISTS: Final = {
    *("allocated_cores", "cores_allocated", "shared_cpus", "withheld_cpus", "cpus", "numa_nodes"),
    *("configured_cpus", "eligible_cpus", "unavailable_allocated_cpus", "taken", "nodes", "core"),
    *("from_", "to"),
    *("present", "online", "isolated", "l3_domains", "l2_clusters", "states", "pools"),
    *("online_cpus", "isolated_cpus", "taken_from"),
}
#: Records of the history, which hold what other clients have sent: whoever shows them has to escape them.
_RECORDS: Final = ("before", "after", "request")
#: Numbers that may have a fraction.
_FRACTIONS: Final = frozenset(("at", "read_at", "asked_at", "since", "seconds", "waited_seconds", *_RECORDS))
_NAMES: Final = frozenset(("service_name", "outdated_placements", "taken_by"))
#: Fields that repeat a number of the request, -1 for a release.
_REQUEST_NUMBERS: Final = frozenset(("num_of_cores", "hugepages_requested"))
#: Fields of an answer that must repeat the request's value.
_REPEATED: Final = ("service_name", "pool", "numa_node", "node_id", "size_kb", "hugepages_requested")

_CPU_LIST: Final = re.compile(r"(?:[0-9]{1,5}(?:-[0-9]{1,5})?(?:,(?=[0-9])|$))*+")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_NODE: Final = re.compile(r"node(0|[1-9][0-9]{0,8})")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,8}")


class InvalidAnswerError(EpaError):
    """A server did not send a valid answer; the message continues a subject such as "The server at /x"."""


def decode(answer: bytes) -> dict[str, Any]:
    """The JSON object in a server's bytes.

    Raises InvalidAnswerError, also for JSON that no daemon sends: a field given twice, NaN, or endless nesting.
    """
    if _count_values(answer) > _MAX_VALUES:
        raise _invalid(f"it has more than {_MAX_VALUES} values")
    try:
        document: object = json.loads(
            answer.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidAnswerError("did not answer with a JSON object")
    return cast("dict[str, Any]", document)


def parse(model: type[_MODEL], answer: bytes) -> _MODEL:
    """The answer as a model with checked values; only the sentence of an ErrorAnswer stays unchecked.

    Raises InvalidAnswerError.
    """
    try:
        found = model.model_validate_json(answer, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise _invalid(f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    _check_fields(found)
    return found


def check_reply(request: Mapping[str, Any], answer: Answer) -> None:
    """Check that the answer belongs to this request.

    Raises InvalidAnswerError.
    """
    for name in _REPEATED:
        requested, answered = request.get(name), getattr(answer, name, None)
        if requested is not None and answered is not None and not _is_same(requested, answered):
            raise _invalid(f"it is about {name} {_quote(answered)}, not {_quote(requested)}")
    if isinstance(answer, MemoryAnswer):
        _check_memory(request, answer)
    if isinstance(answer, MachineAnswer) and (mistake := find_mistake(answer)):
        raise _invalid(mistake)
    if isinstance(answer, Listing):
        for claim in answer.allocations:
            if claim.pool != answer.pool:
                raise _invalid(f"the listing of pool {answer.pool} holds a claim in pool {claim.pool}")
    if isinstance(answer, Allocated):
        _check_grant(request, answer)
        _check_taken(answer)


def _check_memory(request: Mapping[str, Any], answer: MemoryAnswer) -> None:
    """Check that the answer is about no service, and that a table of its hugepage sizes stays short."""
    if answer.service_name != request.get("service_name", ""):
        raise _invalid("it is about a service, but the request named none")
    node_id = request.get("node_id")
    if node_id is not None and answer.numa_hugepages.keys() != {f"node{node_id}"}:
        raise _invalid(f"it is not about node {node_id} alone")
    sizes = sum(
        len({str(each.size) for each in node.capacity}.union(*node.allocations.values()))
        for node in answer.numa_hugepages.values()
    )
    if sizes > _MAX_SIZES:
        raise _invalid(f"it has {sizes} sizes of hugepages")


def is_same_name(one: str, other: str) -> bool:
    """Whether two names mean the same service: the daemon may return a name in another Unicode form."""
    return one == other or unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def _check_grant(request: Mapping[str, Any], answer: Allocated) -> None:
    """Check the number of granted CPUs, whether it was a dry run, and that a requested explanation is there."""
    cpus = CpuSet.parse(_granted(answer))
    count = request.get("num_of_cores") or 0
    if count > 0 and len(cpus) != count:
        raise _invalid(f"it grants {len(cpus)} CPUs, not {count}")
    if (count < 0 or request.get("percent", 1) <= 0) and cpus:
        raise _invalid(f"after a release it still grants {len(cpus)} CPUs")
    if isinstance(answer, CoresAnswer | NumaCoresAnswer):
        repeated = count if isinstance(answer, NumaCoresAnswer) else max(count, 0)
        if answer.num_of_cores != repeated:
            raise _invalid(f"it is about num_of_cores {answer.num_of_cores}, not {repeated}")
    if bool(request.get("dry_run")) != bool(answer.dry_run):
        raise _invalid("it is about a dry run" if answer.dry_run else "it is not about a dry run")
    if request.get("explain") and cpus and answer.explanation is None:
        raise _invalid("the explanation is missing")


def _check_taken(answer: Allocated) -> None:
    """Check that what others lose is granted, and that no CPU is taken twice, or from the service itself."""
    left = CpuSet.parse(_granted(answer))
    for service, cpus in answer.taken.items():
        taken = CpuSet.parse(cpus)
        if not taken or not taken <= left or is_same_name(service, getattr(answer, "service_name", "")):
            raise _invalid(f"it takes CPUs {_quote(cpus)} of service {_quote(service)}, but does not grant them once")
        left -= taken


def _granted(answer: Allocated) -> str:
    """The CPU list of an allocating answer."""
    match answer:
        case CoresAnswer() | PercentAnswer():
            return answer.allocated_cores
        case NumaCoresAnswer():
            return answer.cores_allocated
        case _:
            return ""


def _check_fields(model: BaseModel) -> None:
    for name in type(model).model_fields:
        if not (isinstance(model, ErrorAnswer) and name == "error"):
            _check(getattr(model, name), name)


def _check(value: object, field: str) -> None:
    """Check a value and the values inside it, by type and by the name of the field."""
    match value:
        case str():
            _check_text(value, field)
        case bool() | None:
            pass
        case int():
            _check_number(value, field)
        case float() if field in _FRACTIONS and 0 <= value <= _MAX_NUMBER:
            pass
        case BaseModel():
            _check_fields(value)
        case dict():
            _check_object(cast("dict[str, object]", value), field)
        case list() | tuple():
            items = cast("list[object] | tuple[object, ...]", value)
            if len(items) > (_MAX_WARNINGS if field == "warnings" else _MAX_LIST_LENGTH):
                raise _invalid(f"{field} has {len(items)} entries")
            for item in items:
                _check(item, field)
        case _:
            raise _invalid(f"{field} is neither text nor a whole number")


def _check_object(value: dict[str, object], field: str) -> None:
    """Check an object whose keys are data: names of nodes, services, sizes, options or cost levels."""
    check_key, item_field = _KEYS.get(field, (_check_text, field))
    for key, item in value.items():
        check_key(key, field)
        _check(item, item_field)


def _check_text(text: str, field: str) -> None:
    if len(text) > (MAX_NAME_LENGTH if field in _NAMES else _MAX_TEXT_LENGTH):
        raise _invalid(f"{field} has {len(text)} characters")
    if field in _RECORDS:
        return
    if not text.isprintable() and not all(_is_harmless(char) for char in text):
        raise _invalid(f"{field} holds control characters: {_quote(text)}")
    if field in _CPU_LISTS:
        _check_cpu_list(text, field)


def _is_harmless(char: str) -> bool:
    """Whether the character is safe on a terminal: printable, or newer than this Python's Unicode data."""
    return char.isprintable() or unicodedata.category(char) == "Cn"


def _check_cpu_list(text: str, field: str) -> None:
    """Check a CPU list as CpuSet.parse does, but in time proportional to its length, however high its CPU ids are."""
    if _CPU_LIST.fullmatch(text) is None:
        raise _invalid(f"{field} is not a CPU list: {_quote(text)}")
    items = text.split(",") if text else []
    ranges = [item.split("-") for item in items if "-" in item]
    if any(int(last) < int(first) for first, last in ranges):
        raise _invalid(f"{field} has a range that runs backwards: {_quote(text)}")
    if max((int(item.rpartition("-")[2]) for item in items), default=0) > MAX_CPU_ID:
        raise _invalid(f"{field} names a CPU over {MAX_CPU_ID}: {_quote(text)}")


def _check_number(value: int, field: str) -> None:
    lowest = -1 if field in _REQUEST_NUMBERS or field in _RECORDS else 0
    if not lowest <= value <= _MAX_NUMBER:
        raise _invalid(f"{field} is out of range")


def _check_node(key: str, field: str) -> None:
    if _NODE.fullmatch(key) is None:
        raise _invalid(f"{field} holds {_quote(key)}, which is not a node")


def _check_size(key: str, field: str) -> None:
    if _NUMBER.fullmatch(key) is None:
        raise _invalid(f"{field} holds {_quote(key)}, which is not a whole number")


def _check_name(key: str, _: str) -> None:
    _check_text(key, "service_name")


#: By field: the check for the keys of an object, and the field name by which its values are checked.
_KEYS: Final[dict[str, tuple[Callable[[str, str], None], str]]] = {
    "numa_hugepages": (_check_node, "numa_hugepages"),
    "allocations": (_check_name, "sizes"),
    "taken": (_check_name, "taken"),
    "taken_by": (_check_name, "taken"),
    "core_neighbours": (_check_name, "taken"),
    "hugepages": (_check_name, "hugepages"),
    "states": (_check_name, "states"),
    "pools": (_check_name, "pools"),
    "taken_from": (_check_name, "taken_from"),
    "sizes_kb": (_check_size, "nodes"),
    "sizes": (_check_size, "count"),
    "room": (_check_size, "count"),
}


def _is_same(requested: object, answered: object) -> bool:
    if isinstance(requested, str) and isinstance(answered, str):
        return is_same_name(requested, answered)
    return requested == answered


def _quote(value: object) -> str:
    text = str(value)
    return f"'{text}'" if len(text) <= _MAX_QUOTE_LENGTH else f"'{text[:_MAX_QUOTE_LENGTH]}…'"


def _invalid(reason: str) -> InvalidAnswerError:
    return InvalidAnswerError(f"gave an answer that this client does not understand: {reason[:500]}")


def _count_values(answer: bytes) -> int:
    """An upper bound on the number of JSON values; near the number itself when it exceeds the limit."""
    count = sum(map(answer.count, (b",", b"[", b"{")))
    if count <= _MAX_VALUES:
        return count
    # Separators inside strings do not count. A value has at most two strings, itself and its key: with more the bytes
    # are not JSON, and removing the strings would take seconds.
    if answer.count(b'"') - answer.count(b'\\"') > 4 * _MAX_VALUES:
        return count
    return sum(map(_STRING.sub(b"", answer).count, (b",", b"[", b"{")))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a field is given twice")
    return document


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
