# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The operator is told what the daemon may not see, and how to let it."""

from __future__ import annotations

from epa_orchestrator.hardware.blind_spots import find_blind_spots
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tools.synthetic import Shape, build

NODE = "devices/system/node"
FILES = build(Shape(packages=2, hugepages={2048: (8, 4)}))
CONNECT = "in a snap, run: sudo snap connect epa-orchestrator:sys-devices-system-node"


def blind_spots(sysfs: RecordedSysfs) -> list[str]:
    return list(find_blind_spots(sysfs, read_machine(sysfs)))


def test_host_that_can_be_seen_has_none() -> None:
    assert blind_spots(RecordedSysfs(FILES)) == []


def test_host_without_hugepages_has_none() -> None:
    assert blind_spots(RecordedSysfs(build(Shape()))) == []


def test_hidden_directory_of_nodes() -> None:
    files = {path: text for path, text in FILES.items() if path != f"{NODE}/online"}
    (sentence,) = blind_spots(RecordedSysfs(files, hidden=[NODE]))
    assert sentence == (
        f"The NUMA nodes cannot be listed ({NODE}) and are found by their CPUs, so nodes that have memory only may be"
        f" missing: {CONNECT}"
    )


def test_counts_that_cannot_be_read_in_directories_that_can_be_listed() -> None:
    """This is what snapd 2.68 lets a strict snap without plugs see."""
    readable = {path: text for path, text in FILES.items() if path != f"{NODE}/online" and "/hugepages/" not in path}
    listed = {f"{NODE}/node{node}/hugepages": ["hugepages-2048kB"] for node in (0, 1)}
    assert blind_spots(RecordedSysfs(readable, listed)) == [
        f"The hugepages of NUMA nodes 0-1 cannot be read, so none can be allocated: {CONNECT}"
    ]


def test_hidden_hugepages_are_named_by_node() -> None:
    assert blind_spots(RecordedSysfs(FILES, hidden=[f"{NODE}/node1/hugepages"])) == [
        f"The hugepages of NUMA node 1 cannot be read, so none can be allocated: {CONNECT}"
    ]
