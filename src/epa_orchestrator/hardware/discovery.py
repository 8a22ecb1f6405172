# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Discovery: reads packages, NUMA nodes, L3 and L2 caches, cores and hugepage sizes from one sysfs root.

Where a kernel does not offer a file as a CPU list, the mask of the same name is read. Sources:
Documentation/ABI/testing/sysfs-devices-system-cpu, Documentation/ABI/stable/sysfs-devices-node and
Documentation/admin-guide/cputopology.rst of the Linux kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from epa_orchestrator.cpuset import EMPTY, MAX_CPU_ID, CpuSet, lowest
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.machine import Core, Machine, NumaNode, Package
from epa_orchestrator.hardware.sysfs import MOST_DIGITS, NODE_DIR, Sysfs, count_in, is_number

_CPU_DIR: Final = "devices/system/cpu"

_NUMBERED = re.compile(rf"[a-z]+([0-9]{{1,{MOST_DIGITS}}})", re.ASCII)
_MEM_TOTAL = re.compile(rf"MemTotal:\s+([0-9]{{1,{MOST_DIGITS}}}) kB")


class MachineError(EpaError):
    """The sysfs tree does not describe a machine."""


def read_isolation(sysfs: Sysfs) -> tuple[str | None, str | None]:
    """The texts of `online` and `isolated`, which are read for each request as only they change while a host runs."""
    return sysfs.read(f"{_CPU_DIR}/online"), sysfs.read(f"{_CPU_DIR}/isolated")


def read_machine(sysfs: Sysfs) -> Machine:
    """Discover the machine.

    Raises MachineError when the tree holds no CPUs, or when a file that decides which CPUs may be granted (`present`,
    `online`, `isolated`) cannot be read or does not hold a CPU list.
    """
    if not sysfs.names(_CPU_DIR):
        raise MachineError(
            f"sysfs shows no CPUs: {_CPU_DIR} is missing or cannot be listed; in a snap, connect its plugs"
        )
    present = _decisive(sysfs, "present")
    if present is None:
        present = CpuSet(_numbers(sysfs, _CPU_DIR, "cpu"))
    if not present:
        raise MachineError(f"sysfs shows no CPUs: neither {_CPU_DIR}/present nor {_CPU_DIR}/cpu0 is there")
    online = _decisive(sysfs, "online")
    if online is None:
        online = CpuSet(cpu for cpu in present if sysfs.read(f"{_CPU_DIR}/cpu{cpu}/online") != "0")
    if not online:
        raise MachineError(f"sysfs shows no online CPUs: {_CPU_DIR}/online is empty")
    siblings = tuple(_groups(online, lambda cpu: _siblings(sysfs, cpu)))
    return Machine(
        present=present,
        online=online,
        isolated=_decisive(sysfs, "isolated") or EMPTY,
        packages=_packages(sysfs, online, siblings),
        nodes=_nodes(sysfs, present),
        l3_domains=tuple(domain for domain in _groups(online, lambda cpu: _cache_domain(sysfs, cpu, 3)) if domain),
        cores=_cores(sysfs, siblings),
        l2_clusters=_l2_clusters(sysfs, online, siblings),
    )


def _decisive(sysfs: Sysfs, name: str) -> CpuSet | None:
    """The CPUs that one of the decisive files lists, None where it does not exist."""
    text = sysfs.read(f"{_CPU_DIR}/{name}")
    if text is None:
        if name in sysfs.names(_CPU_DIR):
            raise MachineError(f"sysfs {_CPU_DIR}/{name} is there but cannot be read; in a snap, connect its plugs")
        return None
    try:
        return CpuSet.parse(text)
    except ValueError as error:
        raise MachineError(f"sysfs {_CPU_DIR}/{name} is not a CPU list: {error}") from None


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
    """The n of the entries `<prefix><n>` in a directory, ascending; impossibly high ones are left out."""
    names = (name for name in sysfs.names(directory) if name.startswith(prefix))
    return sorted(n for name in names if (match := _NUMBERED.fullmatch(name)) and (n := int(match[1])) <= MAX_CPU_ID)


