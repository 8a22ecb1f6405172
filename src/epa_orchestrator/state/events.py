# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Events: the lines of the history, decoded from rows that may be damaged. Pure.

The history grants nothing, so its rows have no checksums as claims have. A row may hold anything: the columns that can
be read are shown, and the others are named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from epa_orchestrator.peer import Peer

#: Times from here on (seconds since 1970; the year 9987) are damage: the calendar functions end at the year 9999.
_END_OF_TIME: Final = 253_000_000_000

#: The members of a record before or after a change: of a claim, or of hugepages. It may have more members than these.
_CLAIM: Final = ("pool", "cpus", "explicit", "policy")
_PAGES: Final = ("node_id", "size_kb", "hugepages")
#: Members of a record about CPUs that one service takes from another, which databases of earlier daemons do not have:
#: an event has them as fields of its own.
_TAKINGS: Final[dict[str, type]] = {"taken_from": dict, "taken_from_others": int, "taken_by": dict}


@dataclass(frozen=True)
class Event:
    """One line of the history; `before` and `after` are JSON objects, None for nothing.

    `taken_from` are the services that lost CPUs to this one, and which, a CPU list; `taken_from_others` more of them
    are not named. `taken_by` is the service that took CPUs from this one, and which. `damaged` names the columns that
    cannot be read; their values here are placeholders.
    """

    id: int
    at: float
    peer: Peer
    action: str
    service: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    damaged: tuple[str, ...] = ()
    taken_from: dict[str, str] = field(default_factory=dict[str, str])
    taken_from_others: int = 0
    taken_by: dict[str, str] = field(default_factory=dict[str, str])


def event_of(row: tuple[object, ...]) -> Event:
    """Decode a row with any values in the order of COLUMNS; text that is not UTF-8 comes as bytes."""
    values: dict[str, Any] = {}
    damaged: list[str] = []
    for value, (name, (decode, placeholder)) in zip(row, _DECODERS.items(), strict=True):
        try:
            values[name] = decode(value)
        except (ValueError, RecursionError):
            values[name] = placeholder
            damaged.append(name)
    for record in (values["before"], values["after"]):
        for name in _TAKINGS:
            if record and name in record:
                values[name] = record.pop(name)
    peer = Peer(values.pop("pid"), values.pop("uid"), values.pop("gid"))
    return Event(**values, peer=peer, damaged=tuple(damaged))


def text_or_bytes(raw: bytes) -> str | bytes:
    """The `text_factory` for SQLite: damaged text must not make the whole history unreadable."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _time(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < _END_OF_TIME:
        raise ValueError("not a time")
    return float(value)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("not a whole number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


def _record(value: object) -> dict[str, object] | None:
    if value is None:
        return None
    document: object = json.loads(_text(value))
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    members = cast("dict[str, object]", document)
    names, kind = (_PAGES, int) if "hugepages" in members else (_CLAIM, str)
    present = [members.get(name) for name in names] + ([members["withheld"]] if "withheld" in members else [])
    if not all(type(member) is kind for member in present):
        raise ValueError("the record lacks a member, or one has another type")
    if not all(_is_taking(members[name], kind) for name, kind in _TAKINGS.items() if name in members):
        raise ValueError("the record names in another form who takes CPUs from whom")
    json.dumps(members, allow_nan=False)  # raises ValueError for NaN and infinity, which are not JSON
    return members


def _is_taking(value: object, kind: type) -> bool:
    """Whether a value is a number of services, or CPU lists by service."""
    if type(value) is not kind:
        return False
    return not isinstance(value, dict) or all(type(cpus) is str for cpus in cast("dict[str, object]", value).values())


#: How each column is decoded, and its placeholder when it is damaged.
_DECODERS: Final[dict[str, tuple[Callable[[object], object], object]]] = {
    "id": (_number, 0),
    "at": (_time, 0.0),
    "pid": (_number, 0),
    "uid": (_number, 0),
    "gid": (_number, 0),
    "action": (_text, ""),
    "service": (_text, ""),
    "before": (_record, None),
    "after": (_record, None),
}

#: The columns of an event in the database.
COLUMNS: Final = tuple(_DECODERS)
