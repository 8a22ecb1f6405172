# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Notes: events keep the request without its defaults, and the settings in force."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.allocation.settings_text import settings_text
from epa_orchestrator.daemon.mutations import Decision
from epa_orchestrator.daemon.notes import note_of
from epa_orchestrator.daemon.sentences import Reasons
from epa_orchestrator.peer import PeerNames
from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import Mutation
from epa_orchestrator.state.events import Note

NAMES = PeerNames("nova", None, "nova.service")


def note(**fields: Any) -> Note:
    request = validate({"service_name": "a", **fields})
    assert isinstance(request, Mutation)
    decision = Decision(request, Change(), Ledger(), ErrorAnswer(error=""), lambda: Reasons("Because.", "Lost."))
    return note_of(decision, NAMES, Settings())


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"action": "allocate_cores"}, {}),
        ({"action": "allocate_cores", "num_of_cores": 0, "pool": "isolated"}, {}),
        ({"action": "allocate_cores", "num_of_cores": 2, "explain": True}, {"num_of_cores": 2}),
        (
            {"action": "allocate_cores", "num_of_cores": 2, "near": "eth0", "cpu_thread_policy": "require"},
            {"cpu_thread_policy": "require", "near": "eth0", "num_of_cores": 2},
        ),
        ({"action": "allocate_cores_percent", "percent": 5, "pool": "general"}, {"pool": "general", "percent": 5}),
        (
            {"action": "allocate_numa_cores", "numa_node": 0, "num_of_cores": 1, "may_take": {"b": "2"}},
            {"may_take": {"b": "2"}, "numa_node": 0, "num_of_cores": 1},
        ),
        (
            {"action": "allocate_hugepages", "node_id": 0, "size_kb": 2048, "hugepages_requested": -1},
            {"node_id": 0, "size_kb": 2048, "hugepages_requested": -1},
        ),
    ],
)
def test_a_request_is_kept_without_its_defaults(fields: dict[str, Any], kept: dict[str, Any]) -> None:
    assert json.loads(note(**fields).request or "") == kept


def test_a_long_request_is_kept_without_its_long_field() -> None:
    many = {f"service-{number}": "2" for number in range(2000)}
    found = note(action="allocate_numa_cores", numa_node=0, num_of_cores=1, may_take=many)
    assert json.loads(found.request or "") == {"numa_node": 0, "num_of_cores": 1}


def test_the_rest_is_as_it_was_decided() -> None:
    found = note(action="allocate_cores")
    assert (found.decided_by, found.lost_by, found.names) == ("Because.", "Lost.", NAMES)
    assert found.settings == settings_text(Settings())
