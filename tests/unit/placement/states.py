# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Small machines of every kind, and random requests on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Core, CoreType, Machine
from epa_orchestrator.placement.policy import (
    CpuDistribution,
    CpuThreadPolicy,
    NumaAllocationStrategy,
    NumaPolicy,
    PlacementPolicy,
    PreferCoreType,
    UncoreCacheAlignment,
)
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import build_topology
from tests import oracle
from tests.machines import KUNPENG_DISTANCES, made_up, with_cores, with_l2_clusters, with_packages
from tools.synthetic import Shape


def _hybrid() -> Machine:
    """Two cores of two threads, then eight of one, in two L3 domains: 0-1 2-3 4 5, and 6 to 11."""
    machine = made_up(Shape(1, 1, 2, 6, 1))
    cores = [Core(CpuSet.parse(text), "performance") for text in ("0-1", "2-3")]
    return replace(machine, cores=(*cores, *(Core(CpuSet([cpu]), "efficiency") for cpu in range(4, 12))))


def _typed(machine: Machine) -> Machine:
    """Every third core is an efficient one."""
    types: tuple[CoreType, CoreType] = ("performance", "efficiency")
    return replace(machine, cores=tuple(replace(core, type=types[n % 3 == 2]) for n, core in enumerate(machine.cores)))


def _first_l3_only(machine: Machine) -> Machine:
    return replace(machine, l3_domains=machine.l3_domains[:1])


def _first_node_only(machine: Machine) -> Machine:
    return replace(machine, nodes=machine.nodes[:1])


def _first_threads_in_l3(machine: Machine) -> Machine:
    """The kernel shows an L3 for the first thread of each core only."""
    first = CpuSet(min(core.cpus) for core in machine.cores)
    return replace(machine, l3_domains=tuple(domain & first for domain in machine.l3_domains))


#: Cores with threads in two NUMA nodes.
CROSSED = (
    with_cores(made_up(Shape(1, 2, 1, 4, l3_scope="package")), [*(f"{n},{n + 4}" for n in range(4))]),
    with_cores(made_up(Shape(2, 1, 1, 6)), ["0,6", "1,7", "2,8", "3", "4-5", "9", "10-11"]),
    with_cores(made_up(Shape(1, 3, 1, 4, distances=((10, 12, 20), (12, 10, 30), (20, 30, 10)))),
               ["0-1", "2-3", "4-5", "6,8", "7,9", "10-11"]),
    with_cores(made_up(Shape(1, 4, 1, 3, l3_scope="none")), [*(f"{n},{n + 6}" for n in range(6))]),
)  # fmt: skip

#: Cores that share an L2: pairs of cores, modules of a hybrid machine, clusters of Arm's in nodes without an L3.
CLUSTERED = (
    with_l2_clusters(made_up(Shape(1, 1, 2, 3, 2)), ["0-1,6-7", "3-4,9-10"]),
    with_l2_clusters(made_up(Shape(1, 1, 1, 12)), ["0-3", "4-7", "8-11"]),
    with_l2_clusters(made_up(Shape(2, 1, 1, 6, l3_scope="none")), ["0-2", "3-5", "6-7", "8-9", "10-11"]),
    with_l2_clusters(_hybrid(), ["4-7", "8-11"]),
    with_l2_clusters(made_up(Shape(1, 2, 1, 3, 2, l3_scope="package")), ["0-1,6-7", "3-4,9-10"]),
    # An L2 across L3 domains.
    with_l2_clusters(made_up(Shape(1, 1, 4, 3)), ["0-5", "6-11"]),
)

ONE_WAY = ((10, 30, 20), (20, 10, 40), (25, 15, 10))

