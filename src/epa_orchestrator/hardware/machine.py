"""Machine: the host's packages, NUMA nodes, L3 domains, cores and threads, read from one sysfs root.

Every domain is a set of CPUs and nothing is derived from ids: real machines have gaps in them, interleave them over
nodes, and number L3 caches in an order of their own. Where a kernel does not offer a file as a list, the mask of the
same name is read. Sources: Documentation/ABI/testing/sysfs-devices-system-cpu, Documentation/ABI/stable/
sysfs-devices-node, Documentation/admin-guide/cputopology.rst and Documentation/admin-guide/mm/hugetlbpage.rst of the
Linux kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from epa_orchestrator.cpuset import EMPTY, MAX_CPU_ID, CpuSet, union
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.sysfs import Sysfs

CPU_DIR: Final = "devices/system/cpu"
NODE_DIR: Final = "devices/system/node"
_ALL_HUGEPAGES: Final = "kernel/mm/hugepages"

#: The distance that the kernel gives a node to itself, and what it assumes to others where firmware says nothing
#: (LOCAL_DISTANCE and REMOTE_DISTANCE in include/linux/topology.h).
LOCAL_DISTANCE: Final = 10
REMOTE_DISTANCE: Final = 20

CoreType = Literal["performance", "efficiency"]

#: By CPU id: the threads of its core, as a mask (see CpuSet).
Cores = Mapping[int, int]


class LastSeen(NamedTuple):
    """Where each CPU was last seen: the CPUs of NUMA nodes, and of cores with several threads.

    The kernel shows neither for an offline CPU, but its owner may release it by node, or have its core to itself.
    """

    nodes: Mapping[int, CpuSet] = MappingProxyType({})
    cores: Cores = MappingProxyType({})


#: The most digits of a number: the kernel's have 64 bits, and a damaged recording may hold anything.
_MOST_DIGITS: Final = 20
_NUMBERED = re.compile(rf"[a-z]+([0-9]{{1,{_MOST_DIGITS}}})", re.ASCII)
_HUGEPAGES = re.compile(rf"hugepages-([0-9]{{1,{_MOST_DIGITS}}})kB", re.ASCII)
_MEM_TOTAL = re.compile(rf"MemTotal:\s+([0-9]{{1,{_MOST_DIGITS}}}) kB")


class MachineError(EpaError):
    """The sysfs tree does not describe a machine."""


@dataclass(frozen=True)
class Package:
    """A physical package (socket): its name, and its online CPUs."""

    id: str
    cpus: CpuSet


@dataclass(frozen=True)
class NumaNode:
    """A NUMA node; `cpus` is empty for a node that has memory only.

    `distances` is the node's row as the kernel prints it; `Machine.distance` interprets it. `memory_kb` is None where
    the kernel does not say.
    """

    id: int
    cpus: CpuSet
    distances: tuple[int, ...] = ()
    memory_kb: int | None = None


@dataclass(frozen=True)
class Core:
    """A physical core: its online threads, and its type on a machine with cores of two types (else None)."""

    cpus: CpuSet
    type: CoreType | None = None


@dataclass(frozen=True)
class Hugepages:
    """The hugepages of one size (KiB) on one node, as the kernel counts them."""

    size_kb: int
    total: int
    free: int


@dataclass(frozen=True)
class Machine:
    """What discovery found.

    Packages, cores and L3 domains hold online CPUs; a node may list offline ones, as the kernel's own files may. A CPU
    can be in no L3 domain (the kernel knows of none), and in no node.
    """

    present: CpuSet
    online: CpuSet
    isolated: CpuSet
    packages: tuple[Package, ...]
    nodes: tuple[NumaNode, ...]
    l3_domains: tuple[CpuSet, ...]
    cores: tuple[Core, ...]

    @cached_property
    def node_ids(self) -> tuple[int, ...]:
        """The ids of all nodes, ascending."""
        return tuple(node.id for node in self.nodes)

    def node(self, node_id: int) -> NumaNode | None:
        """The node with this id, None when there is none."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def known_cores(self, before: Cores | None = None) -> dict[int, int]:
        """The threads of each core that has several, with the now offline ones that were in it `before`.

        The kernel shows no core for an offline CPU. What was known of a core is forgotten when its online threads are
        in several cores now, as after a restart on another machine.
        """
        online, offline = self.online.mask, ~self.online.mask
        present = {1 << cpu: core.cpus.mask for core in self.cores for cpu in core.cpus}
        # The lowest of the online threads stands for all; -1, a core of all CPUs, where none is online.
        before = {
            cpu: mask
            for cpu, mask in (before or {}).items()
            if not mask & online & ~present.get(mask & online & -(mask & online), -1)
        }
        cores = {cpu: mask & offline for cpu, mask in before.items() if cpu not in self.online}
        for core in self.cores:
            threads = core.cpus.mask | union(before.get(cpu, 0) for cpu in core.cpus) & offline
            for cpu in CpuSet.from_mask(threads):
                cores[cpu] = threads
        return {cpu: threads for cpu, threads in cores.items() if threads.bit_count() > 1}

    def distance(self, node_id: int, other_id: int) -> int:
        """The distance between two nodes, 10 meaning the same node.

        The kernel prints a node's row in the order of the online nodes; a row of another length is not understood
        and counts as the kernel's defaults.
        """
        ids = self.node_ids
        node = self.node(node_id)
        if node is not None and len(node.distances) == len(ids) and other_id in ids:
            return node.distances[ids.index(other_id)]
        return LOCAL_DISTANCE if node_id == other_id else REMOTE_DISTANCE


