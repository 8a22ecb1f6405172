# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks of events: each says of one service, and of the pools that were asked for, what changes."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.client.event_checks import mistake_in_event, mistake_in_state
from epa_orchestrator.protocol.watching import ClaimEvent, HugepagesEvent, StateEvent
from tests.unit.client.builders import LISTING

STATE: dict[str, Any] = LISTING | {"event": "state", "hugepages": {}}
(CLAIM,) = LISTING["allocations"][:1]
GENERAL: dict[str, Any] = LISTING | {"pool": "general", "allocations": [CLAIM | {"pool": "general"}]}


@pytest.mark.parametrize(
    ("pool", "state", "mistake"),
    [
        ("isolated", STATE, None),
        ("isolated", STATE | {"other_pool": GENERAL}, None),
        ("general", STATE, "it is about pool isolated, not general"),
        ("isolated", STATE | {"other_pool": LISTING}, "it is about pool isolated twice"),
        ("isolated", STATE | {"other_pool": GENERAL | {"allocations": [CLAIM]}}, "holds a claim in another pool"),
        ("isolated", STATE | {"allocations": GENERAL["allocations"]}, "holds a claim in another pool"),
    ],
)
def test_a_state_shows_the_pool_that_was_asked_for(pool: str, state: dict[str, Any], mistake: str | None) -> None:
    found = mistake_in_state(pool, StateEvent.model_validate(state))
    assert found == mistake or (found is not None and mistake is not None and mistake in found)


@pytest.mark.parametrize(
    ("before", "after", "is_right"),
    [
        (None, CLAIM, True),
        (CLAIM, None, True),
        (None, None, False),
        (None, CLAIM | {"service_name": "other"}, False),
        (CLAIM | {"service_name": "other"}, CLAIM, False),
    ],
)
def test_a_claim_event_is_about_one_service(before: object, after: object, is_right: bool) -> None:
    event: dict[str, Any] = {"event": "claim", "service_name": CLAIM["service_name"], "taken_from": {}}
    event |= {"before": before, "after": after}
    assert (mistake_in_event(ClaimEvent.model_validate(event)) is None) == is_right


@pytest.mark.parametrize(("taken_from", "is_right"), [({"b": "2"}, True), ({}, False)])
def test_services_that_are_not_named_come_after_named_ones(taken_from: dict[str, str], is_right: bool) -> None:
    event: dict[str, Any] = {"event": "claim", "service_name": CLAIM["service_name"], "before": None, "after": CLAIM}
    event |= {"taken_from": taken_from, "taken_from_others": 3}
    assert (mistake_in_event(ClaimEvent.model_validate(event)) is None) == is_right


def test_other_events_have_no_mistakes_of_their_own() -> None:
    event = HugepagesEvent(event="hugepages", service_name="a", node_id=0, size_kb=4, before=0, after=1)
    assert mistake_in_event(event) is None
