# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Power facts."""

from __future__ import annotations

from dataclasses import dataclass

from epa_orchestrator.isolation.host_files import HostFiles


@dataclass(frozen=True)
class PowerFacts:
    """Placeholder."""


def read_power_facts(files: HostFiles) -> PowerFacts:
    """Read them."""
    return PowerFacts()
