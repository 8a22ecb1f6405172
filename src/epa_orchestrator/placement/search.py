# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Search: which CPUs a request gets, as a pure function of the topology, free and own CPUs, the count and the policy.

The sets of NUMA nodes that can hold the request are compared, smallest and closest first (`node_sets`). The best choice
inside each set is worked out exactly (`tables`): that is a *candidate*, one of the wire's `scopes`. Candidates are
compared by one cost vector (`cost`), whose levels the policy selects. A service keeps what it holds: growing adds to
it, shrinking takes from it, and the same count changes nothing. Rules that refuse (`rules`) exclude candidates.

The terms and the order of the levels follow kubelet's CPU Manager and Topology Manager and Nova's CPU policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, islice
from math import comb
from typing import Final, Literal, NamedTuple

from epa_orchestrator.cpuset import EMPTY, CpuSet, union
from epa_orchestrator.placement.difference import Difference, of_choices, of_costs
from epa_orchestrator.placement.node_sets import Demand, NodeSet, max_sets, node_distance, node_sets
from epa_orchestrator.placement.policy import DEFAULT_POLICY, CpuThreadPolicy, PlacementPolicy
from epa_orchestrator.placement.rules import Limits, Unplaceable, broken_rule, limits
from epa_orchestrator.placement.tables import Availability, Weights, best, weights_of
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import Cell, Node, Topology

#: How many candidates an explanation compares.
EXPLAINED_CANDIDATES: Final = 5

_MAX_CAPACITIES: Final = 256

#: Recent refusals: they take the longest to find, and refused clients repeat their requests.
_refusals: Final[dict[Task, Unplaceable]] = {}
_MAX_REFUSALS: Final = 64


#: Why only one candidate was compared. "only": no other set of the same number of NUMA nodes can hold the request.
#: "closest": the nodes of all other such sets are farther apart.
Lone = Literal["only", "closest"]


class Placed(NamedTuple):
    """The best candidates, the best one first, and its difference to the second, which is None when it is the only one.

    The search compares all candidates in any case, so the difference costs little. `lone` says
    why there is only one, as far as that is known.
    """

    candidates: list[CpuSet]
    difference: Difference | None = None
    lone: Lone | None = None


def choose(
    topology: Topology, free: CpuSet, own: CpuSet, count: int, policy: PlacementPolicy = DEFAULT_POLICY
) -> CpuSet:
    """The `count` CPUs that a service holding `own` gets while the CPUs in `free` are free.

    The result is a superset of `own` when the claim grows, a subset when it shrinks, and `own` itself when it stays as
    large, even when the policy would now refuse it. All of `own` and `free` must be in the topology, and `count` at
    most as many as both have together (ValueError otherwise).

    Raises Unplaceable.
    """
    return place(Task(topology, free, own, count, policy))[0]


def place(task: Task, most: int = 1) -> list[CpuSet]:
    """The best candidates of `place_compared`."""
    return place_compared(task, most).candidates


def place_compared(task: Task, most: int = 1) -> Placed:
    """The best candidates, at most `most`, best first; the first is what the service gets.

    Each includes the CPUs that the service keeps.

    Raises Unplaceable.
    """
    if task.count in (0, len(task.own)):
        return Placed([task.own if task.count else EMPTY])
    if (known := _refusals.get(task)) is not None:
        raise known.without_traceback()
    if (found := _candidates(task, most)).candidates:
        return found
    relaxed, choice = _relaxed_choice(task)
    rule = broken_rule(task, choice)
    if rule is None:  # the first search was cut short
        return Placed([choice])
    refusal = Unplaceable(task, choice, rule, relaxed)
    if len(_refusals) >= _MAX_REFUSALS:
        _refusals.clear()
    _refusals[task] = refusal.without_traceback()
    raise refusal


def _relaxed_choice(task: Task) -> tuple[Task, CpuSet]:
    """The task without the one rule that forbids every candidate, or else without all rules, and the best candidate."""
    rules = task.policy.rules
    each_alone = [(rule,) for rule in rules] if len(rules) > 1 else []
    for left_out in (*each_alone, rules):
        relaxed = replace(task, policy=task.policy.without(*left_out))
        if found := _candidates(relaxed).candidates:
            return relaxed, found[0]
    raise AssertionError(f"{task} is refused by no rule")