def read_isolation(sysfs: Sysfs) -> tuple[str | None, str | None]:
    """The texts of `online` and `isolated`: all that changes while a machine runs, read for each request."""
    return sysfs.read(f"{CPU_DIR}/online"), sysfs.read(f"{CPU_DIR}/isolated")


def read_machine(sysfs: Sysfs) -> Machine:
    """Discover the machine.

    Raises MachineError when the tree holds no CPUs, or when a file that decides who may be given which CPU
    (`present`, `online`, `isolated`) cannot be read or holds something else than a CPU list.
    """
    if not sysfs.names(CPU_DIR):
        raise MachineError(
            f"sysfs shows no CPUs: {CPU_DIR} is missing or cannot be listed; in a snap, connect its plugs"
        )
    present = _decisive(sysfs, "present")
    if present is None:
        present = CpuSet(_numbers(sysfs, CPU_DIR, "cpu"))
    if not present:
        raise MachineError(f"sysfs shows no CPUs: neither {CPU_DIR}/present nor {CPU_DIR}/cpu0 is there")
    online = _decisive(sysfs, "online")
    if online is None:
        online = CpuSet(cpu for cpu in present if sysfs.read(f"{CPU_DIR}/cpu{cpu}/online") != "0")
    if not online:
        raise MachineError(f"sysfs shows no online CPUs: {CPU_DIR}/online is empty")
    siblings = tuple(_groups(online, lambda cpu: _siblings(sysfs, cpu)))
    return Machine(
        present=present,
        online=online,
        isolated=_decisive(sysfs, "isolated") or EMPTY,
        packages=_packages(sysfs, online, siblings),
        nodes=_nodes(sysfs, present),
        l3_domains=tuple(domain for domain in _groups(online, lambda cpu: _l3_domain(sysfs, cpu)) if domain),
        cores=_cores(sysfs, siblings),
    )


def read_hugepages(sysfs: Sysfs, node_id: int) -> tuple[Hugepages, ...]:
    """The kernel's counts of hugepages on a node, by size, as they are now; () where it has none."""
    directory = f"{NODE_DIR}/node{node_id}/hugepages"
    names = sysfs.names(directory)
    if not names and _is_whole_machine(sysfs, node_id):
        directory = _ALL_HUGEPAGES
        names = sysfs.names(directory)
    sizes = sorted(int(match[1]) for match in map(_HUGEPAGES.fullmatch, names) if match)
    pages = (_hugepages_in(sysfs, directory, size) for size in sizes)
    return tuple(size for size in pages if size is not None)


def read_hugepages_of(sysfs: Sysfs, node_id: int, size_kb: int) -> Hugepages | None:
    """The kernel's counts for hugepages of one size (KiB) on a node as they are now, None where it has no such size."""
    found = _hugepages_in(sysfs, f"{NODE_DIR}/node{node_id}/hugepages", size_kb)
    if found is None and _is_whole_machine(sysfs, node_id):
        return _hugepages_in(sysfs, _ALL_HUGEPAGES, size_kb)
    return found


