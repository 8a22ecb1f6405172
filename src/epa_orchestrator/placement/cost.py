# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Cost: how good a choice of CPUs is for a claim, as a vector whose levels a policy selects and puts in order."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Annotated, Final, NamedTuple, get_type_hints

from epa_orchestrator.cpuset import lowest
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.topology import NO_NODE, Domain, Topology


class Level(NamedTuple):
    """The label of a level in texts, and the kind of domain that it is counted in."""

    label: str
    domain: Domain


class Cost(NamedTuple):
    """The levels that are counted of a choice, one row each; `levels` selects those that a policy compares.

    A core is *shared* when another owner or the operating system has threads of it (or they are reserved), *fresh* when
    the service opens an unused core, *split* when the service leaves threads of it free; a CPU is *stacked* when the
    service has another thread of its core. L2 clusters are L2 caches that several cores share. CPUs *left over* are
    free CPUs that are not chosen, in the same L3 domains or NUMA nodes. The balances are sums of squares, of the CPUs
    per NUMA node and per L3 domain: least when spread evenly. CPUs in no NUMA node count as one node more.
    """

    packages: Annotated[int, Level("packages", "package")]
    numa_nodes: Annotated[int, Level("NUMA nodes", "node")]
    nodeless_cpus: Annotated[int, Level("CPUs in no NUMA node", "node")]
    reclaimed_cpus: Annotated[int, Level("CPUs taken from others", "core")]
    near_distance: Annotated[int, Level("distance from the NUMA node to be near", "node")]
    node_distance: Annotated[int, Level("distance between its NUMA nodes", "node")]
    numa_balance: Annotated[int, Level("CPUs per NUMA node (sum of squares)", "node")]
    other_type_cpus: Annotated[int, Level("CPUs of the other core type", "core")]
    shared_cores: Annotated[int, Level("cores shared with another owner or the operating system", "core")]
    fresh_cores: Annotated[int, Level("unused cores opened", "core")]
    stacked_cpus: Annotated[int, Level("CPUs on a core that the service is on already", "core")]
    split_cores: Annotated[int, Level("cores used in part", "core")]
    l3_domains: Annotated[int, Level("L3 domains", "l3")]
    l3_balance: Annotated[int, Level("CPUs per L3 domain (sum of squares)", "l3")]
    l2_clusters: Annotated[int, Level("L2 clusters", "l2")]
    l3_left_over: Annotated[int, Level("CPUs left over in its L3 domains", "l3")]
    scope_left_over: Annotated[int, Level("CPUs left over in its NUMA nodes", "node")]
    lowest_cpu: Annotated[int, Level("lowest CPU id", "core")]


#: The rows of `Cost` by name.
LEVELS: Final[dict[str, Level]] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Cost, include_extras=True).items()
}

#: The labels of the levels by name.
LABELS: Final[dict[str, str]] = {name: level.label for name, level in LEVELS.items()}

#: The compared levels, most important first: a level's name, and 1 when less of it is better, -1 when more is.
Levels = tuple[tuple[str, int], ...]


@lru_cache(64)
def levels(
    policy: PlacementPolicy,
    *,
    shrinking: bool = False,
    sparing: bool = True,
    nodeless: bool = False,
    clustered: bool = False,
) -> Levels:
    """The levels that a policy compares: of the CPUs to gain, or of the CPUs to keep when a claim shrinks.

    `sparing`: other services' CPUs are taken only when free ones do not suffice. `nodeless`: some CPUs are in no node.
    `clustered`: some cores share an L2.

    A shrinking claim keeps the part that it uses most: it leaves the least used NUMA node and L3 domain first, unless
    the policy spreads claims over them.
    """
    compares_l2 = clustered and policy.cpu_distribution != "caches"
    rows = _kept(policy, compares_l2) if shrinking else _gained(policy, sparing, compares_l2)
    if nodeless and policy.numa_policy != "none":
        first = 0 if shrinking else 1  # after the number of nodes
        rows = (*rows[:first], ("nodeless_cpus", 1, True), *rows[first:])
    return (*((name, sign) for name, sign, is_compared in rows if is_compared), ("lowest_cpu", 1))


def levels_on(topology: Topology, policy: PlacementPolicy, *, shrinking: bool, sparing: bool) -> Levels:
    """The levels that a policy compares on a topology."""
    nodeless, clustered = NO_NODE in topology.nodes, bool(topology.l2_cpus)
    return levels(policy, shrinking=shrinking, sparing=sparing, nodeless=nodeless, clustered=clustered)


#: Name, sign, and whether the policy compares it.
_Rows = tuple[tuple[str, int, bool], ...]


