# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Changes: events of the history as a table, as lines, and in detail, for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.times import format_time
from epa_orchestrator.protocol.history import HistoryEvent, Record
from epa_orchestrator.units import format_size

_DAMAGED: Final = "damaged"
#: The fields of a request that come first.
_COUNTS: Final = ("num_of_cores", "percent", "hugepages_requested")
_COLUMNS: Final = ("When", "Service", "Before", "After", "Action", "Peer")


def table(events: Iterable[HistoryEvent]) -> FittedTable:
    """The changes, oldest first."""
    found = FittedTable(_COLUMNS, "History")
    for event in events:
        found.add_row(
            when(event),
            _or_damaged(event, "service", event.service),
            _before(event),
            _after(event),
            _or_damaged(event, "action", event.action),
            _peer(event),
        )
    return found


def line(event: HistoryEvent) -> str:
    """One change on one line."""
    service, action = (_or_damaged(event, name, getattr(event, name)) for name in ("service", "action"))
    return f"{when(event)}  {service}: {_before(event)} -> {_after(event)}  ({action} by {_peer(event)})"


def detailed(event: HistoryEvent) -> Iterator[str]:
    """All that is known of a change: lines."""
    service = _or_damaged(event, "service", event.service)
    yield f"{when(event)}  {service}: {_before(event)} -> {_after(event)}"
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
    """The action with the fields of the request that were not at their default."""
    asked = {name: value for name, value in (event.request or {}).items() if value != {}}
    names = sorted(asked, key=lambda name: name not in _COUNTS)
    fields = [f"{name}={_value(asked[name])}" for name in names]
    if "request" in event.damaged:
        fields = [_DAMAGED]
    return " ".join([_or_damaged(event, "action", event.action), *fields])


def asked_by(event: HistoryEvent) -> str:
    """The process that asked, with all its names."""
    named = {"snap": event.snap, "unit": event.unit, "command": event.comm}
    names = [f"{kind} {name}" for kind, name in named.items() if name is not None]
    pid, uid = (_or_damaged(event, name, getattr(event, name)) for name in ("pid", "uid"))
    return ", ".join([*names, f"pid {pid}", f"uid {uid}"])


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
    return _or_damaged(event, "after", "; ".join([held(event.after), *takings(event)]))


def _peer(event: HistoryEvent) -> str:
    """The process that asked, by its best name."""
    name = f"snap {event.snap}" if event.snap else event.unit or event.comm
    pid, uid = (_or_damaged(event, column, getattr(event, column)) for column in ("pid", "uid"))
    return f"{name}, pid {pid} uid {uid}" if name else f"pid {pid} uid {uid}"


def _or_damaged(event: HistoryEvent, column: str, value: object) -> str:
    """The value, or "damaged" where the database cannot give it any longer."""
    return _DAMAGED if column in event.damaged else str(value)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
