# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Builds the sysfs files of synthetic machines, so that tests, benchmarks and shipped recordings need no hardware."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from epa_orchestrator.cpuset import CpuSet

#: {page size in KiB: (pages in total, free pages)}
Hugepages = Mapping[int, tuple[int, int]]


class _Core(NamedTuple):
    """One physical core: its domains, and its place in its package."""

    package: int
    node: int
    l3: int
    core_id: int


class Device(NamedTuple):
    """A PCI device on a NUMA node; `interface` is the network interface that it has, '' for none."""

    address: str
    node: int
    interface: str = ""


@dataclass(frozen=True)
class Shape:
    """A regular machine: the same in every package, node and L3 domain.

    Nodes, L3 domains and cores are counted package by package. Memory-only nodes get the ids after all others.
    """

    packages: int = 1
    nodes_per_package: int = 1
    l3_per_node: int = 1
    cores_per_l3: int = 4
    threads_per_core: int = 1
    #: How many cores share an L2, adjacent ones of a package.
    cores_per_l2: int = 1
    #: "node": each node has `l3_per_node` L3 domains. "package": the L3 domains of a package are one that spans its
    #: nodes, as with Intel's sub-NUMA clustering. "none": no L3 is reported.
    l3_scope: Literal["node", "package", "none"] = "node"
    #: "after": the second threads are numbered after all first ones (x86). "adjacent": CPUs 0 and 1 share a core
    #: (POWER, most virtual machines).
    siblings: Literal["after", "adjacent"] = "after"
    #: "blocks": a node's first threads have adjacent ids. "interleaved": they are dealt out, core i to node i % nodes.
    numbering: Literal["blocks", "interleaved"] = "blocks"
    #: "scattered": the ids of L3 domains do not ascend with the CPU ids, as on EPYC: 0, 4, 8, 1, 5, 9, ...
    l3_ids: Literal["ordered", "scattered"] = "ordered"
    isolated: str = ""
    offline: str = ""
    #: One row for each node; None stands for 10 on the diagonal, 12 inside a package, 32 across, 17 to memory alone.
    distances: Sequence[Sequence[int]] | None = None
    #: The same for every node, but for the nodes in `node_hugepages`. None: the kernel knows no hugepages.
    hugepages: Hugepages | None = None
    node_hugepages: Mapping[int, Hugepages] = field(default_factory=dict[int, Hugepages])
    #: By size (KiB), the pages that the kernel has promised on all nodes; 0 of the others.
    promised: Mapping[int, int] = field(default_factory=dict[int, int])
    memory_only_nodes: int = 0
    devices: Sequence[Device] = ()
    #: Network interfaces without a device, such as bridges.
    bridges: Sequence[str] = ()
    memory_kb: int = 64 << 20
    l2: str = "1024K"
    l3: str = "32768K"

    @property
    def cores(self) -> int:
        """How many physical cores it has."""
        return self.packages * self.nodes_per_package * self.l3_per_node * self.cores_per_l3

    @property
    def cpus(self) -> int:
        """How many CPUs it has, offline ones too."""
        return self.cores * self.threads_per_core

    @property
    def cpu_nodes(self) -> int:
        """How many nodes have CPUs; their ids are 0 to this - 1."""
        return self.packages * self.nodes_per_package

    @property
    def nodes(self) -> int:
        """How many nodes it has."""
        return self.cpu_nodes + self.memory_only_nodes

    def node_cpus(self, node: int) -> list[int]:
        """The CPUs of a node in the order of its cores, first threads first; offline ones too."""
        cores = [number for number, core in enumerate(_cores(self)) if core.node == node]
        return [_cpu_id(self, core, thread) for thread in range(self.threads_per_core) for core in cores]


