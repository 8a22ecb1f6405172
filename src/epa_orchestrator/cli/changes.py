# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Changes: events of the history as a table, as lines, and in detail, for people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Final

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.folding import fold_sentence
from epa_orchestrator.cli.times import format_time, short_times
from epa_orchestrator.errors import printable
from epa_orchestrator.protocol.history import HistoryEvent, Record
from epa_orchestrator.protocol.quoting import quote
from epa_orchestrator.units import format_size

_DAMAGED: Final = "damaged"
#: How the names of the units of daemons end.
_SERVICE: Final = ".service"
_COLUMNS: Final = ("When", "Service", "Before", "After", "Action", "Peer")
_ALLOCATING: Final = ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores")
#: The fields of a request as the command line calls them; those that come first.
_FIELDS: Final = {
    "num_of_cores": "count",
    "percent": "percent",
    "hugepages_requested": "count",
    "size_kb": "size",
    "node_id": "node",
}
#: A request in which one of these is negative gives CPUs back.
_COUNTS: Final = ("num_of_cores", "percent")


def table(events: Sequence[HistoryEvent]) -> FittedTable:
    """The changes, oldest first."""
    return _table(events, "History", [when(event) for event in events], [_peer(event) for event in events])


def short_table(events: Sequence[HistoryEvent]) -> FittedTable:
    """The same for a terminal: the times as short as they can be, one zone for all, and each peer's best name."""
    whens, title = _short_whens(events)
    return _table(events, title, whens, [_short_peer(event) for event in events])


def short_lines(events: Sequence[HistoryEvent], width: int) -> Iterator[str]:
    """The same for a terminal that is too narrow for the table: a change takes one or two lines, rarely more."""
    whens, title = _short_whens(events)
    yield title
    indent = max(map(len, whens), default=0) + 2
    for event, at in zip(events, whens, strict=True):
        first, *more = fold_sentence(printable(_sentence(event)), width - indent)
        yield f"{at:{indent}}{first}"
        yield from (" " * indent + text for text in more)


def _short_whens(events: Sequence[HistoryEvent]) -> tuple[list[str], str]:
    """The events' times, and a title that names their zone."""
    times, zone = short_times([event.at for event in events if event.at is not None], time.time())
    left = iter(times)
    whens = [_DAMAGED if event.at is None else next(left) for event in events]
    return whens, "History" if zone is None else f"History (times in {zone})"


def _table(events: Sequence[HistoryEvent], title: str, whens: list[str], peers: list[str]) -> FittedTable:
    found = FittedTable(_COLUMNS, title)
    for event, at, peer in zip(events, whens, peers, strict=True):
        service = _or_damaged(event, "service", event.service)
        found.add_row(at, service, _before(event), _after(event), action(event), peer)
    return found


def line(event: HistoryEvent) -> str:
    """One change on one line."""
    return f"{when(event)}  {_sentence(event)}"


def _sentence(event: HistoryEvent) -> str:
    service = _or_damaged(event, "service", event.service)
    return f"{service}: {change(event)}  ({action(event)} by {_short_peer(event)})"


def change(event: HistoryEvent) -> str:
    """What the service held before and after."""
    if _is_unchanged(event):
        return f"{_before(event)}, asked again"
    return f"{_before(event)} -> {_after(event)}"


def action(event: HistoryEvent) -> str:
    """What was done, in a word of the command line."""
    name = _or_damaged(event, "action", event.action)
    if event.taken_by:
        return "taken"
    if name in _ALLOCATING:
        return "release" if _gives_back(event) else "allocate"
    return "hugepages" if name == "allocate_hugepages" else name


def _gives_back(event: HistoryEvent) -> bool:
    counts = [count for name in _COUNTS if isinstance(count := (event.request or {}).get(name), int)]
    return any(count < 0 for count in counts) or (event.after is None and "after" not in event.damaged)


def _is_unchanged(event: HistoryEvent) -> bool:
    """Whether the service asked for what it had."""
    return event.before is not None and event.before == event.after


def detailed(event: HistoryEvent) -> Iterator[str]:
    """All that is known of a change: lines."""
    service = _or_damaged(event, "service", event.service)
    yield f"{when(event)}  {service}: {change(event)}"
    yield from (f"    {text}" for text in reasons(event))


