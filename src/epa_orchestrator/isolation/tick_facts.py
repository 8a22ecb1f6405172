# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tick facts."""

from __future__ import annotations

from dataclasses import dataclass

from epa_orchestrator.isolation.host_files import HostFiles


@dataclass(frozen=True)
class TickFacts:
    """Placeholder."""


def read_tick_facts(files: HostFiles) -> TickFacts:
    """Read them."""
    return TickFacts()
