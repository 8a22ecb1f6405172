# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests in bytes, and what becomes of them: what the tests of the protocol have in common."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.fields import ProtocolError
from epa_orchestrator.protocol.parsing import parse
from epa_orchestrator.protocol.requests import Request

#: The fields that each action needs.
ACTIONS: dict[str, dict[str, Any]] = {
    "allocate_cores": {"service_name": "a"},
    "allocate_cores_percent": {"service_name": "a", "percent": 50},
    "allocate_numa_cores": {"service_name": "a", "numa_node": 0, "num_of_cores": 2},
    "list_allocations": {},
    "get_memory_info": {},
    "allocate_hugepages": {"service_name": "a", "node_id": 0, "size_kb": 2048, "hugepages_requested": 4},
    "get_machine": {},
    "watch": {},
    "get_history": {},
    "get_claim": {"service_name": "a"},
    "get_isolation": {},
}
READING = ("list_allocations", "get_memory_info", "get_machine", "watch", "get_history", "get_isolation")
MUTATIONS = ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores", "allocate_hugepages")
WITH_POOL = ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores", "list_allocations")
WITH_POLICY = ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores")

#: 255 printable characters of four bytes each.
LONGEST_NAME = "\N{GRINNING FACE}" * 255


def encode(action: str, /, **fields: Any) -> bytes:
    """A valid request of an action with other or more fields."""
    return json.dumps({"version": "1.0", "action": action, **ACTIONS[action], **fields}).encode()


def accept(data: bytes) -> Request:
    """The request that these bytes are."""
    request = parse(data)
    assert request is not None
    return request


def refusal(data: bytes) -> str:
    """The sentence that refuses these bytes; one clear sentence, short enough for one recv."""
    with pytest.raises(ProtocolError) as caught:
        parse(data)
    sentence = str(caught.value)
    assert sentence
    assert sentence.isprintable(), sentence
    assert len(ErrorAnswer(error=sentence).encode()) < 4096
    return sentence
