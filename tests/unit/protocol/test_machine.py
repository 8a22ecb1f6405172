# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The answer to get_machine: its bytes, and the fields that `describe` makes."""

from __future__ import annotations

import json
from typing import Any

from epa_orchestrator.hardware.describe import describe
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.protocol.machine import MachineDescription, MachineHead
from tests.machines import synthetic


def test_machine_is_the_last_field() -> None:
    head = MachineHead(states={"free": "0-3"}, pools={"isolated": "0-3"})
    assert head.encode_with(b'{"present":"0-3"}') == (
        b'{"version":"1.0","states":{"free":"0-3"},"pools":{"isolated":"0-3"},"machine":{"present":"0-3"}}'
    )


def test_state_error_is_there_only_if_the_daemon_is_read_only() -> None:
    head = MachineHead(states={}, pools={}, state_error="broken")
    assert json.loads(head.encode_with(b"{}"))["state_error"] == "broken"


def test_description_has_the_fields_that_the_daemon_makes() -> None:
    machine = synthetic("raptorlake")
    document: dict[str, Any] = describe(machine, {0: (Hugepages(2048, 4, 1),)})
    assert MachineDescription.model_validate(document, strict=True).model_dump() == document
