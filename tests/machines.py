# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machines that tests run on: synthetic ones, and recorded real ones when the checkout has them next to it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Core, Machine, NumaNode, Package
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsTree
from tools.synthetic import Shape, build, build_hybrid

#: Outside the repository, and never part of it: tests that need them skip where they are absent.
REAL_MACHINES = Path(__file__).parents[2] / "shared" / "machines"


def made_up(shape: Shape) -> Machine:
    return read_machine(RecordedSysfs(build(shape)))


def with_packages(machine: Machine, parts: Iterable[str]) -> Machine:
    """The machine divided into these packages."""
    return replace(machine, packages=tuple(Package(str(n), CpuSet.parse(part)) for n, part in enumerate(parts)))


def with_node_cpus(machine: Machine, parts: Sequence[str]) -> Machine:
    """The machine with these CPUs in its nodes."""
    nodes = zip(machine.nodes, parts, strict=True)
    return replace(machine, nodes=tuple(replace(node, cpus=CpuSet.parse(part)) for node, part in nodes))


def with_cores(machine: Machine, parts: Iterable[str]) -> Machine:
    """The machine with these cores."""
    return replace(machine, cores=tuple(Core(CpuSet.parse(part)) for part in parts))


def with_l2_clusters(machine: Machine, parts: Iterable[str]) -> Machine:
    """The machine with these L2 clusters."""
    return replace(machine, l2_clusters=tuple(map(CpuSet.parse, parts)))


# --- synthetic machines in the shape of real ones ---

KUNPENG_DISTANCES: Final = ((10, 16, 32, 33), (16, 10, 25, 32), (32, 25, 10, 16), (33, 32, 16, 10))

#: Only some pairs of nodes are linked directly, and not all of a package's own nodes are equally far from the others.
_OPTERON_DISTANCES: Final = (
    (10, 16, 16, 22, 16, 22, 16, 22),
    (16, 10, 22, 16, 16, 22, 22, 16),
    (16, 22, 10, 16, 16, 16, 16, 16),
    (22, 16, 16, 10, 16, 16, 22, 22),
    (16, 16, 16, 16, 10, 16, 16, 22),
    (22, 22, 16, 16, 16, 10, 22, 16),
    (16, 22, 16, 22, 16, 22, 10, 16),
    (22, 16, 16, 22, 22, 16, 16, 10),
)


