# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""History: the answers about the past leave out what is not known."""

from __future__ import annotations

import json
from typing import Any

from epa_orchestrator.protocol.history import ClaimAnswer, HistoryEvent

EVENT: dict[str, Any] = {
    "id": 3,
    "at": 5.5,
    "service": "a",
    "before": None,
    "after": {"pool": "isolated", "cpus": "2"},
    "pid": 1,
    "uid": 0,
    "gid": 0,
    "action": "allocate_cores",
}


def test_the_document_of_an_event_has_what_is_known() -> None:
    assert HistoryEvent(**EVENT).document() == EVENT
    named: dict[str, Any] = {**EVENT, "comm": "nova", "request": {}, "taken_from": {"b": "2"}}
    assert HistoryEvent(**named).document() == named


def test_damaged_fields_are_null_in_the_document() -> None:
    damaged: dict[str, Any] = {**EVENT, "request": None, "at": None, "damaged": ["request", "at"]}
    assert HistoryEvent(**damaged).document() == damaged


def test_an_answer_about_a_free_cpu_is_short() -> None:
    answer = ClaimAnswer(
        cpu=6, state="free", core="6-7", hugepages=[], origins=[], changes=[], more_changes=False, settings_now={}
    )
    assert json.loads(answer.encode()) == {
        "version": "1.0",
        "cpu": 6,
        "state": "free",
        "core": "6-7",
        "hugepages": [],
        "origins": [],
        "changes": [],
        "more_changes": False,
        "settings_now": {},
    }


def test_an_answer_is_read_as_it_was_sent() -> None:
    event = HistoryEvent(**EVENT)
    answer = ClaimAnswer(
        service_name="a",
        granted=event,
        hugepages=[],
        origins=[],
        changes=[event],
        more_changes=False,
        settings_now={"cpu-pool": "0"},
        warnings=("careful",),
    )
    assert ClaimAnswer.model_validate_json(answer.encode(), strict=True) == answer
