# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`make_room`: a refused dry run says which claims would have to move, and its requests make room."""

from __future__ import annotations

import json
from typing import Any

from .harness import Daemon, Json, format_cpus


def found(daemon: Daemon, **fields: Any) -> Json:
    """What makes room for a dry run that is refused."""
    request = {"action": "allocate_cores", "service_name": "new", "dry_run": True, "make_room": True, **fields}
    answer = json.loads(daemon.request(json.dumps(request).encode()))
    assert "error" in answer, answer
    return answer["make_room"]


def held(daemon: Daemon) -> dict[str, str]:
    return {service: format_cpus(cpus) for service, cpus in daemon.claims().items()}


def test_the_requests_of_a_plan_make_room(daemon: Daemon) -> None:
    room = len(daemon.host.isolated_in(0))
    daemon.ok("allocate_cores", service_name="a", num_of_cores=2, near=0)
    daemon.ok("allocate_cores", service_name="b", num_of_cores=1, near=1)
    plan = found(daemon, num_of_cores=room, numa_policy="single-numa-node")
    (move,) = plan["moves"]
    assert plan["exact"] is True
    for request in plan["requests"]:
        assert "error" not in json.loads(daemon.request(json.dumps(request).encode()))
    assert held(daemon)["new"] == plan["cpus"]
    assert held(daemon)[move["service_name"]] == move["to"]


def test_nothing_moves_by_itself(daemon: Daemon) -> None:
    daemon.ok("allocate_cores", service_name="a", num_of_cores=2, near=0)
    daemon.ok("allocate_cores", service_name="b", num_of_cores=1, near=1)
    before = daemon.snapshot()
    assert found(daemon, num_of_cores=len(daemon.host.isolated_in(0)), numa_policy="single-numa-node")["moves"]
    assert daemon.snapshot() == before


def test_make_room_is_refused_without_a_dry_run(daemon: Daemon) -> None:
    assert daemon.refused("allocate_cores", service_name="new", num_of_cores=1, make_room=True) == (
        "Field 'make_room' goes only with dry_run true, because nothing moves by itself"
    )
