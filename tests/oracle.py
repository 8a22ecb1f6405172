# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The promises of placement, a second time: plainly and slowly, over sets of ints, by trying every set of CPUs.

It shares only the policy and the machine with the program. The words are those of the operator's documentation and of
`Cost`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.placement.policy import PlacementPolicy

Cpus = frozenset[int]
NOTHING: Cpus = frozenset()


@dataclass(eq=False)
class World:
    """Where each CPU of a pool is: names of its package, NUMA node and L3 domain, and the threads of its core."""

    machine: Machine
    package: dict[int, int]
    node: dict[int, int]
    l3: dict[int, Hashable]
    core: dict[int, Cpus]
    core_type: dict[int, str | None]
    known_minimum: dict[tuple[int, str, int | None, bool], tuple[int, int] | None] = field(
        default_factory=dict[tuple[int, str, int | None, bool], tuple[int, int] | None]
    )

    @cached_property
    def has_nodeless_cpus(self) -> bool:
        return -1 in self.node.values()


def world(machine: Machine, eligible: Cpus, reserved: Cpus = NOTHING) -> World:
    package = {cpu: next((n for n, p in enumerate(machine.packages) if cpu in p.cpus), 0) for cpu in eligible}
    node = {cpu: next((each.id for each in machine.nodes if cpu in each.cpus), -1) for cpu in eligible}
    l3s = {cpu: [n for n, domain in enumerate(machine.l3_domains) if cpu in domain] for cpu in eligible}
    cores = {cpu: next(core for core in machine.cores if cpu in core.cpus) for cpu in eligible}
    return World(
        machine,
        package,
        node,
        {cpu: l3s[cpu][0] if l3s[cpu] else (package[cpu], node[cpu]) for cpu in eligible},
        {cpu: frozenset(core.cpus) & (eligible | reserved) for cpu, core in cores.items()},
        {cpu: core.type for cpu, core in cores.items()},
    )


@dataclass(frozen=True, eq=False)
class Question:
    """A request to placement."""

    world: World
    free: Cpus
    own: Cpus
    count: int
    policy: PlacementPolicy
    last_resort: Cpus = NOTHING
    node: int | None = None

    @property
    def shrinking(self) -> bool:
        return self.count < len(self.own)

    def choices(self) -> Iterator[Cpus]:
        """Every set of CPUs that includes the kept ones."""
        if self.shrinking:
            yield from map(frozenset, combinations(sorted(self.own), self.count))
        else:
            for extra in combinations(sorted(self.free), self.count - len(self.own)):
                yield self.own.union(extra)

    def answer(self) -> tuple[int, ...] | None:
        """The rank of the best choice that breaks no rule, None where all break one."""
        return min((rank(self, chosen) for chosen in self.choices() if broken(self, chosen) is None), default=None)


def others(asked: Question, chosen: Cpus, core: Cpus) -> Cpus:
    """The threads of a core that another service has, or that are reserved."""
    return core - (asked.free - asked.last_resort) - asked.own - chosen


def cost(asked: Question, chosen: Cpus) -> dict[str, int]:
    """The cost vector by level. A claim that shrinks counts as a new one, chosen among its own CPUs."""
    where, policy = asked.world, asked.policy
    own = NOTHING if asked.shrinking else asked.own
    left = (asked.free | asked.own) - chosen
    nodes = Counter(where.node[cpu] for cpu in chosen)
    l3s = Counter(where.l3[cpu] for cpu in chosen)
    cores = {where.core[cpu] for cpu in chosen}
    unshared = [core for core in cores if not others(asked, chosen, core)]
    distance = where.machine.distance
    return {
        "packages": len({where.package[cpu] for cpu in chosen}),
        "numa_nodes": len(nodes),
        "nodeless_cpus": nodes[-1],
        "reclaimed_cpus": len(chosen & asked.last_resort - own),
        "near_distance": 0 if policy.near is None else sum(distance(policy.near, where.node[cpu]) for cpu in chosen),
        "node_distance": sum(distance(a, b) for a in nodes for b in nodes if a < b),
        "numa_balance": sum(count**2 for count in nodes.values()),
        "other_type_cpus": len(chosen & _of_other_type(asked)),
        "shared_cores": len(cores) - len(unshared),
        "fresh_cores": sum(not core & own for core in unshared),
        "stacked_cpus": len(chosen) - len(cores),
        "split_cores": sum(not core <= chosen for core in unshared),
        "l3_domains": len(l3s),
        "l3_balance": sum(count**2 for count in l3s.values()),
        "l3_left_over": sum(where.l3[cpu] in l3s for cpu in left),
        "scope_left_over": sum(where.node[cpu] in nodes for cpu in left),
        "lowest_cpu": min(chosen),
    }


def _of_other_type(asked: Question) -> Cpus:
    wanted = asked.policy.prefer_core_type
    types = {core.type for core in asked.world.machine.cores}
    if wanted == "none" or wanted not in types:
        return NOTHING
    return frozenset(cpu for cpu, kind in asked.world.core_type.items() if kind not in (wanted, None))


