# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Changes: events as rows, as lines and in detail; damaged values are named, hostile ones are harmless."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

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
    assert [row["Action"] for row in shown] == ["allocate", "allocate", "release", "allocate"]


def test_the_peer_has_its_best_name() -> None:
    names = {"snap": "hypervisor", "unit": "snap.hypervisor.nova.service", "comm": "nova-compute"}
    assert cells(event(None, CLAIM, **names))["Peer"] == "snap hypervisor, pid 4711 uid 1000"
    del names["snap"]
    assert cells(event(None, CLAIM, **names))["Peer"] == "unit snap.hypervisor.nova.service, pid 4711 uid 1000"
    del names["unit"]
    assert cells(event(None, CLAIM, **names))["Peer"] == 'command "nova-compute", pid 4711 uid 1000'
    assert cells(event(None, CLAIM))["Peer"] == "pid 4711 uid 1000"


@pytest.mark.parametrize(
    "forged",
    [
        {"comm": "snap nova"},
        {"comm": "ovs.service"},
        {"comm": "unit ovs"},
        {"comm": "x, pid 1, uid 0"},
        {"comm": 'x", snap nova'},
    ],
)
def test_a_command_looks_like_no_snap_unit_or_process(forged: dict[str, str]) -> None:
    found = event(None, CLAIM, **forged)
    word = json.dumps(forged["comm"])
    assert changes.asked_by(found) == f"command {word}, pid 4711, uid 1000"
    assert cells(found)["Peer"] == f"command {word}, pid 4711 uid 1000"
    assert changes.short_table([found]).rows[0][-1] == f"command {word} pid 4711"


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
    assert re.fullmatch(r"1970-01-0[12] [\d:]{8} \S+  a: nothing -> 2-3  \(allocate by pid 4711 uid 1000\)", line)


def test_details_say_who_asked_for_what_and_what_decided() -> None:
    found = event(None, CLAIM, request={"num_of_cores": 2, "near": "eth0"}, decided_by="Because.", comm="nova")
    assert [*changes.detailed(found)][1:] == [
        "    request: allocate count=2 near=eth0",
        '    asked by: command "nova", pid 4711, uid 1000',
        "    decided by: Because.",
    ]


def test_details_of_a_damaged_request_say_so() -> None:
    found = event(None, CLAIM, request=None, decided_by=None, damaged=["request", "decided_by"])
    assert [*changes.reasons(found)] == [
        "request: allocate damaged",
        "asked by: pid 4711, uid 1000",
        "decided by: damaged",
    ]


def test_a_hostile_name_does_not_act_on_the_terminal() -> None:
    found = event(None, CLAIM, service="\x1b[2J")
    assert "\x1b" not in changes.table([found]).plain()


@pytest.mark.parametrize(
    ("action", "fields", "expected"),
    [
        ("allocate_cores", {"num_of_cores": -1}, "release"),
        ("allocate_numa_cores", {"num_of_cores": -1, "numa_node": 1}, "release numa_node=1"),
        ("allocate_cores_percent", {"percent": 50}, "allocate percent=50"),
        (
            "allocate_hugepages",
            {"node_id": 0, "size_kb": 1_048_576, "hugepages_requested": 4},
            "hugepages count=4 size=1G node=0",
        ),
        ("import", None, "import"),
    ],
)
def test_a_request_is_written_as_on_the_command_line(action: str, fields: dict[str, Any], expected: str) -> None:
    assert changes.request(event(None, CLAIM, action=action, request=fields)) == expected


def test_a_claim_that_others_took_is_called_taken() -> None:
    assert changes.action(event(CLAIM, None, taken_by={"ovs": "2-3"})) == "taken"


def test_a_grant_that_changes_nothing_is_called_asked_again() -> None:
    assert cells(event(CLAIM, CLAIM))["After"] == "asked again"
    assert changes.line(event(CLAIM, CLAIM)).endswith("  a: 2-3, asked again  (allocate by pid 4711 uid 1000)")


@pytest.mark.parametrize(
    ("names", "peer"),
    [
        ({"unit": "nova.service", "snap": "hypervisor", "comm": "nova"}, "unit nova"),
        ({"unit": "session-3.scope", "snap": "hypervisor", "comm": "nova"}, "snap hypervisor"),
        ({"unit": "session-3.scope", "comm": "python"}, 'command "python" pid 4711'),
        ({}, "pid 4711 uid 1000"),
    ],
)
def test_a_narrow_terminal_shows_the_peers_shortest_name(names: dict[str, str], peer: str) -> None:
    assert changes.short_table([event(None, CLAIM, **names)]).rows[0][-1] == peer


def test_short_lines_name_the_zone_once_and_fold_below_the_change() -> None:
    found = event(None, CLAIM, service="instance-00000001", unit="snap.openstack-hypervisor.nova-compute.service")
    title, first, second = changes.short_lines([found], 80)
    assert re.fullmatch(r"History \(times in \S+\)", title)
    assert re.fullmatch(r"1970-01-0[12] [\d:]{8}  instance-00000001: nothing -> 2-3  \(allocate by unit", first)
    assert second == " " * 21 + "snap.openstack-hypervisor.nova-compute)"


def test_short_lines_mark_damage_and_hostile_names() -> None:
    found = event(None, CLAIM, service="\x1b[2J").model_copy(update={"at": None, "damaged": ["at"]})
    title, line = changes.short_lines([found], 80)
    assert title == "History"
    assert line.startswith("damaged  \N{REPLACEMENT CHARACTER}[2J: nothing -> 2-3")
