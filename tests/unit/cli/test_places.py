# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The place of a claim: its NUMA nodes, L3 domains, packages and shared cores."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.cli.places import Places
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.protocol.machine import MachineAnswer


def machine(**states: str) -> MachineAnswer:
    """Two packages of one NUMA node each, with two L3 domains of two cores of two threads."""
    nodes: list[dict[str, Any]] = [
        {"id": node, "cpus": cpus, "distances": [10, 20], "memory_kb": None, "hugepages": []}
        for node, cpus in enumerate(("0-7", "8-15"))
    ]
    return MachineAnswer.model_validate(
        {
            "states": states,
            "pools": {"isolated": "2-15"},
            "machine": {
                "present": "0-15",
                "online": "0-15",
                "isolated": "2-15",
                "packages": [{"id": "0", "cpus": "0-7"}, {"id": "1", "cpus": "8-15"}],
                "nodes": nodes,
                "l3_domains": ["0-3", "4-7", "8-11", "12-15"],
                "l2_clusters": [],
                "cores": [{"cpus": f"{cpu}-{cpu + 1}", "type": None} for cpu in range(0, 16, 2)],
            },
        }
    )


@pytest.mark.parametrize(
    ("cpus", "nodes", "l3", "packages"),
    [("2-3", "0", 1, 1), ("2-5", "0", 2, 1), ("3,8", "0-1", 2, 2), ("0-15", "0-1", 4, 2), ("99", "", 0, 0)],
)
def test_domains_of_cpus(cpus: str, nodes: str, l3: int, packages: int) -> None:
    place = Places(machine(free="2-15")).of(CpuSet.parse(cpus), CpuSet())
    assert (str(place.nodes), place.l3_domains, place.packages) == (nodes, l3, packages)


@pytest.mark.parametrize(
    ("cpus", "withheld", "free", "shared"),
    [
        ("2-3", "", "4-15", 0),  # whole cores
        ("2", "", "3-15", 0),  # the sibling is free
        ("2", "3", "4-15", 0),  # the sibling is withheld because of the claim
        ("2", "", "4-15", 1),  # the sibling belongs to another service
        ("2,4,6", "", "5,7", 1),
    ],
)
def test_core_with_a_thread_of_another_owner_is_shared(cpus: str, withheld: str, free: str, shared: int) -> None:
    place = Places(machine(free=free)).of(CpuSet.parse(cpus), CpuSet.parse(withheld))
    assert place.shared_cores == shared