def _in_groups(count: int, near: int, sizes: dict[int, int], far: int) -> list[list[int]]:
    """Distances of nodes: `near` to itself, by the size of the smallest group that contains both, else `far`."""

    def distance(a: int, b: int) -> int:
        return near if a == b else next((value for size, value in sizes.items() if a // size == b // size), far)

    return [[distance(a, b) for b in range(count)] for a in range(count)]


def _epyc() -> Machine:
    """Nodes 0 to 7 of 3 L3 domains of 8 cores: L3 n is 8n to 8n+7, siblings 192 above."""
    return made_up(Shape(2, 4, 3, 8, 2, l3_ids="scattered"))


def _xeon() -> Machine:
    """Sub-NUMA clustering: nodes 0-2,5-6,10-12,15-16 and 3-4,7-9,13-14,17-19 below one L3, siblings 40 above; twice."""
    distances = ((10, 11, 21, 21), (11, 10, 21, 21), (21, 21, 10, 11), (21, 21, 11, 10))
    machine = made_up(Shape(2, 2, 1, 10, 2, l3_scope="package", distances=distances))
    first, second = CpuSet.parse("0-2,5-6,10-12,15-16"), CpuSet.parse("3-4,7-9,13-14,17-19")
    nodes = [[cpu + shift for cpu in cpus] for shift in (0, 20) for cpus in (first, second)]
    return with_node_cpus(machine, [str(CpuSet(cpu + thread for thread in (0, 40) for cpu in cpus)) for cpus in nodes])


def _pmem() -> Machine:
    """CPUs dealt out to four nodes, and four nodes of persistent memory without CPUs."""
    shape = Shape(2, 2, 1, 14, 2, l3_scope="package", numbering="interleaved", memory_only_nodes=4)
    return made_up(replace(shape, distances=_in_groups(8, 10, {2: 11, 4: 21}, 28)))


def _kunpeng() -> Machine:
    """Nodes and L3 domains of 32 single-threaded cores, two in a package."""
    return made_up(Shape(2, 2, 1, 32, distances=KUNPENG_DISTANCES))


def _opteron() -> Machine:
    """Nodes and L3 domains of 8 CPUs; nodes and packages are not in the order of the CPUs."""
    shape = Shape(4, 2, 1, 4, 2, siblings="adjacent", distances=_OPTERON_DISTANCES)
    nodes = ["0-7", "8-15", "32-39", "40-47", "48-55", "56-63", "16-23", "24-31"]
    return with_packages(with_node_cpus(made_up(shape), nodes), ["0-15", "32-47", "48-63", "16-31"])


def _power7() -> Machine:
    """Cores of four threads, each its own L3 domain and package; nodes of eight cores, numbered with gaps."""
    shape = Shape(1, 8, 8, 1, 4, siblings="adjacent", distances=_in_groups(8, 10, {2: 20}, 40))
    machine = with_packages(made_up(shape), [f"{cpu}-{cpu + 3}" for cpu in range(0, 256, 4)])
    ids = (0, 1, 4, 5, 8, 9, 12, 13)
    nodes = zip(machine.nodes, ids, strict=True)
    return replace(machine, nodes=tuple(replace(node, id=node_id) for node, node_id in nodes))


def _raptorlake() -> Machine:
    """Cores 0-1 to 10-11 for performance, 12 to 19 for efficiency, four of these with an L2; one L3."""
    return read_machine(RecordedSysfs(build_hybrid(performance_cores=6, efficiency_cores=8, cores_per_l2=4)))


def _ryzen() -> Machine:
    """L3 domains 0-2,6-8 and 3-5,9-11, siblings 6 above."""
    return made_up(Shape(1, 1, 2, 3, 2))


def _uv2000() -> Machine:
    """24 nodes of 16 CPUs, in pairs, in groups of eight."""
    return made_up(Shape(24, 1, 1, 8, 2, distances=_in_groups(24, 10, {2: 50, 8: 65}, 79)))


def _every_cpu_in_every_node() -> Machine:
    """Eight nodes that all list all eight CPUs, as a faulty firmware describes them; no L3."""
    machine = made_up(Shape(2, 1, 1, 4, l3_scope="none"))
    return replace(machine, nodes=tuple(NumaNode(n, machine.online, (10,) * 8) for n in range(8)))


def _offline_node() -> Machine:
    """Node 0 and CPUs 0-3 and 21-23 are offline, so the even CPUs are in no node, and node 1 has two distances."""
    even, odd = CpuSet(range(4, 21, 2)), CpuSet(range(5, 21, 2))
    return Machine(
        present=CpuSet(range(24)),
        online=even | odd,
        isolated=EMPTY,
        packages=(Package("0", even), Package("1", odd)),
        nodes=(NumaNode(1, odd, (21, 10)),),
        l3_domains=(even, odd),
        cores=tuple(Core(CpuSet([cpu])) for cpu in even | odd),
    )


def _package_per_cpu() -> Machine:
    """A virtual machine of 24 packages and L3 domains of one CPU, in one node, and a node that has memory only."""
    return with_packages(made_up(Shape(1, 1, 24, 1, memory_only_nodes=1)), map(str, range(24)))


def _offline_threads() -> Machine:
    """Four packages in one node; some cores have lost a thread, and one package a core."""
    machine = made_up(Shape(1, 1, 4, 2, 2, offline="2,5,10,13-14"))
    return with_packages(machine, map(str, machine.l3_domains))


def _no_nodes() -> Machine:
    """Packages of different sizes and gaps in the CPU ids; the kernel knows neither nodes nor L3 domains."""
    packages = ["1-2", "3-5", "8-10", "11-14", "15", "16-18", "19"]
    machine = made_up(Shape(1, 1, 1, 20, l3_scope="none", offline="0,6-7"))
    return replace(with_packages(machine, packages), nodes=(NumaNode(0, machine.present),))


def _sophon() -> Machine:
    """Four nodes whose CPUs are in two pieces each, in one package; no L3."""
    machine = made_up(Shape(1, 4, 1, 16, l3_scope="none"))
    return with_node_cpus(machine, ["0-7,16-23", "8-15,24-31", "32-39,48-55", "40-47,56-63"])


#: By name, which is that of the real machine it resembles, or its peculiarity.
SYNTHETIC: Final[dict[str, Callable[[], Machine]]] = {
    "epyc-nps4": _epyc,
    "epyc-naples": lambda: made_up(Shape(2, 4, 2, 3, 2)),
    "xeon-snc2": _xeon,
    "xeon-pmem": _pmem,
    "kunpeng": _kunpeng,
    "opteron": _opteron,
    "power7": _power7,
    "raptorlake": _raptorlake,
    "arm-clusters": lambda: made_up(Shape(2, 1, 1, 16, l3_scope="none", cores_per_l2=4)),
    "crossed-cores": lambda: with_cores(made_up(Shape(1, 2, 1, 8)), [f"{n},{n + 8}" for n in range(8)]),
    "ryzen": _ryzen,
    "uv2000": _uv2000,
    "sophon": _sophon,
    "every-cpu-in-every-node": _every_cpu_in_every_node,
    "offline-node": _offline_node,
    "offline-threads": _offline_threads,
    "package-per-cpu": _package_per_cpu,
    "no-nodes": _no_nodes,
    "two-cpus": lambda: made_up(Shape(1, 1, 1, 2, l3_scope="none")),
}


@cache
def synthetic(name: str) -> Machine:
    return SYNTHETIC[name]()


# --- recorded real machines ---


def real_machine_files() -> list[Path]:
    return sorted(REAL_MACHINES.glob("*/*.json"))


def _materialise() -> ModuleType:
    """The script that comes with the real machines."""
    spec = importlib.util.spec_from_file_location("materialise", REAL_MACHINES / "materialise.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_real_machine(document: dict[str, Any], root: Path) -> SysfsTree:
    """Write the sysfs tree of a real machine below a directory."""
    _materialise().materialise(document, str(root))
    return SysfsTree(root / "sys")


def real_sysfs(document: dict[str, Any], *, verbatim: bool = False) -> RecordedSysfs:
    """The same tree in memory, which avoids thousands of small files."""
    files, links, directories = _materialise().tree(document, verbatim)
    entries: dict[str, list[str]] = {}
    for path in [*links, *directories]:
        while "/" in path:
            path, _, name = path.rpartition("/")
            entries.setdefault(path, []).append(name)
    return RecordedSysfs({path: text.strip() for path, text in files.items()}, entries)


def real_machine(name: str) -> Machine:
    """A real machine by its name; skips the test where it is absent."""
    for path in real_machine_files():
        if path.stem == name:
            return read_machine(real_sysfs(json.loads(path.read_text(encoding="utf-8"))))
    pytest.skip(f"the recorded machine {name} is not here")
