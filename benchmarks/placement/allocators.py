# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The allocators that see the streams: the daemon's own under several policies, and those it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from benchmarks.placement import kubelet
from benchmarks.placement.hosts import Host
from epa_orchestrator.cpuset import CpuSet, lowest_bits
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import Unplaceable
from epa_orchestrator.placement.search import choose


class Allocator(Protocol):
    """Something that chooses CPUs.

    One that works `in_place` keeps all CPUs when a claim grows, and adds none when it shrinks. The others resize as if
    the claim were released and allocated again.
    """

    @property
    def name(self) -> str:
        """Its name in the tables."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether it resizes in place."""
        ...

    def place(self, host: Host, free: int, own: int, count: int) -> int | None:
        """The CPUs for a claim that holds `own`, None where a rule refuses; `free` and `own` hold `count` or more."""
        ...


@dataclass(frozen=True)
class Ours:
    """The daemon's placement under a policy."""

    policy: PlacementPolicy
    in_place: bool = True

    @property
    def name(self) -> str:
        """The options that are not at their default."""
        changed = " ".join(f"{name.replace('_', '-')}={_shown(value)}" for name, value in self.policy.changed().items())
        return changed or "default"

    def place(self, host: Host, free: int, own: int, count: int) -> int | None:
        """The answer of `choose`."""
        try:
            return choose(host.topology, CpuSet.from_mask(free), CpuSet.from_mask(own), count, self.policy).mask
        except Unplaceable:
            return None


@dataclass(frozen=True)
class LowestFirst:
    """The lowest free ids, the simplest method; a claim that shrinks gives up its highest ones."""

    name: str = "lowest id first"
    in_place: bool = True

    def place(self, host: Host, free: int, own: int, count: int) -> int | None:  # noqa: ARG002  (ignorance is its point)
        """Its own CPUs and the lowest free ones."""
        held = own.bit_count()
        return lowest_bits(own, count) if count <= held else own | lowest_bits(free, count - held)


@dataclass(frozen=True)
class Kubelet:
    """kubelet's static CPU manager policy with prefer-align-cpus-by-uncorecache."""

    name: str = "kubelet packed + uncore cache"
    in_place: bool = False

    def place(self, host: Host, free: int, own: int, count: int) -> int | None:
        """The packed assignment; kubelet's containers are not resized in place, so `own` is as good as free."""
        return kubelet.packed(host, free | own, count)


@dataclass(frozen=True)
class KubeletBestEffort:
    """The same with the Topology Manager's policy best-effort."""

    name: str = "the same + Topology Manager best-effort"
    in_place: bool = False

    def place(self, host: Host, free: int, own: int, count: int) -> int | None:
        """The packed assignment within the NUMA nodes of the best hint."""
        return kubelet.best_effort(host, free | own, count)


@dataclass(frozen=True)
class KubeletSingleNode:
    """The same with the Topology Manager's policy single-numa-node."""

    name: str = "kubelet, single-numa-node"
    in_place: bool = False

    def place(self, host: Host, free: int, own: int, count: int) -> int | None:
        """The packed assignment within one NUMA node, None where none has room."""
        return kubelet.single_numa_node(host, free | own, count)


DEFAULT: Final = Ours(PlacementPolicy())
COMPARED: Final[tuple[Allocator, ...]] = (LowestFirst(), Kubelet(), KubeletBestEffort())

#: Not among them: `isolate`, which withholds the siblings of what it grants and so needs another load.
POLICIES: Final[tuple[Ours, ...]] = (
    DEFAULT,
    Ours(PlacementPolicy(numa_policy="none")),
    Ours(PlacementPolicy(numa_policy="restricted")),
    Ours(PlacementPolicy(numa_allocation_strategy="spread")),
    Ours(PlacementPolicy(numa_allocation_strategy="distribute")),
    Ours(PlacementPolicy(prefer_closest_numa_nodes=False)),
    Ours(PlacementPolicy(uncore_cache_alignment="none")),
    Ours(PlacementPolicy(uncore_cache_alignment="require")),
    Ours(PlacementPolicy(cpu_thread_policy="share")),
    Ours(PlacementPolicy(cpu_thread_policy="require")),
    Ours(PlacementPolicy(cpu_distribution="cores")),
    Ours(PlacementPolicy(cpu_distribution="caches")),
    Ours(PlacementPolicy(prefer_core_type="performance")),
)
SINGLE_NODE: Final[tuple[Allocator, ...]] = (
    Ours(PlacementPolicy(numa_policy="single-numa-node")),
    Ours(PlacementPolicy(numa_policy="single-numa-node", numa_allocation_strategy="spread")),
    KubeletSingleNode(),
)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
