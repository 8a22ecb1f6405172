# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scheduler checks."""

from __future__ import annotations

from collections.abc import Iterator

from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.findings import Finding


def scheduler_checks(case: Case) -> Iterator[Finding]:
    """The findings."""
    yield from ()