def build(shape: Shape) -> dict[str, str]:
    """The files that discovery needs, as the kernel would render them: path below the sysfs root -> text."""
    everything = CpuSet(range(shape.cpus))
    online = everything - CpuSet.parse(shape.offline)
    files = {
        "devices/system/cpu/possible": str(everything),
        "devices/system/cpu/present": str(everything),
        "devices/system/cpu/online": str(online),
        "devices/system/cpu/offline": str(everything - online),
        "devices/system/cpu/isolated": str(CpuSet.parse(shape.isolated)),
    }
    cores = _cores(shape)
    threads = [
        CpuSet(_cpu_id(shape, number, thread) for thread in range(shape.threads_per_core)) & online
        for number in range(len(cores))
    ]
    packages = _united((core.package, threads[number]) for number, core in enumerate(cores))
    caches = _united((core.l3, threads[number]) for number, core in enumerate(cores))
    cache_ids = _l3_ids(shape)
    l2_ids: dict[tuple[int, int], int] = {}  # the first core of each L2
    l2_of = [
        l2_ids.setdefault((core.package, core.core_id // shape.cores_per_l2), number)
        for number, core in enumerate(cores)
    ]
    l2_caches = _united((l2_of[number], threads[number]) for number in range(len(cores)))
    for number, core in enumerate(cores):
        for thread in range(shape.threads_per_core):
            cpu = _cpu_id(shape, number, thread)
            directory = f"devices/system/cpu/cpu{cpu}/"
            if cpu:  # the boot CPU of most machines cannot go offline, so it has no such file
                files[directory + "online"] = str(int(cpu in online))
            if cpu not in online:
                continue  # the kernel removes the rest of an offline CPU's directory
            files |= _topology(directory + "topology/", core, threads[number], packages[core.package])
            files |= _cache(directory + "cache/index2/", 2, shape.l2, l2_of[number], l2_caches[l2_of[number]])
            if shape.l3_scope != "none":
                files |= _cache(directory + "cache/index3/", 3, shape.l3, cache_ids[core.l3], caches[core.l3])
    nodes = _united((core.node, threads[number]) for number, core in enumerate(cores))
    return files | _node_files(shape, nodes) | _device_files(shape)


def build_hybrid(performance_cores: int, efficiency_cores: int, cores_per_l2: int = 1) -> dict[str, str]:
    """The files of an Intel hybrid processor: cores of two adjacent threads, then cores of one, below one L3.

    `cores_per_l2` cores of one thread share an L2; a module of a real processor has four, or two. The PMUs cpu_core and
    cpu_atom name the types (`perf-intel-hybrid` in the documentation of perf).
    """
    performance = 2 * performance_cores
    files = build(Shape(cores_per_l3=performance + efficiency_cores))
    for cpu in range(performance):
        directory = f"devices/system/cpu/cpu{cpu}/topology/"
        first = cpu - cpu % 2
        files[directory + "core_id"] = str(first)
        files[directory + "thread_siblings_list"] = files[directory + "core_cpus_list"] = f"{first}-{first + 1}"
        files[f"devices/system/cpu/cpu{cpu}/cache/index2/shared_cpu_list"] = f"{first}-{first + 1}"
    for place in range(efficiency_cores):
        first = performance + place - place % cores_per_l2
        last = min(first + cores_per_l2, performance + efficiency_cores) - 1
        cache = f"devices/system/cpu/cpu{performance + place}/cache/index2/"
        files[cache + "shared_cpu_list"] = str(CpuSet(range(first, last + 1)))
    return files | {
        "devices/cpu_core/cpus": str(CpuSet(range(performance))),
        "devices/cpu_atom/cpus": str(CpuSet(range(performance, performance + efficiency_cores))),
    }


def write_tree(files: Mapping[str, str], root: str | Path) -> None:
    """Write the files below `root`, as `EPA_SYSFS` expects them: `root/devices/system/cpu/online` and so on."""
    made: set[Path] = set()
    for name, text in files.items():
        path = Path(root, name)
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_text(text + "\n", encoding="utf-8")


def all_but_first_cores(shape: Shape, housekeeping: int) -> str:
    """The CPU list for `isolated` that leaves the first `housekeeping` cores of every node to the operating system."""
    isolated: list[int] = []
    for node in range(shape.cpu_nodes):
        cpus = shape.node_cpus(node)
        cores = len(cpus) // shape.threads_per_core
        isolated += (cpu for place, cpu in enumerate(cpus) if place % cores >= housekeeping)
    return str(CpuSet(isolated))


def _cores(shape: Shape) -> list[_Core]:
    """Every core, in the order in which first threads are numbered."""
    per_node = shape.l3_per_node * shape.cores_per_l3
    cores: list[_Core] = []
    for node in range(shape.cpu_nodes):
        package, node_in_package = divmod(node, shape.nodes_per_package)
        for core in range(per_node):
            l3 = package if shape.l3_scope == "package" else node * shape.l3_per_node + core // shape.cores_per_l3
            cores.append(_Core(package, node, l3, node_in_package * per_node + core))
    if shape.numbering == "interleaved":
        cores = [cores[node * per_node + core] for core in range(per_node) for node in range(shape.cpu_nodes)]
    return cores


def _cpu_id(shape: Shape, core: int, thread: int) -> int:
    if shape.siblings == "adjacent":
        return core * shape.threads_per_core + thread
    return thread * shape.cores + core


def _l3_ids(shape: Shape) -> list[int]:
    if shape.l3_scope == "package":
        return list(range(shape.packages))
    count = shape.nodes_per_package * shape.l3_per_node  # per package
    ids = list(range(count))
    if shape.l3_ids == "scattered":
        quarters = next(n for n in (4, 3, 2, 1) if count % n == 0)
        rows = count // quarters
        ids = [(number % rows) * quarters + number // rows for number in ids]
    return [package * count + number for package in range(shape.packages) for number in ids]


def _united(parts: Iterable[tuple[int, CpuSet]]) -> dict[int, CpuSet]:
    whole: dict[int, CpuSet] = {}
    for key, cpus in parts:
        whole[key] = whole.get(key, CpuSet()) | cpus
    return whole


def _topology(directory: str, core: _Core, threads: CpuSet, package: CpuSet) -> dict[str, str]:
    return {
        directory + "physical_package_id": str(core.package),
        directory + "die_id": "0",
        directory + "core_id": str(core.core_id),
        directory + "thread_siblings_list": str(threads),
        directory + "core_cpus_list": str(threads),
        directory + "core_siblings_list": str(package),
        directory + "package_cpus_list": str(package),
    }


def _cache(directory: str, level: int, size: str, cache_id: int, cpus: CpuSet) -> dict[str, str]:
    return {
        directory + "level": str(level),
        directory + "type": "Unified",
        directory + "size": size,
        directory + "id": str(cache_id),
        directory + "shared_cpu_list": str(cpus),
    }


def _node_files(shape: Shape, cpus: Mapping[int, CpuSet]) -> dict[str, str]:
    everything = str(CpuSet(range(shape.nodes)))
    files = {
        "devices/system/node/possible": everything,
        "devices/system/node/online": everything,
        "devices/system/node/has_cpu": str(CpuSet(node for node, in_node in cpus.items() if in_node)),
        "devices/system/node/has_memory": everything,
    }
    for node in range(shape.nodes):
        directory = f"devices/system/node/node{node}/"
        files[directory + "cpulist"] = str(cpus.get(node, CpuSet()))
        files[directory + "distance"] = " ".join(str(distance) for distance in _distances(shape, node))
        pages = shape.node_hugepages.get(node, shape.hugepages)
        files[directory + "meminfo"] = _meminfo(node, shape.memory_kb, pages or {})
        for size_kb, (total, free) in (pages or {}).items():
            size = f"{directory}hugepages/hugepages-{size_kb}kB/"
            files[size + "nr_hugepages"] = str(total)
            files[size + "free_hugepages"] = str(free)
            files[size + "surplus_hugepages"] = "0"
            files[f"kernel/mm/hugepages/hugepages-{size_kb}kB/resv_hugepages"] = str(shape.promised.get(size_kb, 0))
    return files


def _device_files(shape: Shape) -> dict[str, str]:
    files = {f"class/net/{name}/ifindex": str(index) for index, name in enumerate(shape.bridges, 2)}
    for device in shape.devices:
        files[f"bus/pci/devices/{device.address}/numa_node"] = str(device.node)
        if device.interface:
            files[f"class/net/{device.interface}/device/numa_node"] = str(device.node)
    return files


def _distances(shape: Shape, node: int) -> Sequence[int]:
    if shape.distances is not None:
        return shape.distances[node]
    row: list[int] = []
    for other in range(shape.nodes):
        if other == node:
            row.append(10)
        elif max(node, other) >= shape.cpu_nodes:
            row.append(17)
        else:
            row.append(12 if other // shape.nodes_per_package == node // shape.nodes_per_package else 32)
    return row


def _meminfo(node: int, memory_kb: int, pages: Hugepages) -> str:
    total, free = pages.get(2048, (0, 0))  # the kernel counts pages of the default size here, 2 MiB on x86 and ARM
    free_kb = max(memory_kb - sum(size_kb * count for size_kb, (count, _) in pages.items()), 0) * 9 // 10
    lines = [("MemTotal", memory_kb, " kB"), ("MemFree", free_kb, " kB")]
    lines += [("HugePages_Total", total, ""), ("HugePages_Free", free, ""), ("HugePages_Surp", 0, "")]
    return "\n".join(f"Node {node} {name + ':':<16}{number:>9}{unit}" for name, number, unit in lines)