def reasons(event: HistoryEvent) -> Iterator[str]:
    """The request, the process that made it, and what decided: lines."""
    yield f"request: {request(event)}"
    yield f"asked by: {asked_by(event)}"
    if event.decided_by is not None:
        yield f"decided by: {event.decided_by}"
    elif "decided_by" in event.damaged:
        yield f"decided by: {_DAMAGED}"


def request(event: HistoryEvent) -> str:
    """The request as the command line would have it, with the fields that were not at their default."""
    verb = "allocate" if event.taken_by else action(event)
    if "request" in event.damaged:
        return f"{verb} {_DAMAGED}"
    asked = {name: value for name, value in (event.request or {}).items() if value != {}}
    if verb == "release":
        asked = {name: value for name, value in asked.items() if name not in _COUNTS}
    names = [name for name in _FIELDS if name in asked] + [name for name in asked if name not in _FIELDS]
    return " ".join([verb, *(f"{_FIELDS.get(name, name)}={_value(name, asked[name])}" for name in names)])


def asked_by(event: HistoryEvent) -> str:
    """The process that asked, with all its names."""
    return ", ".join([*_names(event).values(), f"pid {_pid(event)}", f"uid {_uid(event)}"])


def when(event: HistoryEvent) -> str:
    """The local time of a change."""
    return _DAMAGED if event.at is None or "at" in event.damaged else format_time(event.at)


def takings(event: HistoryEvent) -> list[str]:
    """Who took which CPUs from whom, in words."""
    took = [f"took {cpus} from {service}" for service, cpus in event.taken_from.items()]
    others = [f"took CPUs from {event.taken_from_others} more services"] if event.taken_from_others else []
    return [*took, *others, *(f"lost {cpus} to {service}" for service, cpus in event.taken_by.items())]


def held(record: Record | None) -> str:
    """What a service holds before or after a change."""
    if record is None:
        return "nothing"
    if "hugepages" in record:
        size_kb = record["size_kb"]
        size = format_size(size_kb) if isinstance(size_kb, int) else str(size_kb)
        return f"{record['hugepages']} x {size} on node {record['node_id']}"
    marks = [str(record["pool"])] if record["pool"] != "isolated" else []
    marks += ["by node"] if record["explicit"] else []
    marks += [f"withholds {record['withheld']}"] if "withheld" in record else []
    marks += [str(record["policy"])] if record["policy"] != "legacy" else []
    return f"{record['cpus']}{' (' + ', '.join(marks) + ')' if marks else ''}"


def _before(event: HistoryEvent) -> str:
    return _or_damaged(event, "before", held(event.before))


def _after(event: HistoryEvent) -> str:
    after = "asked again" if _is_unchanged(event) else held(event.after)
    return _or_damaged(event, "after", "; ".join([after, *takings(event)]))


def _peer(event: HistoryEvent) -> str:
    """The process that asked, by its best name."""
    return ", ".join([*list(_names(event).values())[:1], f"pid {_pid(event)} uid {_uid(event)}"])


def _short_peer(event: HistoryEvent) -> str:
    """The process that asked: the unit of a daemon, or its snap, or its command with the pid."""
    names = _names(event)
    if event.unit is not None and event.unit.endswith(_SERVICE):  # others are sessions of users and containers
        return names["unit"].removesuffix(_SERVICE)
    if "snap" in names:
        return names["snap"]
    return f"{names['command']} pid {_pid(event)}" if "command" in names else _peer(event)


def _names(event: HistoryEvent) -> dict[str, str]:
    """What the process is called, by the kind of name and with it, the best name first.

    Snap and unit are what the kernel says. The command is what the process says of itself, so it always has quotes: no
    command can look like the other two.
    """
    quoted = None if event.comm is None else quote(event.comm)
    names = {"snap": event.snap, "unit": event.unit, "command": quoted}
    return {kind: f"{kind} {name}" for kind, name in names.items() if name is not None}


def _pid(event: HistoryEvent) -> str:
    return _or_damaged(event, "pid", event.pid)


def _uid(event: HistoryEvent) -> str:
    return _or_damaged(event, "uid", event.uid)


def _or_damaged(event: HistoryEvent, column: str, value: object) -> str:
    """The value, or "damaged" where the database cannot give it any longer."""
    return _DAMAGED if column in event.damaged else str(value)


def _value(name: str, value: object) -> str:
    if name == "size_kb" and isinstance(value, int):
        return format_size(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
