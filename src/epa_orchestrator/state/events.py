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
from typing import Any, Final, NamedTuple, cast

from epa_orchestrator.allocation.settings_text import SettingsText
from epa_orchestrator.peer import UNNAMED, Peer, PeerNames

#: Times from here on (seconds since 1970; the year 9987) are damage: the calendar functions end at the year 9999.
_END_OF_TIME: Final = 253_000_000_000

#: The members of a record before or after a change: of a claim, or of hugepages. It may have more members than these.
_CLAIM: Final = ("pool", "cpus", "explicit", "policy")
_PAGES: Final = ("node_id", "size_kb", "hugepages")
#: Members of a record about CPUs that one service takes from another, which databases of earlier daemons do not have:
#: an event has them as fields of its own.
_TAKINGS: Final[dict[str, type]] = {"taken_from": dict, "taken_from_others": int, "taken_by": dict}

#: The columns that databases of schemas before 4 do not have.
NOTED: Final = ("request", "settings", "decided_by", "comm", "snap", "unit")


class Note(NamedTuple):
    """What events keep of the request behind a change, as far as it is known.

    `request` is a JSON object. `decided_by` is the sentence that says what decided, `lost_by` the one for the services
    that lose CPUs.
    """

    request: str | None = None
    settings: SettingsText | None = None
    decided_by: str | None = None
    lost_by: str | None = None
    names: PeerNames = UNNAMED


NOTHING_NOTED: Final = Note()


@dataclass(frozen=True)
class Event:
    """One line of the history; `before` and `after` are JSON objects, None for nothing.

    `taken_from` are the services that lost CPUs to this one, and which, a CPU list; `taken_from_others` more of them
    are not named. `taken_by` is the service that took CPUs from this one, and which. `request` is the request without
    its defaults, `settings` the digest of the settings in force, and `decided_by` the sentence that says what decided:
    None in the events of earlier daemons. `damaged` names the columns that cannot be read; their values here are
    placeholders.
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
    request: dict[str, object] | None = None
    settings: str | None = None
    decided_by: str | None = None
    names: PeerNames = UNNAMED

    def document(self) -> dict[str, Any]:
        """The event as JSON. A damaged value is null, and `damaged` names it; what is not known is left out."""
        found: dict[str, Any] = {
            "id": self.id,
            "at": self.at,
            "service": self.service,
            "before": self.before,
            "after": self.after,
            **self.peer._asdict(),
            "action": self.action,
        }
        found |= {name: value for name in _TAKINGS if (value := getattr(self, name))}
        found |= {name: value for name, value in self.names._asdict().items() if value is not None}
        noted = {"request": self.request, "settings": self.settings, "decided_by": self.decided_by}
        found |= {name: value for name, value in noted.items() if value is not None}
        if not self.damaged:
            return found
        return found | dict.fromkeys(self.damaged) | {"damaged": list(self.damaged)}


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
    names = PeerNames(values.pop("comm"), values.pop("snap"), values.pop("unit"))
    return Event(**values, peer=peer, names=names, damaged=tuple(damaged))


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


def _line(value: object) -> str:
    """A text that all events have printable: anything else is damage."""
    line = _text(value)
    if not line.isprintable():
        raise ValueError("not printable")
    return line


def _optional_line(value: object) -> str | None:
    return None if value is None else _line(value)


def _object(value: object) -> dict[str, object] | None:
    """A JSON object of plain values and of objects of texts."""
    if value is None:
        return None
    document: object = json.loads(_text(value))
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    members = cast("dict[str, object]", document)
    if not all(_is_plain(member) or _is_taking(member, dict) for member in members.values()):
        raise ValueError("a value has a form that no event has")
    json.dumps(members, allow_nan=False)  # raises ValueError for NaN and infinity, which are not JSON
    return members


def _is_plain(value: object) -> bool:
    """Whether a value holds no others, and is no number too large for other programs."""
    return isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**53)


def _record(value: object) -> dict[str, object] | None:
    members = _object(value)
    if members is None:
        return None
    names, kind = (_PAGES, int) if "hugepages" in members else (_CLAIM, str)
    present = [members.get(name) for name in names] + ([members["withheld"]] if "withheld" in members else [])
    if not all(type(member) is kind for member in present):
        raise ValueError("the record lacks a member, or one has another type")
    if not all(_is_taking(members[name], kind) for name, kind in _TAKINGS.items() if name in members):
        raise ValueError("the record names in another form who takes CPUs from whom")
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
    "action": (_line, ""),
    "service": (_line, ""),
    "before": (_record, None),
    "after": (_record, None),
    "request": (_object, None),
    "settings": (_optional_line, None),
    "decided_by": (_optional_line, None),
    "comm": (_optional_line, None),
    "snap": (_optional_line, None),
    "unit": (_optional_line, None),
}

#: The columns of an event in the database.
COLUMNS: Final = tuple(_DECODERS)