def order(policy: PlacementPolicy, *, shrinking: bool) -> list[str]:
    """The components that are compared, most important first; "-" before one of which more is better."""
    numa = policy.numa_policy != "none"
    even_nodes = policy.numa_allocation_strategy == "distribute"
    even_l3s = policy.cpu_distribution == "caches"
    alignment, threads = policy.uncore_cache_alignment, policy.cpu_thread_policy
    closest, near = policy.prefer_closest_numa_nodes, policy.near is not None
    cores: list[str] = []
    if threads not in ("require", "isolate"):
        cores.append("fresh_cores" if threads == "share" else "shared_cores")
        if policy.cpu_distribution == "cores":
            cores.append("stacked_cpus")
        elif threads == "prefer":
            cores.append("split_cores")
    if shrinking:
        rows = [
            (numa, "nodeless_cpus"),
            (alignment == "require", "l3_domains"),
            (closest, "packages"),
            (near, "near_distance"),
            (numa, "numa_balance" if even_nodes else "-numa_balance"),
            (policy.prefer_core_type != "none", "other_type_cpus"),
            (alignment != "none" or even_l3s, "l3_balance" if even_l3s else "-l3_balance"),
            *((True, name) for name in cores),
        ]
    else:
        more = "-" if policy.numa_allocation_strategy == "spread" else ""
        rows = [
            (numa, "numa_nodes"),
            (numa, "nodeless_cpus"),
            (alignment == "require", "l3_domains"),
            (closest, "packages"),
            (True, "reclaimed_cpus"),
            (near, "near_distance"),
            (numa and closest, "node_distance"),
            (numa and even_nodes, "numa_balance"),
            (policy.prefer_core_type != "none", "other_type_cpus"),
            *((True, name) for name in cores),
            (even_l3s, "l3_balance"),
            (alignment == "prefer" and not even_l3s, "l3_domains"),
            (alignment != "none", more + "l3_left_over"),
            (numa, more + "scope_left_over"),
        ]
    return [*(name for counts, name in rows if counts), "lowest_cpu"]


def rank(asked: Question, chosen: Cpus) -> tuple[int, ...]:
    vector = cost(asked, chosen)
    names = order(asked.policy, shrinking=asked.shrinking)
    if not asked.world.has_nodeless_cpus:
        names = [name for name in names if name != "nodeless_cpus"]
    return tuple(-vector[name[1:]] if name.startswith("-") else vector[name] for name in names)


def broken(asked: Question, chosen: Cpus) -> str | None:
    """The first option whose rule a choice breaks: of the threads, the nodes, the L3 domains."""
    where, policy = asked.world, asked.policy
    cores = {where.core[cpu] for cpu in chosen}
    if policy.cpu_thread_policy == "require" and not all(core <= chosen for core in cores):
        return "cpu-thread-policy"
    if policy.cpu_thread_policy == "isolate" and any(
        len(core & chosen) > 1 or others(asked, chosen, core) for core in cores
    ):
        return "cpu-thread-policy"
    if asked.node is None and policy.numa_policy in ("single-numa-node", "restricted"):
        nodes = {where.node[cpu] for cpu in chosen}
        if len(nodes) > 1 and (policy.numa_policy == "single-numa-node" or -1 in nodes):
            return "numa-policy"
        least = minimum(where, asked.count, policy.cpu_thread_policy, mixed=False)
        if policy.numa_policy == "restricted" and least and len(nodes) > least[0]:
            return "numa-policy"
    if policy.uncore_cache_alignment == "require":
        mixed = asked.node is not None or policy.numa_policy not in ("single-numa-node", "restricted")
        least = minimum(where, asked.count, policy.cpu_thread_policy, asked.node, mixed=mixed)
        if least and len({where.l3[cpu] for cpu in chosen}) > least[1]:
            return "uncore-cache-alignment"
    return None


def minimum(
    where: World, count: int, threads: str, node: int | None = None, *, mixed: bool = True
) -> tuple[int, int] | None:
    """The fewest NUMA nodes, and in so many the fewest L3 domains, of `count` CPUs of an empty pool (or node).

    Unless `mixed`, CPUs in no node are not taken together with others.
    """
    mixed = mixed or not where.has_nodeless_cpus
    key = count, threads, node, mixed
    if key not in where.known_minimum:
        cpus = sorted(cpu for cpu in where.core if node in (None, where.node[cpu]))
        choices = (frozenset(each) for each in combinations(cpus, count))
        if not mixed:
            choices = (each for each in choices if len({where.node[cpu] < 0 for cpu in each}) == 1)
        where.known_minimum[key] = min(_found(where, choices, threads), default=None)
    return where.known_minimum[key]


def _found(where: World, choices: Iterator[Cpus], threads: str) -> Iterator[tuple[int, int]]:
    pool = frozenset(where.core)
    for chosen in choices:
        cores = {where.core[cpu] for cpu in chosen}
        if threads == "require" and not all(core <= chosen for core in cores):
            continue
        if threads == "isolate" and any(len(core & chosen) > 1 or core - pool for core in cores):
            continue
        yield len({where.node[cpu] for cpu in chosen}), len({where.l3[cpu] for cpu in chosen})
