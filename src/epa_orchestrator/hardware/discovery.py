# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Discovery: reads packages, NUMA nodes, L3 and L2 caches, cores and hugepage sizes from one sysfs root.

Where a kernel does not offer a file as a CPU list, the mask of the same name is read. Sources:
Documentation/ABI/testing/sysfs-devices-system-cpu, Documentation/ABI/stable/sysfs-devices-node and
Documentation/admin-guide/cputopology.rst of the Linux kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from epa_orchestrator.cpuset import EMPTY, CpuSet, lowest
from epa_orchestrator.hardware.cpu_files import CPU_DIR, MachineError, numbers, read_cpus, read_decisive, read_topology
from epa_orchestrator.hardware.isolated_cpus import read_isolated
from epa_orchestrator.hardware.machine import Core, Machine, Package
from epa_orchestrator.hardware.nodes import read_nodes
from epa_orchestrator.hardware.sysfs import Sysfs, count_in, is_number
from epa_orchestrator.names import IsolatedCpusFrom


def read_machine(sysfs: Sysfs, isolated_from: IsolatedCpusFrom = "isolcpus") -> Machine:
    """Discover the machine, whose isolated CPUs are those that `isolated_from` has.

    Raises MachineError when the tree holds no CPUs, when a file that decides which CPUs may be granted (`present`,
    `online`, the one of the isolated CPUs, the nodes' lists) cannot be read or does not hold a CPU list, or when a list
    is cut short.
    """
    present = read_decisive(sysfs, f"{CPU_DIR}/present")
    online = read_decisive(sysfs, f"{CPU_DIR}/online")
    if not present:
        present = _present(sysfs, online)
    if online is None:
        online = CpuSet(cpu for cpu in present if sysfs.read(f"{CPU_DIR}/cpu{cpu}/online") != "0")
    if not online:
        raise MachineError(f"sysfs shows no online CPUs: {CPU_DIR}/online is empty")
    siblings = tuple(_groups(online, lambda cpu: _siblings(sysfs, cpu)))
    return Machine(
        present=present,
        online=online,
        isolated=read_isolated(sysfs, isolated_from),
        packages=_packages(sysfs, online, siblings),
        nodes=read_nodes(sysfs, present, online),
        l3_domains=tuple(domain for domain in _groups(online, lambda cpu: _cache_domain(sysfs, cpu, 3)) if domain),
        cores=_cores(sysfs, siblings),
        l2_clusters=_l2_clusters(sysfs, online, siblings),
    )


def _present(sysfs: Sysfs, online: CpuSet | None) -> CpuSet:
    """The present CPUs where the kernel has no list of them: those with a directory, or else the online ones."""
    names = sysfs.names(CPU_DIR)
    if names is None and online is not None:
        return online
    if not names:
        raise MachineError(
            f"sysfs shows no CPUs: {CPU_DIR} is missing or cannot be listed; in a snap, connect its plugs"
        )
    present = CpuSet(numbers(names, "cpu"))
    if not present:
        raise MachineError(f"sysfs shows no CPUs: neither {CPU_DIR}/present nor {CPU_DIR}/cpu0 is there")
    return present


def _groups(cpus: CpuSet, group_of: Callable[[int], CpuSet]) -> Iterator[CpuSet]:
    """Split `cpus` into the groups that `group_of` gives; it is called for one CPU of each group only."""
    left = cpus.mask
    for cpu in cpus:
        if left >> cpu & 1:
            group = group_of(cpu).mask & left
            left &= ~(group | 1 << cpu)
            yield CpuSet.from_mask(group)


def _siblings(sysfs: Sysfs, cpu: int) -> CpuSet:
    topology = f"{CPU_DIR}/cpu{cpu}/topology"
    siblings = read_topology(sysfs, f"{topology}/thread_siblings_list", f"{topology}/thread_siblings") or read_topology(
        sysfs, f"{topology}/core_cpus_list", f"{topology}/core_cpus"
    )
    return (siblings or EMPTY) | CpuSet((cpu,))


