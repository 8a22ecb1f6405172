# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hugepage records by service, and the services that hold nothing else."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from epa_orchestrator.natural import natural
from epa_orchestrator.units import format_size

if TYPE_CHECKING:
    from epa_orchestrator.protocol.answers import MemoryAnswer


def only_hugepages(memory: MemoryAnswer, with_cpus: Container[str]) -> dict[str, str]:
    """The services that hold hugepages but no CPUs, in the order of their names, and what they hold in words."""
    found: dict[str, list[str]] = {}
    for node, pages in memory.numa_hugepages.items():
        for service, counts in pages.allocations.items():
            if service not in with_cpus:
                place = f"NUMA node {node.removeprefix('node')}"
                records = [f"{count} x {format_size(int(size))} on {place}" for size, count in counts.items()]
                found.setdefault(service, []).extend(records)
    return {service: ", ".join(found[service]) for service in sorted(found, key=natural)}
