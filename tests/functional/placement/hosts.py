# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The made-up and recorded hosts of the placement tests."""

from __future__ import annotations

import json
import shutil
from typing import Final

import pytest

from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import SysfsTree
from tests.functional.harness import Daemon, Json
from tests.machines import KUNPENG_DISTANCES, real_machine_files, write_real_machine
from tools.synthetic import Shape, build_hybrid, write_tree

# Two packages, each one node with two L3 domains of two cores; CPUs n and n + 8 share a core:
#   node 0: {0,1,8,9} {2,3,10,11}; node 1: {4,5,12,13} {6,7,14,15}
EIGHT: Final = Shape(2, 1, 2, 2, 2, isolated="0-15", hugepages={2048: (64, 64)})
#: One L3 domain of four cores of two threads, n and n + 4.
CORES: Final = Shape(1, 1, 1, 4, 2, isolated="0-7")
#: Sub-NUMA clustering: nodes 0-3 and 4-7 below one L3.
CLUSTERS: Final = Shape(1, 2, 1, 4, 1, l3_scope="package", isolated="0-7")
#: One node, the L3 domains 0-3 and 4-7.
CACHES: Final = Shape(1, 1, 2, 4, 1, isolated="0-7")
#: Nodes 0-3 and 4-7, each a package, and 0-5 and 6-11.
NODES: Final = Shape(2, 1, 1, 4, 1, isolated="0-7")
WIDE_NODES: Final = Shape(2, 1, 1, 6, 1, isolated="0-11")
#: Three packages of two CPUs: the first and the last are the closest.
CHAIN: Final = Shape(3, 1, 1, 2, 1, isolated="0-5", distances=((10, 30, 20), (30, 10, 30), (20, 30, 10)))
#: As CORES, with the first core left to the system.
SYSTEM: Final = Shape(1, 1, 1, 4, 2, isolated="1-3,5-7")
FOUR: Final = Shape(1, 1, 1, 4, 1, isolated="0-3")
#: Two packages of two nodes, each of three cores with four adjacent threads.
POWER: Final = Shape(2, 2, 1, 3, 4, siblings="adjacent", isolated="0-47")
#: In the shape of large real machines: L3 domains of 8 cores, three in a node; sub-NUMA clustering, where two nodes
#: share an L3; nodes of 32 single-threaded cores at different distances.
EPYC: Final = Shape(2, 4, 3, 8, 2, l3_ids="scattered", isolated="0-383")
XEON: Final = Shape(2, 2, 1, 10, 2, l3_scope="package", numbering="interleaved", isolated="0-79")
KUNPENG: Final = Shape(2, 2, 1, 32, distances=KUNPENG_DISTANCES, isolated="0-127")
#: Four cores with two adjacent threads.
FOUR_CORES: Final = Shape(1, 1, 1, 4, 2, siblings="adjacent", isolated="0-7")


def write(daemon: Daemon, path: str, text: str) -> None:
    """Write a file in sysfs that stays when the machine changes."""
    target = daemon.host.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n")


def write_core_types(daemon: Daemon) -> None:
    """Make CPUs 1 and 2 of FOUR performance cores; other hosts stay as they are."""
    if daemon.host.isolated == {0, 1, 2, 3}:
        for cpu, capacity in enumerate((300, 1024, 1024, 300)):
            write(daemon, f"devices/system/cpu/cpu{cpu}/cpu_capacity", str(capacity))


def real_daemon(name: str, settings: Json) -> Daemon:
    """A daemon on a real machine, all of whose CPUs are isolated."""
    path = next((path for path in real_machine_files() if path.stem == name), None)
    if path is None:
        pytest.skip(f"the recorded machine {name} is not here")
    daemon = Daemon(settings=settings)
    shutil.rmtree(daemon.host.root)
    write_real_machine(json.loads(path.read_text()), daemon.host.root.parent)
    write(daemon, "devices/system/cpu/isolated", str(read_machine(SysfsTree(daemon.host.root)).online))
    return daemon


def hybrid_daemon() -> Daemon:
    """A daemon on six performance cores, CPUs 0-11, and eight efficiency cores, CPUs 12-19; all are isolated."""
    daemon = Daemon()
    shutil.rmtree(daemon.host.root)
    write_tree(build_hybrid(6, 8) | {"devices/system/cpu/isolated": "0-19"}, daemon.host.root)
    return daemon


def machine_daemon(machine: str | Shape, settings: Json) -> Daemon:
    return Daemon(machine, settings) if isinstance(machine, Shape) else real_daemon(machine, settings)