def _candidates(task: Task, most: int = 1) -> Placed:
    """The best candidates, at most `most`, of the first node sets that have one which respects the rules."""
    weights = weights_of(task.topology, task.policy, shrinking=task.shrinking, sparing=task.sparing)
    allowed = limits(task)
    availability, count = _availability(task)
    if not _fits_in_pool(task, weights, availability, count, allowed):
        return Placed([])
    compared = 0
    for alike in _node_sets(task, availability, count, allowed):
        costs = sorted([(_cost_of_best(weights, nodes, availability, count), nodes) for nodes in alike])
        feasible = [each for each in costs if weights.feasible(each[0])]
        found = _best_of(task, weights, availability, allowed, feasible, most)
        if found.candidates:
            return found if found.difference else found._replace(lone=_lone(task, len(feasible[0][1]), count))
        compared += len(alike)
        if compared > max_sets(count):
            break
    return Placed(_in_few_l3s(task))


def _lone(task: Task, size: int, count: int) -> Lone | None:
    """Why there is only one candidate, in this number of nodes; None if not all sets of as many were looked at."""
    if task.topology.cores_span_nodes or (size > 1 and comb(len(task.topology.nodes), size) > max_sets(count)):
        return None
    return "closest" if size > 1 and _only_closest(task) else "only"


def _only_closest(task: Task) -> bool:
    """Whether sets of NUMA nodes that are farther apart are not compared with the closest ones."""
    policy = task.policy
    nodes_in_one_package = all(len(node.packages) == 1 for node in task.topology.nodes.values())
    return policy.prefer_closest_numa_nodes and policy.near is None and nodes_in_one_package


def _best_of(
    task: Task,
    weights: Weights,
    availability: Availability,
    allowed: Limits,
    costs: list[tuple[int, NodeSet]],
    most: int,
) -> Placed:
    """The best candidates of those that have these costs in these nodes, in ascending order."""

    def cpus_of(value: int) -> CpuSet:
        return CpuSet.from_mask(availability.held | weights.chosen(value))

    topology, spans = task.topology, task.topology.cores_span_nodes
    if spans:  # the tables count a node group as one node
        ranked = sorted([cpus_of(value) for value, _ in costs], key=task.rank)
        choices = [cpus for cpus in ranked if not task.policy.rules or allowed.allow(topology, cpus)]
        difference = of_choices(task, choices[0], choices[1]) if len(choices) > 1 else None
        return Placed(choices[:most], difference)
    if task.policy.rules:
        costs = [*islice((each for each in costs if allowed.allow(topology, cpus_of(each[0]))), max(most, 2))]
    # With rules only some of the candidates are looked at.
    compared = costs[:2] if task.policy.rules else costs
    difference = of_costs(task, weights, compared) if len(costs) > 1 else None
    return Placed([cpus_of(value) for value, _ in costs[:most]], difference)


def _in_few_l3s(task: Task) -> list[CpuSet]:
    """The candidate with the fewest L3 domains over all NUMA nodes, if it respects the rules.

    More nodes may have fewer L3 domains.
    """
    policy = task.policy
    if policy.uncore_cache_alignment != "require" or policy.numa_policy == "none":
        return []
    anywhere = replace(task, policy=replace(policy, numa_policy="none"))
    return [cpus for cpus in _candidates(anywhere).candidates if broken_rule(task, cpus) is None]


def _fits_in_pool(task: Task, weights: Weights, availability: Availability, count: int, allowed: Limits) -> bool:
    """Whether the whole pool can meet the request, by a quick check that avoids a search of every node set."""
    if task.policy.uncore_cache_alignment == "require" and _room_in_l3s(task, availability, allowed) < count:
        return False
    if task.policy.cpu_thread_policy not in ("require", "isolate"):
        return True
    if sum(_capacities(task, availability).values()) < count:
        return False
    return weights.feasible(best(weights, task.topology.cells, availability, count))


