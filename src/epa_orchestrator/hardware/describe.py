# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Describe: turns a discovered machine into JSON, for scripts and bug reports."""

from __future__ import annotations

from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine


def describe(machine: Machine, pages: dict[int, tuple[Hugepages, ...]]) -> dict[str, object]:
    """The machine with its sets as CPU lists; `pages` are the hugepages by node id."""
    return {
        "present": str(machine.present),
        "online": str(machine.online),
        "isolated": str(machine.isolated),
        "packages": [{"id": package.id, "cpus": str(package.cpus)} for package in machine.packages],
        "nodes": [
            {
                "id": node.id,
                "cpus": str(node.cpus),
                "distances": list(node.distances),
                "memory_kb": node.memory_kb,
                "hugepages": [
                    {"size_kb": size.size_kb, "total": size.total, "free": size.free} for size in pages[node.id]
                ],
            }
            for node in machine.nodes
        ],
        "l3_domains": [str(domain) for domain in machine.l3_domains],
        "l2_clusters": [str(cluster) for cluster in machine.l2_clusters],
        "cores": [{"cpus": str(core.cpus), "type": core.type} for core in machine.cores],
    }
