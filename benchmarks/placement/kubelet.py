# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""kubelet's CPU assignment, from its published description; for comparison only.

Sources: KEP-3570 (CPU Manager), KEP-4800 (prefer-align-cpus-by-uncorecache) and KEP-693 (Topology Manager) in
kubernetes/enhancements, and "Node Resource Managers" of the Kubernetes documentation. Where these say nothing we do
what is best for kubelet: sizes are those of each domain, not means over the machine; a partial L3 domain gives whole
cores first; and one that was passed over while whole ones were taken is tried again. L3 domains are numbered here
by their lowest CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from benchmarks.placement.hosts import Host
from epa_orchestrator.cpuset import iter_bits


def packed(host: Host, free: int, count: int) -> int:
    """The static policy's packed assignment of `count` of the free CPUs.

    Whole packages and NUMA nodes (the larger of the two first), whole L3 domains, whole cores, single CPUs, each as
    long as the request is as large; among equals the ones in the package and node with the fewest free CPUs, then the
    lowest id.
    """
    taking = _Taking(host, free, count)
    outer, inner = host.packages, host.nodes
    if _largest(inner) > _largest(outer):
        outer, inner = inner, outer
    taking.take_whole(outer)
    taking.take_whole(inner)
    taking.take_l3s()
    taking.take_whole(host.cores)
    taking.take_singles()
    return taking.taken


def best_effort(host: Host, free: int, count: int) -> int:
    """The packed assignment under the Topology Manager's policy best-effort."""
    return packed(host, free & _union(best_hint(host, free, count)), count)


def single_numa_node(host: Host, free: int, count: int) -> int | None:
    """The packed assignment under the policy single-numa-node, None where the pod is not admitted."""
    hint = best_hint(host, free, count)
    return packed(host, free & hint[0], count) if len(hint) == 1 else None


def best_hint(host: Host, free: int, count: int) -> tuple[int, ...]:
    """The NUMA nodes (masks of CPUs) of the hint that the Topology Manager settles on; `free` holds `count` or more.

    The CPU manager offers each set of nodes that has enough free CPUs, preferred where an empty machine would need no
    smaller one. It is the only provider here, so merging leaves its hints as they are: the narrowest one wins (and a
    preferred one is always the narrowest), among equals the one with the lowest node ids, as bit masks compare.
    """
    for size in range(1, len(host.nodes) + 1):
        sets = sorted(combinations(range(len(host.nodes)), size), key=lambda nodes: sum(1 << node for node in nodes))
        for nodes in sets:
            masks = tuple(host.nodes[node] for node in nodes)
            if (_union(masks) & free).bit_count() >= count:
                return masks
    raise ValueError(f"{count} CPUs are not free")


class _Taking:
    """An assignment under way."""

    def __init__(self, host: Host, free: int, count: int) -> None:
        self.taken = 0
        self._host = host
        self._free = free
        self._need = count

    def take_whole(self, domains: Sequence[int]) -> None:
        """Take every domain that is free as a whole, while the request is as large."""
        for domain in self._packed_order([domain for domain in domains if domain & ~self._free == 0]):
            if domain.bit_count() <= self._need:
                self._take(domain)

    def take_l3s(self) -> None:
        """Take L3 domains in the order of their ids: whole free ones, then a part of the first that has enough.

        KEP-4800 scans once, so the part comes from behind the last whole one.
        """
        for domain in self._host.l3s:
            if domain.bit_count() <= self._need:
                if domain & ~self._free == 0:
                    self._take(domain)
            else:
                self._take_part(domain)
        for domain in self._host.l3s:
            self._take_part(domain)

    def take_singles(self) -> None:
        """Take single CPUs of the cores that have the fewest free ones."""
        for core in self._packed_order([core for core in self._host.cores if core & self._free]):
            for cpu in iter_bits(core & self._free):
                if self._need:
                    self._take(1 << cpu)

    def _take_part(self, l3: int) -> None:
        free = l3 & self._free
        if 0 < self._need <= free.bit_count():
            cores = [core for core in self._host.cores if core & free]
            for core in [*(core for core in cores if core & ~free == 0), *cores]:
                if (core & self._free).bit_count() <= self._need:
                    self._take(core & self._free)
            for cpu in iter_bits(l3 & self._free):
                if self._need:
                    self._take(1 << cpu)

    def _packed_order(self, domains: list[int]) -> list[int]:
        """By the free CPUs of package, node and domain, fewest first, then by id."""
        free = self._free
        packages = [(package, (package & free).bit_count()) for package in self._host.packages]
        nodes = [(node, (node & free).bit_count()) for node in self._host.nodes]

        def key(domain: int) -> tuple[int, int, int, int]:
            around = next((count for package, count in packages if package & domain), 0)
            node = next((count for node, count in nodes if node & domain), 0)
            return around, node, (domain & free).bit_count(), domain & -domain

        return sorted(domains, key=key)

    def _take(self, cpus: int) -> None:
        self.taken |= cpus
        self._free &= ~cpus
        self._need -= cpus.bit_count()


def _largest(domains: Iterable[int]) -> int:
    return max(domain.bit_count() for domain in domains)


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
