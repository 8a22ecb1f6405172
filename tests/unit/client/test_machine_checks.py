# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What a client refuses in an answer to get_machine."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.client.machine_checks import find_mistake
from epa_orchestrator.protocol.machine import CoreThreads, MachineAnswer, MachineDescription, Node, PackageCpus


def answer(states: dict[str, str] | None = None, **machine: Any) -> MachineAnswer:
    """Four CPUs in two cores, with other values for some parts."""
    found = MachineDescription(
        present="0-3",
        online="0-3",
        isolated="",
        packages=[PackageCpus(id="0", cpus="0-3")],
        nodes=[node(0)],
        l3_domains=["0-3"],
        l2_clusters=[],
        cores=cores("0-1", "2-3"),
    )
    return MachineAnswer(states=states or {"free": "0-3"}, pools={}, machine=found.model_copy(update=machine))


def node(number: int, cpus: str = "0-3") -> Node:
    return Node(id=number, cpus=cpus, distances=[10], memory_kb=None, hugepages=[])


def cores(*lists: str) -> list[CoreThreads]:
    return [CoreThreads(cpus=each, type=None) for each in lists]


def test_machine_whose_nodes_overlap_is_fine() -> None:
    assert find_mistake(answer(nodes=[node(0), node(1)])) is None


@pytest.mark.parametrize(
    ("wrong", "mistake"),
    [
        (answer(cores=cores("0-1", "1")), "cores has a CPU twice"),
        (answer(packages=[PackageCpus(id="0", cpus="0-3"), PackageCpus(id="1", cpus="3")]), "packages has a CPU twice"),
        (answer(l3_domains=["0-3", "0"]), "l3_domains has a CPU twice"),
        (answer(l2_clusters=["0-3", "0"]), "l2_clusters has a CPU twice"),
        (answer({"free": "0-3", "claimed": "3"}), "states has a CPU twice"),
        (answer(l3_domains=[""] * 16_385), "l3_domains has 16385 entries"),
        (answer(cores=cores("0-16384")), "cores has more than 16384 CPUs"),
        (answer(present="0-65535"), "the machine has more than 16384 CPUs"),
        (answer(nodes=[node(0)] * 1025), "the machine has 1025 NUMA nodes"),
        (answer(nodes=[node(0, "0-65535")] * 3), "the NUMA nodes have 196608 CPUs"),
    ],
)
def test_machine_that_no_daemon_shows_is_refused(wrong: MachineAnswer, mistake: str) -> None:
    assert find_mistake(wrong) == mistake
