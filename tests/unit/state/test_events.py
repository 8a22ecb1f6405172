# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Events: damaged columns are named, and the others are read."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.peer import Peer
from epa_orchestrator.state.events import COLUMNS, Event, event_of, text_or_bytes

CLAIM: dict[str, object] = {"pool": "isolated", "cpus": "2-3", "explicit": "", "policy": "legacy"}
PAGES: dict[str, object] = {"node_id": 0, "size_kb": 2048, "hugepages": 4}
WHOLE = (7, 86_400.5, 4711, 1000, 1001, "allocate_cores", "nova", None, json.dumps(CLAIM), *[None] * 6)


def with_column(name: str, value: object) -> tuple[object, ...]:
    return tuple(value if column == name else own for column, own in zip(COLUMNS, WHOLE, strict=True))


def columns(event: Event) -> dict[str, object]:
    """The values of an event by column."""
    values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return values | values.pop("peer")._asdict() | values.pop("names")._asdict()


def test_a_row_without_damage_is_read() -> None:
    assert event_of(WHOLE) == Event(7, 86_400.5, Peer(4711, 1000, 1001), "allocate_cores", "nova", None, CLAIM)


@pytest.mark.parametrize("record", [CLAIM, CLAIM | {"withheld": "4"}, PAGES, CLAIM | {"since": 3}])
def test_a_record_is_read_with_all_its_members(record: dict[str, Any]) -> None:
    event = event_of(with_column("before", json.dumps(record)))
    assert (event.before, event.damaged) == (record, ())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((name, None) for name in ("at", "pid", "uid", "gid", "action", "service")),
        *(("at", value) for value in ("noon", b"\xff", -1.0, 1e300, float("inf"), 253_000_000_000)),
        *((name, value) for name in ("pid", "uid", "gid") for value in ("1", 1.5, b"\xff")),
        *((name, value) for name in ("action", "service") for value in (1, 1.5, b"\xff")),
        *((name, value) for name in ("settings", "decided_by", "comm", "snap", "unit") for value in (1, 1.5, b"\xff")),
        *(("request", value) for value in ("", "{", "[]", "null", 5, b"{}", "[" * 100_000, '{"x": NaN}')),
        *(
            (name, value)
            for name in ("before", "after")
            for value in (
                *("", "{", "[]", "null", "5", '"x"', "[" * 100_000, b"{}", 5, 1.5, "9" * 5000, "{}"),
                *(json.dumps(dict.fromkeys(CLAIM, 5)), json.dumps({"pool": "isolated"})),
                *(json.dumps(PAGES | {"node_id": "0"}), json.dumps(PAGES | {"hugepages": True}), '{"hugepages": 1}'),
                *(json.dumps(CLAIM | {"withheld": 5}), json.dumps(CLAIM)[:-1] + ', "x": NaN}'),
                json.dumps(CLAIM)[:-1] + ', "x": 1e999}',
            )
        ),
    ],
)
def test_a_damaged_column_is_named_and_the_others_are_read(column: str, value: object) -> None:
    damaged, whole = columns(event_of(with_column(column, value))), columns(event_of(WHOLE))
    assert damaged.pop("damaged") == (column,)
    for name in COLUMNS:
        if name != column:
            assert damaged[name] == whole[name]


@given(st.tuples(*[st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary())] * len(COLUMNS)))
def test_every_row_can_be_read(values: tuple[object, ...]) -> None:
    event = event_of(values)
    json.dumps(columns(event), allow_nan=False)
    assert set(event.damaged) <= set(COLUMNS)


def test_the_document_names_what_is_known() -> None:
    row = (*WHOLE[:9], '{"num_of_cores":2}', "0a1b2c3d4e5f", "Because.", "nova-compute", "hypervisor", None)
    document = event_of(row).document()
    assert document.pop("request") == {"num_of_cores": 2}
    assert document == event_of(WHOLE).document() | {
        "settings": "0a1b2c3d4e5f",
        "decided_by": "Because.",
        "comm": "nova-compute",
        "snap": "hypervisor",
    }
    assert "unit" not in document


def test_the_document_of_an_older_event_is_as_before() -> None:
    assert event_of(WHOLE).document() == {
        "id": 7,
        "at": 86_400.5,
        "service": "nova",
        "before": None,
        "after": CLAIM,
        "pid": 4711,
        "uid": 1000,
        "gid": 1001,
        "action": "allocate_cores",
    }


def test_a_damaged_value_is_null_in_the_document() -> None:
    document = event_of(with_column("request", "[]")).document()
    assert (document["request"], document["damaged"]) == (None, ["request"])


def test_text_that_is_not_utf8_stays_bytes() -> None:
    assert text_or_bytes("\u00e4".encode()) == "\u00e4"
    assert text_or_bytes(b"\xff") == b"\xff"


def test_who_takes_cpus_from_whom_has_fields_of_its_own() -> None:
    before = json.dumps(CLAIM | {"taken_by": {"ovs": "2"}})
    lost = event_of(with_column("before", before))
    assert (lost.before, lost.taken_by, lost.taken_from) == (CLAIM, {"ovs": "2"}, {})
    after = json.dumps(CLAIM | {"taken_from": {"nova": "2"}, "taken_from_others": 7})
    gained = event_of(with_column("after", after))
    assert (gained.after, gained.taken_from, gained.taken_from_others) == (CLAIM, {"nova": "2"}, 7)


@pytest.mark.parametrize(
    "members",
    [{"taken_by": "ovs"}, {"taken_by": {"ovs": 2}}, {"taken_from": ["nova"]}, {"taken_from_others": True}],
    ids=str,
)
def test_a_damaged_taking_is_named(members: dict[str, object]) -> None:
    event = event_of(with_column("after", json.dumps(CLAIM | members)))
    assert (event.damaged, event.after, event.taken_by, event.taken_from) == (("after",), None, {}, {})