def _cache_domain(sysfs: Sysfs, cpu: int, level: int) -> CpuSet:
    """The CPUs that share the data cache of this level with this one, empty when the kernel knows of none."""
    caches = f"{CPU_DIR}/cpu{cpu}/cache"
    # Indexes 0 and 1 are usually those of level 1. To list a directory takes longer than to look there first.
    cache = _data_cache(sysfs, [f"{caches}/index{level}"], level) or _data_cache(
        sysfs, [f"{caches}/index{number}" for number in numbers(sysfs.names(caches) or (), "index")], level
    )
    if cache is None:
        return EMPTY
    return read_topology(sysfs, f"{cache}/shared_cpu_list", f"{cache}/shared_cpu_map") or EMPTY


def _data_cache(sysfs: Sysfs, caches: Iterable[str], level: int) -> str | None:
    """The first of these directories that describes a cache of this level for data."""
    of_level = (cache for cache in caches if sysfs.read(f"{cache}/level") == str(level))
    return next((cache for cache in of_level if sysfs.read(f"{cache}/type") != "Instruction"), None)


def _l2_clusters(sysfs: Sysfs, online: CpuSet, cores: tuple[CpuSet, ...]) -> tuple[CpuSet, ...]:
    """The L2 caches that several cores share."""
    core_of = {cpu: core for core in cores for cpu in core}
    domains = _groups(online, lambda cpu: _cache_domain(sysfs, cpu, 2))
    return tuple(domain for domain in domains if domain and domain - core_of[lowest(domain.mask)])


def _packages(sysfs: Sysfs, online: CpuSet, cores: tuple[CpuSet, ...]) -> tuple[Package, ...]:
    """By the ids of drawer, book (s390) and package; by `core_siblings` where the kernel has no ids."""
    by_id: dict[tuple[int, ...], int] = {}
    for core in cores:
        first = next(iter(core))
        topology = f"{CPU_DIR}/cpu{first}/topology"
        ids = [sysfs.read(f"{topology}/{name}_id") for name in _package_levels(sysfs, online)]
        if ids[-1] is None or not is_number(ids[-1]):
            return _packages_by_siblings(sysfs, online)
        key = tuple(int(text) if text and is_number(text) else -1 for text in ids)
        by_id[key] = by_id.get(key, 0) | core.mask
    return tuple(Package("/".join(map(str, key)), CpuSet.from_mask(mask)) for key, mask in sorted(by_id.items()))


def _package_levels(sysfs: Sysfs, online: CpuSet) -> tuple[str, ...]:
    """The kinds of id, outermost first, that together identify a package of this machine."""
    first = next(iter(online))
    has_books = sysfs.read(f"{CPU_DIR}/cpu{first}/topology/book_id") is not None
    return ("drawer", "book", "physical_package") if has_books else ("physical_package",)


def _packages_by_siblings(sysfs: Sysfs, online: CpuSet) -> tuple[Package, ...]:
    def siblings(cpu: int) -> CpuSet:
        topology = f"{CPU_DIR}/cpu{cpu}/topology"
        named = read_topology(sysfs, f"{topology}/core_siblings_list", f"{topology}/core_siblings") or read_topology(
            sysfs, f"{topology}/package_cpus_list", f"{topology}/package_cpus"
        )
        return (named or EMPTY) | CpuSet((cpu,))

    return tuple(Package(str(index), cpus) for index, cpus in enumerate(_groups(online, siblings)))


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
    if read_cpus(sysfs, "devices/cpu_atom/cpus", ""):
        return read_cpus(sysfs, "devices/cpu_core/cpus", "") or EMPTY
    for file, parts_of_highest in (("cpu_capacity", (1, 2)), ("cpufreq/cpuinfo_max_freq", (4, 5))):
        if sysfs.read(f"{CPU_DIR}/cpu{firsts[0]}/{file}") is None:
            continue
        speeds = {cpu: count_in(sysfs, f"{CPU_DIR}/cpu{cpu}/{file}") for cpu in firsts}
        numerator, denominator = parts_of_highest
        least = max(speeds.values()) * numerator
        fast = CpuSet(cpu for cpu, speed in speeds.items() if speed * denominator >= least)
        if len(fast) < len(firsts):
            return fast
    return None
