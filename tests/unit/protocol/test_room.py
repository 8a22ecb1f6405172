# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room: the part of a refusal about claims that would move, on the wire, and the request that asks for it."""

from __future__ import annotations

import json

import pytest

from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.fields import ProtocolError
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.room import MakeRoom, RoomMove, RoomRequest

MOVE = RoomMove(
    service_name="a", pool="isolated", from_="0-1", to="4-5", numa_nodes="1", preemption_policy="non-preemptive"
)
ROOM = MakeRoom(
    moves=[MOVE],
    cpus="0-3",
    requests=[RoomRequest(action="allocate_cores", service_name="a", pool="isolated", num_of_cores=-1)],
    exact=True,
    tried=3,
    sentence="Moving 1 claim makes room.",
)


def test_fields_on_the_wire() -> None:
    document = json.loads(ErrorAnswer(error="no", make_room=ROOM).encode())
    assert document["make_room"] == {
        "moves": [
            {
                "service_name": "a",
                "pool": "isolated",
                "from": "0-1",
                "to": "4-5",
                "numa_nodes": "1",
                "preemption_policy": "non-preemptive",
            }
        ],
        "cpus": "0-3",
        "requests": [{"action": "allocate_cores", "service_name": "a", "pool": "isolated", "num_of_cores": -1}],
        "exact": True,
        "tried": 3,
        "sentence": "Moving 1 claim makes room.",
    }


def test_a_client_reads_what_the_daemon_sends() -> None:
    answer = ErrorAnswer(error="no", make_room=ROOM)
    assert ErrorAnswer.model_validate_json(answer.encode(), strict=True) == answer


def test_other_refusals_keep_their_bytes() -> None:
    assert ErrorAnswer(error="no").encode() == b'{"version":"1.0","error":"no"}'


@pytest.mark.parametrize("dry_run", [{}, {"dry_run": False}])
def test_make_room_needs_a_dry_run(dry_run: dict[str, bool]) -> None:
    request = {"action": "allocate_cores", "service_name": "a", "num_of_cores": 1, **dry_run, "make_room": True}
    with pytest.raises(ProtocolError) as caught:
        validate(request)
    assert str(caught.value) == "Field 'make_room' goes only with dry_run true, because nothing moves by itself"


@pytest.mark.parametrize("dry_run", [False, True])
def test_make_room_may_be_false(dry_run: bool) -> None:
    request = {"action": "allocate_cores", "service_name": "a", "num_of_cores": 1, "dry_run": dry_run}
    assert validate({**request, "make_room": False}) == validate(request)