def _groups(cpus: CpuSet, group_of: Callable[[int], CpuSet]) -> Iterator[CpuSet]:
    """Split `cpus` into the groups that `group_of` gives; it is called for one CPU of each group only."""
    left = cpus.mask
    for cpu in cpus:
        if left >> cpu & 1:
            group = group_of(cpu).mask & left
            left &= ~(group | 1 << cpu)
            yield CpuSet.from_mask(group)


def _siblings(sysfs: Sysfs, cpu: int) -> CpuSet:
    topology = f"{_CPU_DIR}/cpu{cpu}/topology"
    siblings = _cpus(sysfs, f"{topology}/thread_siblings_list", f"{topology}/thread_siblings") or _cpus(
        sysfs, f"{topology}/core_cpus_list", f"{topology}/core_cpus"
    )
    return (siblings or EMPTY) | CpuSet((cpu,))


def _cache_domain(sysfs: Sysfs, cpu: int, level: int) -> CpuSet:
    """The CPUs that share the data cache of this level with this one, empty when the kernel knows of none."""
    cache = f"{_CPU_DIR}/cpu{cpu}/cache"
    usual = [f"{cache}/index{level}"]  # 0 and 1 are those of level 1; listing a directory takes longer than a look
    index = _data_cache(sysfs, usual, level) or _data_cache(
        sysfs, [f"{cache}/index{number}" for number in _numbers(sysfs, cache, "index")], level
    )
    if index is None:
        return EMPTY
    return _cpus(sysfs, f"{index}/shared_cpu_list", f"{index}/shared_cpu_map") or EMPTY


def _data_cache(sysfs: Sysfs, indexes: Iterable[str], level: int) -> str | None:
    """The first of these directories that describes a cache of this level for data."""
    of_level = (index for index in indexes if sysfs.read(f"{index}/level") == str(level))
    return next((index for index in of_level if sysfs.read(f"{index}/type") != "Instruction"), None)


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
        topology = f"{_CPU_DIR}/cpu{first}/topology"
        ids = [sysfs.read(f"{topology}/{name}_id") for name in _package_levels(sysfs, online)]
        if ids[-1] is None or not is_number(ids[-1]):
            return _packages_by_siblings(sysfs, online)
        key = tuple(int(text) if text and is_number(text) else -1 for text in ids)
        by_id[key] = by_id.get(key, 0) | core.mask
    return tuple(Package("/".join(map(str, key)), CpuSet.from_mask(mask)) for key, mask in sorted(by_id.items()))


def _package_levels(sysfs: Sysfs, online: CpuSet) -> tuple[str, ...]:
    """The kinds of id, outermost first, that together identify a package of this machine."""
    first = next(iter(online))
    has_books = sysfs.read(f"{_CPU_DIR}/cpu{first}/topology/book_id") is not None
    return ("drawer", "book", "physical_package") if has_books else ("physical_package",)


def _packages_by_siblings(sysfs: Sysfs, online: CpuSet) -> tuple[Package, ...]:
    def siblings(cpu: int) -> CpuSet:
        topology = f"{_CPU_DIR}/cpu{cpu}/topology"
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
    return tuple(int(word) for word in words) if all(map(is_number, words)) else ()


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
        if sysfs.read(f"{_CPU_DIR}/cpu{firsts[0]}/{file}") is None:
            continue
        speeds = {cpu: count_in(sysfs, f"{_CPU_DIR}/cpu{cpu}/{file}") for cpu in firsts}
        numerator, denominator = parts_of_highest
        least = max(speeds.values()) * numerator
        fast = CpuSet(cpu for cpu, speed in speeds.items() if speed * denominator >= least)
        if len(fast) < len(firsts):
            return fast
    return None
