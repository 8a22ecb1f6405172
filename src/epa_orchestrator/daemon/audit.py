# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Audit: what the daemon's last reading of the host's isolation has found, as clients and the metrics get it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epa_orchestrator.protocol.isolation import CheckResult, ClaimIsolation


@dataclass(frozen=True)
class Audit:
    """The results of one reading, which began at `read_at` (seconds since 1970); `claims` are those of then."""

    read_at: float
    checks: tuple[CheckResult, ...]
    claims: Mapping[str, ClaimIsolation]
