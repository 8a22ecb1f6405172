# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scheduler facts."""

from __future__ import annotations

from dataclasses import dataclass

from epa_orchestrator.isolation.host_files import HostFiles


@dataclass(frozen=True)
class SchedulerFacts:
    """Placeholder."""


def read_scheduler_facts(files: HostFiles) -> SchedulerFacts:
    """Read them."""
    return SchedulerFacts()