SMALL = (
    made_up(Shape(1, 1, 2, 2, 2)),
    made_up(Shape(2, 1, 1, 3, 2)),
    made_up(Shape(2, 2, 1, 1, 2)),
    made_up(Shape(1, 2, 2, 1, 2)),
    made_up(Shape(1, 1, 3, 4)),
    made_up(Shape(2, 1, 3, 2)),
    made_up(Shape(3, 1, 2, 2)),
    made_up(Shape(1, 1, 3, 2, 2, siblings="adjacent", l3_ids="scattered")),
    made_up(Shape(1, 1, 1, 3, 4)),
    made_up(Shape(1, 1, 3, 1, 4)),
    made_up(Shape(3, 1, 1, 1, 4, siblings="adjacent")),
    made_up(Shape(1, 3, 2, 1, 2)),
    # Sub-NUMA clustering: several nodes below an L3 domain.
    made_up(Shape(1, 2, 1, 3, 2, l3_scope="package")),
    made_up(Shape(1, 3, 1, 2, 2, l3_scope="package")),
    made_up(Shape(2, 2, 1, 3, l3_scope="package", distances=KUNPENG_DISTANCES)),
    _typed(made_up(Shape(2, 2, 1, 3, l3_scope="package", numbering="interleaved"))),
    # No L3 domains, or only one that the kernel knows; a node that lists no CPUs.
    made_up(Shape(2, 1, 1, 3, 2, l3_scope="none")),
    made_up(Shape(1, 3, 1, 4, l3_scope="none")),
    _first_l3_only(made_up(Shape(1, 1, 2, 3, 2))),
    _first_node_only(made_up(Shape(2, 1, 1, 3, 2))),
    # Threads that are offline, and memory without CPUs.
    made_up(Shape(1, 1, 2, 3, 2, offline="7,9-10")),
    made_up(Shape(1, 2, 1, 2, 3, offline="5,8,11")),
    made_up(Shape(2, 1, 1, 2, 2, memory_only_nodes=1)),
    _hybrid(),
    _typed(made_up(Shape(1, 1, 2, 3, 2))),
    _typed(made_up(Shape(1, 2, 1, 3, 2))),
    # Distances.
    made_up(Shape(3, 1, 1, 2, 2, distances=((10, 30, 20), (30, 10, 30), (20, 30, 10)))),
    made_up(Shape(2, 2, 1, 3, distances=KUNPENG_DISTANCES)),
    made_up(Shape(3, 1, 2, 1, 2, distances=ONE_WAY)),
    # Nodes that span packages, as virtual machines have them.
    with_packages(made_up(Shape(1, 2, 4, 1)), [*(f"{first}-{first + 1}" for first in (0, 2, 4, 6))]),
    with_packages(made_up(Shape(1, 1, 3, 2, 2)), ["0-1,6-7", "2-3,8-9", "4-5,10-11"]),
    with_packages(made_up(Shape(1, 2, 1, 2, 2, l3_scope="none")), ["0,4", "1,5", "2,6", "3,7"]),
    # A package for each core: of single CPUs, of hybrid pairs, of nodes.
    with_packages(made_up(Shape(1, 1, 1, 12)), [*map(str, range(12))]),
    with_packages(made_up(Shape(1, 1, 3, 2, 2)), [*(f"{n},{n + 6}" for n in range(6))]),
    with_packages(made_up(Shape(1, 1, 3, 4, l3_scope="none")), [*map(str, range(12))]),
    made_up(Shape(6, 1, 1, 1, 2)),
    made_up(Shape(12, 1, 1, 1)),
    made_up(Shape(3, 2, 1, 2)),
    made_up(Shape(3, 4, 1, 1)),
    # An L3 domain that spans packages, as a hypervisor may report, and one that spans nodes of two of them.
    with_packages(made_up(Shape(1, 1, 2, 3, 2)), ["0-1,6-7", "2-5,8-11"]),
    with_packages(made_up(Shape(1, 2, 1, 3, 2, l3_scope="package")), ["0-2,6-8", "3-5,9-11"]),
    with_packages(made_up(Shape(1, 3, 1, 2, 2, l3_scope="package")), ["0-2,6-8", "3-5,9-11"]),
    _first_threads_in_l3(made_up(Shape(1, 1, 3, 2, 2))),
    _first_threads_in_l3(made_up(Shape(1, 2, 1, 2, 3))),
    *CROSSED,
    *CLUSTERED,
)

