# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation: the answer about checks and noise on the wire."""

from __future__ import annotations

import json
from typing import Any

from epa_orchestrator.client.checks import parse
from epa_orchestrator.protocol.isolation import CheckResult, ClaimIsolation, ClaimOwner, IsolationAnswer, NoiseCounts
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.readings import GetIsolation

CHECK = CheckResult(id="C1", result="warn", seen="a", why="b", remedy="", since="2026-11-27T14:27:10Z")
CLAIM: dict[str, Any] = {
    "service_name": "ovs",
    "pool": "isolated",
    "allocated_cores": "2-3",
    "owner": ClaimOwner(snap=None, unit="ovs.service", comm="ovs", pid=7, asked_at=5.5, cgroups=[]),
    "since": 6.5,
    "noise": NoiseCounts(
        seconds=60.0,
        ticks=3,
        interrupts={"eth0 (IRQ 42)": 2},
        ipis=0,
        other=1,
        waited_seconds=0.25,
        involuntary_switches=None,
    ),
    "now": None,
    "strangers": [],
    "outside": [],
    "stacked": [],
    "culprit": None,
    "remedy": None,
    "problem": None,
}


def test_an_answer_before_the_first_reading_has_no_time_and_no_checks() -> None:
    answer = IsolationAnswer(read_at=None, checks=[], claims=[])
    assert json.loads(answer.encode()) == {"version": "1.0", "read_at": None, "checks": [], "claims": []}


def test_what_is_not_known_of_a_claim_is_null() -> None:
    (claim,) = json.loads(IsolationAnswer(read_at=66.5, checks=[], claims=[ClaimIsolation(**CLAIM)]).encode())["claims"]
    assert claim["now"] is None
    assert claim["noise"]["involuntary_switches"] is None
    assert "more_threads" not in claim


def test_an_answer_is_read_as_it_was_sent() -> None:
    claim = ClaimIsolation(**CLAIM, more_threads={"strangers": 2})
    answer = IsolationAnswer(
        read_at=66.5, checks=[CHECK], claims=[claim], state_error="The disk is gone", warnings=("careful",)
    )
    assert parse(IsolationAnswer, answer.encode()) == answer


def test_a_request_may_name_a_service() -> None:
    request = validate({"action": "get_isolation", "service_name": "ovs"})
    assert isinstance(request, GetIsolation)
    assert request.service_name == "ovs"
