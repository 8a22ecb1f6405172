# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Interrupt facts."""

from __future__ import annotations

from dataclasses import dataclass

from epa_orchestrator.isolation.host_files import HostFiles


@dataclass(frozen=True)
class InterruptFacts:
    """Placeholder."""


def read_interrupt_facts(files: HostFiles) -> InterruptFacts:
    """Read them."""
    return InterruptFacts()