def _room_in_l3s(task: Task, availability: Availability, allowed: Limits) -> int:
    """How many CPUs there are in the L3 domains of the service and the roomiest others, as many as are allowed."""
    in_held: list[int] = []
    in_others: list[int] = []
    for cpus in task.topology.l3_cpus.values():
        room = (cpus & availability.takeable).bit_count()
        (in_held if cpus & availability.held else in_others).append(room)
    more = max(allowed.l3_domains - len(in_held), 0)
    return sum(in_held) + sum(sorted(in_others, reverse=True)[:more])


def _availability(task: Task) -> tuple[Availability, int]:
    """The CPUs to choose from, and how many are chosen."""
    own_or_free = task.free.mask | task.own.mask
    own_or_free |= task.around.mask
    if task.shrinking:
        # Nothing is taken from others then, so a core with one of their threads counts as shared.
        without_others = own_or_free & ~(task.reclaimable.mask & ~task.own.mask)
        return Availability(task.own.mask, 0, 0, without_others), task.count
    availability = Availability(task.free.mask, task.reclaimable.mask, task.own.mask, own_or_free)
    return availability, task.count - len(task.own)


def _node_sets(task: Task, availability: Availability, count: int, allowed: Limits) -> Iterator[list[NodeSet]]:
    """Lists of node sets, each list better than the next."""
    policy, topology, limit = task.policy, task.topology, allowed.numa_nodes
    nodes = topology.nodes.values()
    if task.shrinking or policy.numa_policy == "none":
        everywhere = tuple(node.id for node in nodes if node.cpus & (availability.takeable | availability.held))
        return iter([_anywhere(everywhere, limit, max_sets(count))])
    base = tuple(node.id for node in nodes if node.cpus & availability.held)
    if not topology.l3_spans_nodes:
        limit = min(limit, allowed.l3_domains)
    demand = Demand(topology, _capacities(task, availability), base, count, limit)
    return node_sets(demand, closest=_only_closest(task))


def _anywhere(everywhere: NodeSet, limit: int, most_sets: int) -> list[NodeSet]:
    """All sets of `limit` nodes, or all nodes as one set when these sets would be too many."""
    size = min(limit, len(everywhere))
    return list(combinations(everywhere, size)) if comb(len(everywhere), size) <= most_sets else [everywhere]


def _capacities(task: Task, availability: Availability) -> dict[int, int]:
    """How many CPUs of each node can be taken at most; cores of several nodes count in each of them."""
    threads = task.policy.cpu_thread_policy
    return {
        node.id: _capacity(node, availability.within(node.threads), threads) for node in task.topology.nodes.values()
    }


@lru_cache(_MAX_CAPACITIES)
def _capacity(node: Node, availability: Availability, threads: CpuThreadPolicy) -> int:
    takeable, _, held, own_or_free = availability
    takeable &= node.cpus
    if threads not in ("require", "isolate"):
        return takeable.bit_count()
    cores = [core for cell in node.cells for core in cell.cores if core & takeable and not core & ~own_or_free]
    if threads == "require":
        return sum([(core & takeable).bit_count() for core in cores])
    return sum(1 for core in cores if not core & held)


def _cells(topology: Topology, nodes: NodeSet) -> tuple[Cell, ...]:
    if len(nodes) == 1:
        return topology.nodes[nodes[0]].cells
    # A dictionary, as nodes that share cores share cells.
    return tuple(dict.fromkeys([cell for node in nodes for cell in topology.nodes[node].cells]))


def _cost_of_best(weights: Weights, nodes: NodeSet, availability: Availability, count: int) -> int:
    """The cost of the best choice in a node set, for comparison with those of other node sets."""
    topology = weights.topology
    within = union(topology.nodes[node].cpus for node in nodes) if topology.cores_span_nodes else -1
    value = best(weights, _cells(topology, nodes), availability, count, within)
    if weights.of.node_distance and len(nodes) > 1:
        value += weights.of.node_distance * node_distance(topology, nodes)
    return value
