"""Event rows: what a row of the history says, and which parts of it are damaged. Pure.

The history grants nothing, so it has no checksums as claims have. A row may hold anything; what can still be read of
it is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

#: Times from here on (seconds since 1970; the year 9987) are damage: the calendar functions end at the year 9999.
_END_OF_TIME: Final = 253_000_000_000

#: The records of a change, before and after: of a claim or of hugepages. They may have more members than these.
_CLAIM: Final = ("pool", "cpus", "explicit", "policy")
_PAGES: Final = ("node_id", "size_kb", "hugepages")


class Row(NamedTuple):
    """The columns of an event, in the order in which they are selected.

    `damaged` names those that cannot be read; their values are placeholders.
    """

    id: int
    at: float
    pid: int
    uid: int
    gid: int
    action: str
    service: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    damaged: tuple[str, ...] = ()


def read_row(row: tuple[object, ...]) -> Row:
    """Read a row of the table with any values; text that is not UTF-8 comes as bytes."""
    values: list[Any] = []
    damaged: list[str] = []
    for name, value in zip(Row._fields, row, strict=False):
        read, instead = _COLUMNS[name]
        try:
            values.append(read(value))
        except (ValueError, RecursionError):
            values.append(instead)
            damaged.append(name)
    return Row(*values, damaged=tuple(damaged))


def text_or_bytes(raw: bytes) -> str | bytes:
    """How SQLite hands out text (`text_factory`): damaged text must not make the whole history unreadable."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _time(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < _END_OF_TIME:
        raise ValueError("no time")
    return float(value)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("no whole number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _record(value: object) -> dict[str, object] | None:
    if value is None:
        return None
    document: object = json.loads(_text(value))
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    members = cast("dict[str, object]", document)
    names, kind = (_PAGES, int) if "hugepages" in members else (_CLAIM, str)
    present = [members.get(name) for name in names] + ([members["withheld"]] if "withheld" in members else [])
    if not all(type(member) is kind for member in present):
        raise ValueError("the record lacks a member, or one has another type")
    json.dumps(members, allow_nan=False)  # NaN and infinity are no JSON
    return members


#: How each column is read, and its placeholder when it is damaged.
_COLUMNS: Final[dict[str, tuple[Callable[[object], object], object]]] = {
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
