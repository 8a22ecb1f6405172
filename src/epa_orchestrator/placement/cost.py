"""Cost: how good a set of CPUs is for a claim, as one vector whose levels the policy puts in order."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Final, NamedTuple

from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.topology import Topology, lowest


class Cost(NamedTuple):
    """What is counted of a claim's CPUs. Which of it matters, in which order, is a matter of `levels`.

    A core is *shared* when another owner has threads of it (or they are reserved), *fresh* when the service opens a
    core that nobody used, *split* when the service leaves threads of it free; a CPU is *stacked* when the service has
    another thread of its core. *Left over* are free CPUs beside those chosen, in their L3 domains or their NUMA nodes.
    The balances are sums of squares, of the CPUs per NUMA node and per L3 domain: least when they are spread evenly.
    """

    packages: int
    numa_nodes: int
    reclaimed_cpus: int
    near_distance: int
    node_distance: int
    numa_balance: int
    other_type_cpus: int
    shared_cores: int
    fresh_cores: int
    stacked_cpus: int
    split_cores: int
    l3_domains: int
    l3_balance: int
    l3_left_over: int
    scope_left_over: int
    lowest_cpu: int


#: The components in words.
WORDS: Final[dict[str, str]] = {
    "packages": "packages",
    "numa_nodes": "NUMA nodes",
    "reclaimed_cpus": "CPUs taken from others",
    "near_distance": "distance from the NUMA node to be near",
    "node_distance": "distance between its NUMA nodes",
    "numa_balance": "CPUs per NUMA node (sum of squares)",
    "other_type_cpus": "CPUs of the other core type",
    "shared_cores": "cores shared with another owner",
    "fresh_cores": "unused cores opened",
    "stacked_cpus": "CPUs on a core that the service is on already",
    "split_cores": "cores used in part",
    "l3_domains": "L3 domains",
    "l3_balance": "CPUs per L3 domain (sum of squares)",
    "l3_left_over": "CPUs left over in its L3 domains",
    "scope_left_over": "CPUs left over in its NUMA nodes",
    "lowest_cpu": "lowest CPU id",
}

#: The levels of a comparison, most important first: a component's name, and 1 when less of it is better, -1 when more.
Levels = tuple[tuple[str, int], ...]


@lru_cache(64)
def levels(policy: PlacementPolicy, *, shrinking: bool = False, sparing: bool = True) -> Levels:
    """What is compared under a policy: of CPUs to gain, or of CPUs to keep when a claim shrinks.

    `sparing`: other services' CPUs are taken only when free ones do not suffice.

    A shrinking claim keeps what it uses most: it leaves the least used NUMA node and L3 domain first, unless the
    policy spreads claims over them.
    """
    numa, l3 = policy.numa_policy != "none", policy.uncore_cache_alignment != "none"
    spread = -1 if policy.numa_allocation_strategy == "spread" else 1
    distribute = numa and policy.numa_allocation_strategy == "distribute"
    caches = policy.cpu_distribution == "caches"
    near, closest = policy.near is not None, policy.prefer_closest_numa_nodes
    types = ("other_type_cpus", 1, policy.prefer_core_type != "none")
    threads = tuple((name, 1, True) for name in _thread_levels(policy))
    if shrinking:
        chosen = (
            ("l3_domains", 1, policy.uncore_cache_alignment == "require"),
            ("packages", 1, closest),
            ("near_distance", 1, near),
            ("numa_balance", 1 if distribute else -1, numa),
            types,
            ("l3_balance", 1 if caches else -1, l3 or caches),
            *threads,
        )
    else:
        chosen = (
            ("numa_nodes", 1, numa),
            ("l3_domains", 1, policy.uncore_cache_alignment == "require"),
            ("packages", 1, closest),
            ("reclaimed_cpus", 1, sparing),
            ("near_distance", 1, near),
            ("node_distance", 1, numa and closest),
            ("numa_balance", 1, distribute),
            types,
            *threads,
            ("l3_balance", 1, caches),
            ("l3_domains", 1, policy.uncore_cache_alignment == "prefer" and not caches),
            ("l3_left_over", spread, l3),
            ("scope_left_over", spread, numa),
        )
    return (*((name, sign) for name, sign, counts in chosen if counts), ("lowest_cpu", 1))


def _thread_levels(policy: PlacementPolicy) -> tuple[str, ...]:
    """What is compared of cores; `require` and `isolate` leave nothing to compare, as they allow one way only."""
    if policy.cpu_thread_policy in ("require", "isolate"):
        return ()
    first = "fresh_cores" if policy.cpu_thread_policy == "share" else "shared_cores"
    if policy.cpu_distribution == "cores":
        return first, "stacked_cpus"
    return (first,) if policy.cpu_thread_policy == "share" else (first, "split_cores")


def cost(top: Topology, free: int, own: int, chosen: int, policy: PlacementPolicy, others: int = 0) -> Cost:
    """What a service that holds `own` while `free` is free has when it is given `chosen` (all of them CPU masks).

    `others` are CPUs of `free` that would have to be taken from another service.
    """
    touched = [cell for cell in top.cells if cell.cpus & chosen]
    mine, left = (free & ~others) | own | chosen, (free | own) & ~chosen
    nodes = {cell.node: (top.nodes[cell.node].cpus & chosen).bit_count() for cell in touched}
    l3s = {cell.l3: (top.l3_cpus[cell.l3] & chosen).bit_count() for cell in touched}
    cores = [core for cell in touched for core in cell.cores if core & chosen]
    unshared = [core for core in cores if not core & ~mine]
    near = policy.near
    return Cost(
        packages=len({cell.package for cell in touched}),
        numa_nodes=len(nodes),
        reclaimed_cpus=(chosen & others & ~own).bit_count(),
        near_distance=0 if near is None else sum(top.distance[near][node] * count for node, count in nodes.items()),
        node_distance=sum(top.distance[a][b] for a, b in combinations(sorted(nodes), 2)),
        numa_balance=sum(count * count for count in nodes.values()),
        other_type_cpus=(chosen & other_type(top, policy)).bit_count(),
        shared_cores=len(cores) - len(unshared),
        fresh_cores=sum(1 for core in unshared if not core & own),
        stacked_cpus=chosen.bit_count() - len(cores),
        split_cores=sum(1 for core in unshared if core & ~chosen),
        l3_domains=len(l3s),
        l3_balance=sum(count * count for count in l3s.values()),
        l3_left_over=sum((top.l3_cpus[l3] & left).bit_count() for l3 in l3s),
        scope_left_over=sum((top.nodes[node].cpus & left).bit_count() for node in nodes),
        lowest_cpu=lowest(chosen),
    )


def rank(vector: Cost, compared: Levels) -> tuple[int, ...]:
    """A cost vector as it is compared: smaller is better."""
    return tuple(sign * getattr(vector, name) for name, sign in compared)


def other_type(top: Topology, policy: PlacementPolicy) -> int:
    """The CPUs of cores that are not of the preferred type, where the machine has both."""
    if policy.prefer_core_type == "none" or not top.core_types[policy.prefer_core_type]:
        return 0
    unwanted = "efficiency" if policy.prefer_core_type == "performance" else "performance"
    return top.core_types[unwanted]
