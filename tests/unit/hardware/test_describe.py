# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A discovered machine as JSON: every fact of it, its sets as CPU lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epa_orchestrator.hardware.describe import describe, from_description
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.hugepages import Hugepages, read_hugepages
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsTree
from tests.machines import SYNTHETIC, made_up, synthetic
from tools.synthetic import Shape, build, write_tree


def test_describes_every_fact(tmp_path: Path) -> None:
    """Two packages of two cores with two threads; CPU n and n + 4 share a core. CPU 6 is offline."""
    shape = Shape(
        packages=2,
        cores_per_l3=2,
        threads_per_core=2,
        isolated="1,3,5,7",
        offline="6",
        memory_only_nodes=1,
        memory_kb=1 << 20,
        node_hugepages={0: {2048: (8, 3), 1048576: (1, 1)}},
    )
    write_tree(build(shape), tmp_path)
    sysfs = SysfsTree(tmp_path)
    machine = read_machine(sysfs)
    described = describe(machine, {node_id: read_hugepages(sysfs, node_id) for node_id in machine.node_ids})
    assert json.loads(json.dumps(described)) == {
        "present": "0-7",
        "online": "0-5,7",
        "isolated": "1,3,5,7",
        "packages": [{"id": "0", "cpus": "0-1,4-5"}, {"id": "1", "cpus": "2-3,7"}],
        "nodes": [
            {
                "id": 0,
                "cpus": "0-1,4-5",
                "distances": [10, 32, 17],
                "memory_kb": 1048576,
                "hugepages": [
                    {"size_kb": 2048, "total": 8, "free": 3},
                    {"size_kb": 1048576, "total": 1, "free": 1},
                ],
            },
            {"id": 1, "cpus": "2-3,7", "distances": [32, 10, 17], "memory_kb": 1048576, "hugepages": []},
            {"id": 2, "cpus": "", "distances": [17, 17, 10], "memory_kb": 1048576, "hugepages": []},
        ],
        "l3_domains": ["0-1,4-5", "2-3,7"],
        "l2_clusters": [],
        "cores": [
            {"cpus": "0,4", "type": None},
            {"cpus": "1,5", "type": None},
            {"cpus": "2", "type": None},
            {"cpus": "3,7", "type": None},
        ],
    }


def test_unknown_facts_are_null_or_empty() -> None:
    machine = made_up(Shape(cores_per_l3=2, l3_scope="none"))
    described = describe(machine, {0: ()})
    assert described["l3_domains"] == []
    assert described["isolated"] == ""


def test_describes_the_types_of_hybrid_cores() -> None:
    files = build(Shape(cores_per_l3=3))
    files |= {"devices/cpu_core/cpus": "0-1", "devices/cpu_atom/cpus": "2"}
    machine = read_machine(RecordedSysfs(files))
    assert describe(machine, {0: ()})["cores"] == [
        {"cpus": "0", "type": "performance"},
        {"cpus": "1", "type": "performance"},
        {"cpus": "2", "type": "efficiency"},
    ]


def test_describes_the_given_hugepages() -> None:
    described = describe(made_up(Shape()), {0: (Hugepages(2048, 5, 2),)})
    nodes = described["nodes"]
    assert isinstance(nodes, list)
    assert nodes[0]["hugepages"] == [{"size_kb": 2048, "total": 5, "free": 2}]  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_machine_comes_back_from_its_description(name: str) -> None:
    machine = synthetic(name)
    pages = {node_id: (Hugepages(2048, 9, node_id),) for node_id in machine.node_ids}
    assert from_description(json.loads(json.dumps(describe(machine, pages)))) == (machine, pages)