CHOICES: dict[str, tuple[object, ...]] = {
    "numa_policy": get_args(NumaPolicy),
    "numa_allocation_strategy": get_args(NumaAllocationStrategy),
    "prefer_closest_numa_nodes": (True, False),
    "uncore_cache_alignment": get_args(UncoreCacheAlignment),
    "cpu_thread_policy": get_args(CpuThreadPolicy),
    "cpu_distribution": get_args(CpuDistribution),
    "prefer_core_type": get_args(PreferCoreType),
}


def random_policy(rng: random.Random, near: Sequence[int] = ()) -> PlacementPolicy:
    while True:
        values: Any = {name: rng.choice(values) for name, values in CHOICES.items()}
        policy = PlacementPolicy(**values, near=rng.choice(near) if near else None)
        if policy.contradiction() is None:
            return policy


@dataclass(frozen=True)
class State:
    """A random request and the CPUs of others on a small machine, for the program and for the oracle."""

    machine: Machine
    eligible: CpuSet
    reserved: CpuSet
    free: CpuSet
    own: CpuSet
    last_resort: CpuSet
    count: int
    policy: PlacementPolicy
    node: int | None
    around: CpuSet

    def task(self) -> Task:
        topology = build_topology(self.machine, self.eligible, self.reserved)
        asked = self.free, self.own, self.count, self.policy, self.last_resort, self.node
        return Task(topology, *asked, around=self.around)

    def question(self) -> oracle.Question:
        where = oracle.world(self.machine, frozenset(self.eligible), frozenset(self.reserved))
        free, own, last, around = map(frozenset, (self.free, self.own, self.last_resort, self.around))
        return oracle.Question(where, free, own, self.count, self.policy, last, self.node, around)


def random_state(rng: random.Random, *, taking: bool) -> State:
    """A state in which there is something to choose; `taking`: some CPUs of other services may be taken."""
    while True:
        machine = rng.choice(SMALL)
        online = list(machine.online)
        away = CpuSet(rng.sample(online, rng.choice((0, 0, 0, 1, 2, 3))))
        eligible, reserved = machine.online - away, CpuSet(cpu for cpu in away if rng.random() < 0.5)
        own, other = holdings(rng, machine, eligible)
        free = eligible - own - other
        node, last_resort, around = None, EMPTY, EMPTY
        if rng.random() < (0.6 if taking else 0.2):
            nodes = [each.id for each in machine.nodes if each.cpus & eligible]
            node = rng.choice(nodes)
            inside = machine.nodes[machine.node_ids.index(node)].cpus
            last_resort = CpuSet(cpu for cpu in other & inside if taking and rng.random() < 0.5)
            around = (free | own) - inside
            free, own = free & inside | last_resort, own & inside
        near = machine.node_ids if rng.random() < 0.2 else ()
        if not free | own:
            continue
        count = rng.randint(1, len(free) + len(own))
        if count != len(own):
            if count < len(own):
                free, last_resort = free - last_resort, EMPTY
            policy = random_policy(rng, near)
            return State(machine, eligible, reserved, free, own, last_resort, count, policy, node, around)


def holdings(rng: random.Random, machine: Machine, eligible: CpuSet) -> tuple[CpuSet, CpuSet]:
    """The CPUs of the service and of the others: any CPUs, or whole cores, or one thread of each core."""
    cores = [core.cpus & eligible for core in machine.cores if core.cpus & eligible]
    kind = rng.choice(("any", "any", "whole", "one"))
    if kind == "any":
        units = [CpuSet([cpu]) for cpu in eligible]
    elif kind == "whole":
        units = cores
    else:
        units = [CpuSet(list(core)[:1]) for core in cores]
    rng.shuffle(units)
    taken = units[: rng.randrange(len(units))] if rng.random() < 0.8 else []
    mine = rng.randint(0, len(taken)) if rng.random() < 0.6 else 0
    own = CpuSet(cpu for unit in taken[:mine] for cpu in unit)
    return own, CpuSet(cpu for unit in taken[mine:] for cpu in unit)
