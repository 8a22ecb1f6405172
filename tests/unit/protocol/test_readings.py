# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Readings: the fields of the requests that change nothing."""

from __future__ import annotations

import pytest

from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.readings import GetHistory, GetMemoryInfo, ListAllocations

from .builders import READING, accept, encode


@pytest.mark.parametrize("action", READING)
def test_reading_actions_need_no_service_name(action: str) -> None:
    assert accept(encode(action)).service_name is None
    assert accept(encode(action, service_name=None)).service_name is None


def test_listing_is_of_the_isolated_pool_unless_another_is_named() -> None:
    assert validate({"action": "list_allocations"}) == ListAllocations(action="list_allocations", pool="isolated")


def test_memory_info_is_of_all_nodes_unless_one_is_named() -> None:
    assert validate({"action": "get_memory_info"}) == GetMemoryInfo(action="get_memory_info", node_id=None)


def test_history_is_asked_for_after_2038() -> None:
    request = validate({"action": "get_history", "since": 4_102_444_800})
    assert isinstance(request, GetHistory)
    assert request.since == 4_102_444_800
