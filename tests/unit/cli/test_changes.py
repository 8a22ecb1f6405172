# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Changes: events as rows, as lines and in detail; damaged values are named, hostile ones are harmless."""

from __future__ import annotations

import re
from typing import Any

from epa_orchestrator.cli import changes
from epa_orchestrator.protocol.history import HistoryEvent

CLAIM: dict[str, Any] = {"pool": "isolated", "cpus": "2-3", "explicit": "", "policy": "legacy"}


def event(before: dict[str, Any] | None, after: dict[str, Any] | None, **more: Any) -> HistoryEvent:
    fields: dict[str, Any] = {"id": 1, "at": 86_400.5, "service": "a", "action": "allocate_cores"}
    fields.update({"pid": 4711, "uid": 1000, "gid": 1001, "before": before, "after": after})
    fields.update(more)
    return HistoryEvent(**fields)


def cells(found: HistoryEvent) -> dict[str, str]:
    table = changes.table([found])
    return dict(zip(table.headings, table.rows[0], strict=True))


def test_a_row_shows_what_was_held_before_and_after() -> None:
    several = CLAIM | {"cpus": "2-5", "explicit": "4-5", "policy": "non-preemptive", "pool": "general"}
    pages = {"node_id": 1, "size_kb": 2048, "hugepages": 4}
    shown = [cells(event(*each)) for each in ((None, CLAIM), (CLAIM, several), (CLAIM, None), (None, pages))]
    assert [(row["Service"], row["Before"], row["After"]) for row in shown] == [
        ("a", "nothing", "2-3"),
        ("a", "2-3", "2-5 (general, by node, non-preemptive)"),
        ("a", "2-3", "nothing"),
        ("a", "nothing", "4 x 2M on node 1"),
    ]
    assert {row["Action"] for row in shown} == {"allocate_cores"}


def test_the_peer_has_its_best_name() -> None:
    names = {"snap": "hypervisor", "unit": "snap.hypervisor.nova.service", "comm": "nova-compute"}
    assert cells(event(None, CLAIM, **names))["Peer"] == "snap hypervisor, pid 4711 uid 1000"
    del names["snap"]
    assert cells(event(None, CLAIM, **names))["Peer"] == "snap.hypervisor.nova.service, pid 4711 uid 1000"
    del names["unit"]
    assert cells(event(None, CLAIM, **names))["Peer"] == "nova-compute, pid 4711 uid 1000"
    assert cells(event(None, CLAIM))["Peer"] == "pid 4711 uid 1000"


def test_who_took_cpus_from_whom_is_named() -> None:
    assert cells(event(None, CLAIM, taken_from={"b": "2"}, taken_from_others=3))["After"] == (
        "2-3; took 2 from b; took CPUs from 3 more services"
    )
    assert cells(event(CLAIM, None, taken_by={"ovs": "2-3"}))["After"] == "nothing; lost 2-3 to ovs"


def test_damaged_values_are_named() -> None:
    damaged = ["at", "service", "before", "after", "pid", "uid", "action"]
    found = event(None, None).model_copy(update={**dict.fromkeys(damaged), "damaged": damaged})
    assert set(cells(found).values()) == {"damaged", "pid damaged uid damaged"}
    assert changes.line(found).startswith("damaged  damaged: damaged -> damaged  (damaged by pid damaged")


def test_a_line_has_the_whole_change() -> None:
    line = changes.line(event(None, CLAIM))
    assert re.fullmatch(r"1970-01-0[12] [\d:]{8} \S+  a: nothing -> 2-3  \(allocate_cores by pid 4711 uid 1000\)", line)


def test_details_say_who_asked_for_what_and_what_decided() -> None:
    found = event(None, CLAIM, request={"num_of_cores": 2, "near": "eth0"}, decided_by="Because.", comm="nova")
    assert [*changes.detailed(found)][1:] == [
        "    request: allocate_cores num_of_cores=2 near=eth0",
        "    asked by: command nova, pid 4711, uid 1000",
        "    decided by: Because.",
    ]


def test_details_of_a_damaged_request_say_so() -> None:
    found = event(None, CLAIM, request=None, decided_by=None, damaged=["request", "decided_by"])
    assert [*changes.reasons(found)] == [
        "request: allocate_cores damaged",
        "asked by: pid 4711, uid 1000",
        "decided by: damaged",
    ]


def test_a_hostile_name_does_not_act_on_the_terminal() -> None:
    found = event(None, CLAIM, service="\x1b[2J")
    assert "\x1b" not in changes.table([found]).plain()