def _hugepages_in(sysfs: Sysfs, directory: str, size_kb: int) -> Hugepages | None:
    total = sysfs.read(f"{directory}/hugepages-{size_kb}kB/nr_hugepages")
    if total is None:
        return None
    return Hugepages(size_kb, _number(total), _count(sysfs, f"{directory}/hugepages-{size_kb}kB/free_hugepages"))


def _is_whole_machine(sysfs: Sysfs, node_id: int) -> bool:
    """Whether a node stands for the whole machine, as node 0 does on a kernel without node directories."""
    return node_id == 0 and sysfs.read(f"{NODE_DIR}/node0/cpulist") is None and not sysfs.names(f"{NODE_DIR}/node0")


def _decisive(sysfs: Sysfs, name: str) -> CpuSet | None:
    text = sysfs.read(f"{CPU_DIR}/{name}")
    if text is None:
        if name in sysfs.names(CPU_DIR):
            raise MachineError(f"sysfs {CPU_DIR}/{name} is there but cannot be read; in a snap, connect its plugs")
        return None
    try:
        return CpuSet.parse(text)
    except ValueError as error:
        raise MachineError(f"sysfs {CPU_DIR}/{name} is not a CPU list: {error}") from None


def _cpus(sysfs: Sysfs, list_path: str, mask_path: str) -> CpuSet | None:
    """A set of CPUs from its list file, or else from its mask file; None when neither can be read."""
    for path, parse in ((list_path, CpuSet.parse), (mask_path, CpuSet.parse_mask)):
        text = sysfs.read(path)
        if text:
            try:
                return parse(text)
            except ValueError:
                continue
    return None


def _numbers(sysfs: Sysfs, directory: str, prefix: str) -> list[int]:
    """The n of the entries `<prefix><n>` in a directory, ascending, without what no kernel numbers so high."""
    names = (name for name in sysfs.names(directory) if name.startswith(prefix))
    return sorted(n for name in names if (match := _NUMBERED.fullmatch(name)) and (n := int(match[1])) <= MAX_CPU_ID)


def _count(sysfs: Sysfs, path: str) -> int:
    return _number(sysfs.read(path))


def _number(text: str | None) -> int:
    return int(text) if text is not None and _is_number(text) else 0


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def _groups(cpus: CpuSet, group_of: Callable[[int], CpuSet]) -> Iterator[CpuSet]:
    """Split `cpus` into the groups that sysfs names, asking one CPU of each group only."""
    left = cpus.mask
    for cpu in cpus:
        if left >> cpu & 1:
            group = group_of(cpu).mask & left
            left &= ~(group | 1 << cpu)
            yield CpuSet.from_mask(group)


def _siblings(sysfs: Sysfs, cpu: int) -> CpuSet:
    topology = f"{CPU_DIR}/cpu{cpu}/topology"
    siblings = _cpus(sysfs, f"{topology}/thread_siblings_list", f"{topology}/thread_siblings") or _cpus(
        sysfs, f"{topology}/core_cpus_list", f"{topology}/core_cpus"
    )
    return (siblings or EMPTY) | CpuSet((cpu,))


def _l3_domain(sysfs: Sysfs, cpu: int) -> CpuSet:
    """The CPUs that share the L3 cache of this one, empty when the kernel knows of none."""
    cache = f"{CPU_DIR}/cpu{cpu}/cache"
    for index in _numbers(sysfs, cache, "index"):
        if sysfs.read(f"{cache}/index{index}/level") == "3":
            return (
                _cpus(sysfs, f"{cache}/index{index}/shared_cpu_list", f"{cache}/index{index}/shared_cpu_map") or EMPTY
            )
    return EMPTY


def _packages(sysfs: Sysfs, online: CpuSet, cores: tuple[CpuSet, ...]) -> tuple[Package, ...]:
    """By the ids of drawer, book (s390) and package; by `core_siblings` where the kernel has no ids."""
    by_id: dict[tuple[int, ...], int] = {}
    for core in cores:
        first = next(iter(core))
        topology = f"{CPU_DIR}/cpu{first}/topology"
        ids = [sysfs.read(f"{topology}/{name}_id") for name in _package_levels(sysfs, online)]
        if ids[-1] is None or not _is_number(ids[-1]):
            return _packages_by_siblings(sysfs, online)
        key = tuple(int(text) if text and _is_number(text) else -1 for text in ids)
        by_id[key] = by_id.get(key, 0) | core.mask
    return tuple(Package("/".join(map(str, key)), CpuSet.from_mask(mask)) for key, mask in sorted(by_id.items()))