def _gained(policy: PlacementPolicy, sparing: bool, compares_l2: bool) -> _Rows:
    """The order of the levels for CPUs that a claim gains."""
    nodes_count, closest = policy.numa_policy != "none", policy.prefer_closest_numa_nodes
    alignment, over_caches = policy.uncore_cache_alignment, policy.cpu_distribution == "caches"
    left_over = -1 if policy.numa_allocation_strategy == "spread" else 1
    return (
        ("numa_nodes", 1, nodes_count),
        ("l3_domains", 1, alignment == "require"),
        ("packages", 1, closest),
        ("reclaimed_cpus", 1, sparing),
        ("near_distance", 1, policy.near is not None),
        ("node_distance", 1, nodes_count and closest),
        ("numa_balance", 1, nodes_count and policy.numa_allocation_strategy == "distribute"),
        ("other_type_cpus", 1, policy.prefer_core_type != "none"),
        *_of_threads(policy),
        ("l3_balance", 1, over_caches),
        ("l3_domains", 1, alignment == "prefer" and not over_caches),
        ("l2_clusters", 1, compares_l2),
        ("l3_left_over", left_over, alignment != "none"),
        ("scope_left_over", left_over, nodes_count),
    )


def _kept(policy: PlacementPolicy, compares_l2: bool) -> _Rows:
    """The order of the levels for the CPUs that a shrinking claim keeps."""
    nodes_count, distributes = policy.numa_policy != "none", policy.numa_allocation_strategy == "distribute"
    alignment, over_caches = policy.uncore_cache_alignment, policy.cpu_distribution == "caches"
    return (
        ("l3_domains", 1, alignment == "require"),
        ("packages", 1, policy.prefer_closest_numa_nodes),
        ("near_distance", 1, policy.near is not None),
        ("numa_balance", 1 if distributes else -1, nodes_count),
        ("other_type_cpus", 1, policy.prefer_core_type != "none"),
        ("l3_balance", 1 if over_caches else -1, alignment != "none" or over_caches),
        ("l2_clusters", 1, compares_l2),
        *_of_threads(policy),
    )


def _of_threads(policy: PlacementPolicy) -> _Rows:
    """The levels of cores; `require` and `isolate` leave nothing to compare, as they allow one way only."""
    compares, shares = policy.cpu_thread_policy in ("prefer", "share"), policy.cpu_thread_policy == "share"
    cores_first = policy.cpu_distribution == "cores"
    return (
        ("shared_cores", 1, compares and not shares),
        ("fresh_cores", 1, compares and shares),
        ("stacked_cpus", 1, compares and cores_first),
        ("split_cores", 1, compares and not shares and not cores_first),
    )


def cost(
    topology: Topology,
    free: int,
    own: int,
    chosen: int,
    policy: PlacementPolicy,
    reclaimable: int = 0,
    around: int = 0,
) -> Cost:
    """The cost for a service that holds `own` while `free` is free, when it has the `chosen` CPUs (all CPU masks).

    `reclaimable` are CPUs of `free` that would have to be taken from another service. No other owner has the CPUs
    `around` these either.
    """
    touched = [cell for cell in topology.cells if cell.cpus & chosen]
    mine, left = (free & ~reclaimable) | own | chosen | around, (free | own) & ~chosen
    nodes = {node.id: (node.cpus & chosen).bit_count() for node in topology.nodes_of(chosen)}
    l3s = {cell.l3: (topology.l3_cpus[cell.l3] & chosen).bit_count() for cell in touched}
    cores = [core for cell in touched for core in cell.cores if core & chosen]
    unshared = [core for core in cores if not core & ~mine]
    near, distance = policy.near, topology.distance
    return Cost(
        packages=len({cell.package for cell in touched}),
        numa_nodes=len(nodes),
        nodeless_cpus=nodes.get(NO_NODE, 0),
        reclaimed_cpus=(chosen & reclaimable & ~own).bit_count(),
        near_distance=0 if near is None else sum(distance[near][node] * count for node, count in nodes.items()),
        node_distance=sum(distance[a][b] for a, b in combinations(sorted(nodes), 2)),
        numa_balance=sum(count * count for count in nodes.values()),
        other_type_cpus=(chosen & other_type(topology, policy)).bit_count(),
        shared_cores=len(cores) - len(unshared),
        fresh_cores=sum(1 for core in unshared if not core & own),
        stacked_cpus=chosen.bit_count() - len(cores),
        split_cores=sum(1 for core in unshared if core & ~chosen),
        l3_domains=len(l3s),
        l3_balance=sum(count * count for count in l3s.values()),
        l2_clusters=len({cell.l2 for cell in touched if cell.l2 >= 0}),
        l3_left_over=sum((topology.l3_cpus[l3] & left).bit_count() for l3 in l3s),
        scope_left_over=sum((topology.nodes[node].cpus & left).bit_count() for node in nodes),
        lowest_cpu=lowest(chosen),
    )


def rank(vector: Cost, compared: Levels) -> tuple[int, ...]:
    """A cost vector as it is compared: smaller is better."""
    return tuple(sign * getattr(vector, name) for name, sign in compared)


def other_type(topology: Topology, policy: PlacementPolicy) -> int:
    """The CPUs of cores that are not of the preferred type, on a machine that has both types."""
    if policy.prefer_core_type == "none" or not topology.core_types[policy.prefer_core_type]:
        return 0
    other = "efficiency" if policy.prefer_core_type == "performance" else "performance"
    return topology.core_types[other]
