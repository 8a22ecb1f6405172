# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Names: the values that the wire, the settings and the database have in common."""

from __future__ import annotations

from typing import get_args

from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName, PreemptionPolicy


def test_pools_and_preemption_policies_are_those_of_the_protocol() -> None:
    assert get_args(PoolName) == ("isolated", "general")
    assert get_args(PreemptionPolicy) == ("legacy", "non-preemptive")
    assert MAX_NAME_LENGTH == 255