def _package_levels(sysfs: Sysfs, online: CpuSet) -> tuple[str, ...]:
    """The kinds of id, outermost first, that tell this machine's packages apart."""
    first = next(iter(online))
    has_books = sysfs.read(f"{CPU_DIR}/cpu{first}/topology/book_id") is not None
    return ("drawer", "book", "physical_package") if has_books else ("physical_package",)


def _packages_by_siblings(sysfs: Sysfs, online: CpuSet) -> tuple[Package, ...]:
    def siblings(cpu: int) -> CpuSet:
        topology = f"{CPU_DIR}/cpu{cpu}/topology"
        named = _cpus(sysfs, f"{topology}/core_siblings_list", f"{topology}/core_siblings") or _cpus(
            sysfs, f"{topology}/package_cpus_list", f"{topology}/package_cpus"
        )
        return (named or EMPTY) | CpuSet((cpu,))

    return tuple(Package(str(index), cpus) for index, cpus in enumerate(_groups(online, siblings)))


def _nodes(sysfs: Sysfs, present: CpuSet) -> tuple[NumaNode, ...]:
    ids = _numbers(sysfs, NODE_DIR, "node")
    if not ids:
        return (NumaNode(0, present),)
    return tuple(
        NumaNode(
            id=node_id,
            cpus=_node_cpus(sysfs, node_id),
            distances=_distances(sysfs.read(f"{NODE_DIR}/node{node_id}/distance")),
            memory_kb=_memory_kb(sysfs.read(f"{NODE_DIR}/node{node_id}/meminfo")),
        )
        for node_id in ids
    )


def _node_cpus(sysfs: Sysfs, node_id: int) -> CpuSet:
    """The node's CPUs by list, mask, or the links in its directory, which offline CPUs keep."""
    node = f"{NODE_DIR}/node{node_id}"
    cpus = _cpus(sysfs, f"{node}/cpulist", f"{node}/cpumap")
    return CpuSet(_numbers(sysfs, node, "cpu")) if cpus is None else cpus


def _distances(text: str | None) -> tuple[int, ...]:
    words = (text or "").split()
    return tuple(int(word) for word in words) if all(map(_is_number, words)) else ()


def _memory_kb(meminfo: str | None) -> int | None:
    match = _MEM_TOTAL.search(meminfo or "")
    return int(match[1]) if match else None


def _cores(sysfs: Sysfs, siblings: tuple[CpuSet, ...]) -> tuple[Core, ...]:
    performance = _performance_cpus(sysfs, tuple(next(iter(core)) for core in siblings))
    if performance is None:
        return tuple(Core(cpus) for cpus in siblings)
    return tuple(Core(cpus, "performance" if cpus & performance else "efficiency") for cpus in siblings)


def _performance_cpus(sysfs: Sysfs, firsts: tuple[int, ...]) -> CpuSet | None:
    """The CPUs of the fast kind of core, None when all cores are of one kind; `firsts` has one CPU of each core.

    Intel's hybrid parts name them (the PMUs cpu_core and cpu_atom). Arm's firmware gives relative capacities: at
    least half of the highest counts as fast. Elsewhere the maximum frequency decides, with less than four fifths of
    the highest being slow: favoured cores of one kind differ by less, compact cores by more.
    """
    if sysfs.read("devices/cpu_atom/cpus"):
        return _cpus(sysfs, "devices/cpu_core/cpus", "") or EMPTY
    for file, parts_of_highest in (("cpu_capacity", (1, 2)), ("cpufreq/cpuinfo_max_freq", (4, 5))):
        if sysfs.read(f"{CPU_DIR}/cpu{firsts[0]}/{file}") is None:
            continue
        speeds = {cpu: _count(sysfs, f"{CPU_DIR}/cpu{cpu}/{file}") for cpu in firsts}
        numerator, denominator = parts_of_highest
        least = max(speeds.values()) * numerator
        fast = CpuSet(cpu for cpu, speed in speeds.items() if speed * denominator >= least)
        if len(fast) < len(firsts):
            return fast
    return None
