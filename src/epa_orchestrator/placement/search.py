"""Which CPUs a request gets: a pure function of the topology, the free CPUs, what the service holds, count and policy.

A *scope* is a set of NUMA nodes. The scopes that can hold the request, smallest and closest first (scopes.py), are
compared by one cost vector (cost.py), whose levels the policy chooses; the best choice inside a scope is worked out
exactly (tables.py). What a service holds it keeps: growing adds to it, shrinking takes from it, and the same count
changes nothing. Rules that refuse (`restricted`, `single-numa-node`, `require`, `isolate`) leave out what they forbid.

The terms and the order of the levels follow kubelet's CPU Manager and Topology Manager and Nova's CPU policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations, islice
from math import comb
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.placement.cost import Cost, Levels, cost, levels, rank
from epa_orchestrator.placement.minimum import needs
from epa_orchestrator.placement.node_sets import Scope, Wanted, max_sets, node_distance, scopes
from epa_orchestrator.placement.policy import CpuThreadPolicy, PlacementPolicy
from epa_orchestrator.placement.tables import Situation, Weights, best, weights
from epa_orchestrator.placement.topology import NO_NODE, Cell, Node, Topology

DEFAULT_POLICY: Final = PlacementPolicy()

_MAX_CAPACITIES: Final = 256

#: How many choices an explanation compares.
FEW: Final = 5


@dataclass(frozen=True)
class Task:
    """A request to place: `count` CPUs in all for a service that holds `own` while `free` is free.

    `others` are CPUs of `free` that would have to be taken from other services; `sparing` means only when the rest of
    `free` does not suffice. `node` is the id of the only NUMA node that the CPUs are in, when the client has named one.
    """

    topology: Topology
    free: CpuSet
    own: CpuSet
    count: int
    policy: PlacementPolicy = DEFAULT_POLICY
    reclaimable: CpuSet = EMPTY
    node: int | None = None
    sparing: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.count <= len(self.free) + len(self.own):
            raise ValueError(f"{self.count} CPUs cannot come out of {len(self.free)} free and {len(self.own)} own ones")

    @cached_property
    def shrinking(self) -> bool:
        """Whether the service gives up CPUs, so that the choice is among its own."""
        return self.count < len(self.own)

    @cached_property
    def levels(self) -> Levels:
        """What choices are compared by."""
        return levels(self.policy, shrinking=self.shrinking, sparing=self.sparing)

    def cost(self, chosen: CpuSet) -> Cost:
        """The cost vector of a choice."""
        free, own = (self.free | self.own, EMPTY) if self.shrinking else (self.free, self.own)
        return cost(self.topology, free.mask, own.mask, chosen.mask, self.policy, self.reclaimable.mask)

    def rank(self, chosen: CpuSet) -> tuple[int, ...]:
        """The levels of the cost vector: of two choices the one with the smaller rank is better."""
        return rank(self.cost(chosen), self.levels)


#: Recent refusals: they take the longest to find, and refused clients ask again.
_refusals: Final[dict[Task, Unplaceable]] = {}
_MAX_REFUSALS: Final = 64


@dataclass(frozen=True)
class Rule:
    """A rule that a choice breaks: the option with its value, and in words what it allows and what it got."""

    option: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.option}={self.value} {self.reason}"


class Unplaceable(EpaError):
    """There are CPUs enough, but a rule allows no choice of them; `choice` is the best one for the `relaxed` task."""

    def __init__(self, task: Task, choice: CpuSet, rule: Rule, relaxed: Task | None = None) -> None:
        self.task, self.choice, self.rule = task, choice, rule
        self.relaxed = relaxed or replace(task, policy=task.policy.without(*task.policy.rules))
        cost = self.relaxed.cost(choice)
        vector = ", ".join(f"{name}={value}" for name, _ in self.relaxed.levels if (value := getattr(cost, name)))
        held = "; the CPUs that the service holds break it already: release them first" if _held_breaks(task) else ""
        super().__init__(
            f"{task.count} CPUs cannot be placed: {rule}{held}. Otherwise the best choice would be {choice} ({vector})"
        )

    def again(self) -> Unplaceable:
        """The same refusal without its traceback, which would keep many objects in memory."""
        refusal = Unplaceable.__new__(Unplaceable)
        refusal.args = self.args
        refusal.task, refusal.choice, refusal.rule, refusal.relaxed = self.task, self.choice, self.rule, self.relaxed
        return refusal


def _held_breaks(task: Task) -> bool:
    """Whether a service that asks for more holds CPUs that no others can make good."""
    if not 0 < len(task.own) < task.count:
        return False
    rule = broken_rule(task, task.own)
    return rule is not None and rule.value != "require"


def choose(top: Topology, free: CpuSet, own: CpuSet, count: int, policy: PlacementPolicy = DEFAULT_POLICY) -> CpuSet:
    """The `count` CPUs that a service holding `own` gets when the CPUs in `free` are to be had.

    The result is a superset of `own` when the claim grows, a subset when it shrinks, and `own` itself when it stays as
    large, even where the policy would now refuse it. All of `own` and `free` must be in the topology, and `count` be
    at most as many as both have together (ValueError otherwise).

    Raises Unplaceable.
    """
    return place(Task(top, free, own, count, policy))[0]


def place(task: Task, most: int = 1) -> list[CpuSet]:
    """The best choices of at most `most` scopes that were compared, best first; the first is what the service gets.

    Each holds the CPUs that the service keeps, too.

    Raises Unplaceable.
    """
    if task.count in (0, len(task.own)):
        return [task.own if task.count else EMPTY]
    if (known := _refusals.get(task)) is not None:
        raise known.again()
    try:
        return _candidates(task, most) or _refuse(task)
    except Unplaceable as refusal:
        if len(_refusals) >= _MAX_REFUSALS:
            _refusals.clear()
        _refusals[task] = refusal.again()
        raise


def _refuse(task: Task) -> list[CpuSet]:
    """Name the rule without which the request could be granted; the first that its best choice breaks if it is several.

    Where the search was cut short, the best choice without a rule may turn out to respect it, and is returned.

    Raises Unplaceable.
    """
    rules = task.policy.rules
    for left_out in (*((rule,) for rule in rules if len(rules) > 1), rules):
        relaxed = replace(task, policy=task.policy.without(*left_out))
        choices = _candidates(relaxed)
        if choices and (rule := broken_rule(task, choices[0])) is not None:
            raise Unplaceable(task, choices[0], rule, relaxed)
        if choices:
            return choices[:1]
    raise AssertionError(f"{task} is refused by no rule")


def broken_rule(task: Task, chosen: CpuSet) -> Rule | None:
    """The first rule of the policy that a choice breaks, None when it respects them all."""
    return next(
        (rule for rule in (_threads_rule(task, chosen), _numa_rule(task, chosen), _l3_rule(task, chosen)) if rule), None
    )


class Summary(NamedTuple):
    """Where some CPUs are: their NUMA nodes, and how many packages, L3 domains, whole and shared cores they are in."""

    numa_nodes: CpuSet
    packages: int
    l3_domains: int
    whole_cores: int
    shared_cores: int


def summary(top: Topology, cpus: CpuSet, available: CpuSet) -> Summary:
    """Where `cpus` are, for a service beside which the `available` CPUs are its own or free."""
    mask, beyond = cpus.mask, ~(available | cpus).mask
    cells = [cell for cell in top.cells if cell.cpus & mask]
    cores = [core for cell in cells for core in cell.cores if core & mask]
    return Summary(
        numa_nodes=CpuSet(cell.node for cell in cells if cell.node != NO_NODE),
        packages=len({cell.package for cell in cells}),
        l3_domains=len({cell.l3 for cell in cells}),
        whole_cores=sum(1 for core in cores if not core & ~mask),
        shared_cores=sum(1 for core in cores if core & beyond),
    )


# --- rules -------------------------------------------------------------------------------------------------------


def _threads_rule(task: Task, chosen: CpuSet) -> Rule | None:
    policy = task.policy.cpu_thread_policy
    if policy not in ("require", "isolate"):
        return None
    beyond = ~((task.free - task.reclaimable) | task.own | chosen).mask
    cores = [
        core for cell in task.topology.cells if cell.cpus & chosen.mask for core in cell.cores if core & chosen.mask
    ]
    if policy == "require":
        parts = sum(1 for core in cores if core & ~chosen.mask)
        reason = f"allows whole cores only, and of {_number(parts, 'core')} the service would have a part"
    else:
        parts = sum(1 for core in cores if core & beyond or (core & chosen.mask).bit_count() > 1)
        reason = f"allows one thread of a core that nobody else uses, and {_number(parts, 'core')} would not be so"
    return Rule("cpu-thread-policy", policy, reason) if parts else None


def _numa_rule(task: Task, chosen: CpuSet) -> Rule | None:
    limit, nodes = _most_nodes(task), len(task.topology.nodes_of(chosen.mask))
    reason = f"allows {_number(limit, 'NUMA node')}, and {nodes} would be needed"
    return Rule("numa-policy", task.policy.numa_policy, reason) if nodes > limit else None


def _l3_rule(task: Task, chosen: CpuSet) -> Rule | None:
    limit, l3s = _most_l3s(task), _l3_domains(task.topology, chosen)
    reason = f"allows {_number(limit, 'L3 domain')}, and {l3s} would be needed"
    return Rule("uncore-cache-alignment", "require", reason) if l3s > limit else None


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _most_nodes(task: Task) -> int:
    """How many NUMA nodes the policy allows."""
    every = len(task.topology.nodes)
    if task.node is not None or task.policy.numa_policy in ("none", "best-effort"):
        return every
    if task.policy.numa_policy == "single-numa-node":
        return 1
    empty = needs(task.topology, task.count, task.policy.cpu_thread_policy)
    return empty.numa_nodes if empty else every


def _most_l3s(task: Task) -> int:
    """How many L3 domains the policy allows."""
    every = len(task.topology.l3_cpus)
    if task.policy.uncore_cache_alignment != "require":
        return every
    empty = needs(task.topology, task.count, task.policy.cpu_thread_policy, task.node)
    return empty.l3_domains if empty else every


def _l3_domains(top: Topology, chosen: CpuSet) -> int:
    return sum(1 for cpus in top.l3_cpus.values() if cpus & chosen.mask)


# --- choosing ----------------------------------------------------------------------------------------------------


def _candidates(task: Task, most: int = 1) -> list[CpuSet]:
    """The best choices, at most `most`, of the first scopes that have one which respects the rules, best first."""
    weigh = weights(task.topology, task.policy, shrinking=task.shrinking, sparing=task.sparing)
    now, need = _situation(task)
    most_nodes, most_l3s = _most_nodes(task), _most_l3s(task)
    if not _possible(task, weigh, now, need, most_l3s):
        return []
    looked_at = 0
    for alike in _scopes(task, now, need, most_nodes, most_l3s):
        costs = sorted([_cost_of_best(weigh, scope, now, need) for scope in alike])
        choices = (CpuSet.from_mask(now.held | weigh.chosen(value)) for value in costs if weigh.feasible(value))
        if task.policy.rules:
            choices = (each for each in choices if _within(task.topology, each, most_nodes, most_l3s))
        found = list(islice(choices, most))
        looked_at += len(alike)
        if found:
            return found
        if looked_at > max_sets(need):
            break
    return _in_few_l3s(task)


def _in_few_l3s(task: Task) -> list[CpuSet]:
    """The choice of fewest L3 domains over all NUMA nodes, if it respects the rules: more nodes may have fewer."""
    policy = task.policy
    if policy.uncore_cache_alignment != "require" or policy.numa_policy == "none":
        return []
    anywhere = replace(task, policy=replace(policy, numa_policy="none"))
    return [each for each in _candidates(anywhere) if broken_rule(task, each) is None]


def _possible(task: Task, weigh: Weights, now: Situation, need: int, most_l3s: int) -> bool:
    """Whether the whole pool has such CPUs, as far as that is soon told; it spares looking at every scope."""
    if task.policy.uncore_cache_alignment == "require":
        held = [cpus for cpus in task.topology.l3_cpus.values() if cpus & now.held]
        others = sorted(
            [(cpus & now.take).bit_count() for cpus in task.topology.l3_cpus.values() if not cpus & now.held]
        )
        roomiest = others[max(len(others) - max(most_l3s - len(held), 0), 0) :]
        if sum((cpus & now.take).bit_count() for cpus in held) + sum(roomiest) < need:
            return False
    if task.policy.cpu_thread_policy not in ("require", "isolate"):
        return True
    if sum(_capacities(task, now).values()) < need:
        return False
    return weigh.feasible(best(weigh, task.topology.cells, now, need))


def _situation(task: Task) -> tuple[Situation, int]:
    """Which CPUs are chosen from, and how many of them."""
    available = task.free.mask | task.own.mask
    if task.shrinking:
        # Nothing is taken from others then, so a core with a thread of theirs counts as shared.
        return Situation(task.own.mask, 0, 0, available & ~(task.reclaimable.mask & ~task.own.mask)), task.count
    now = Situation(task.free.mask, task.reclaimable.mask, task.own.mask, available)
    return now, task.count - len(task.own)


def _within(top: Topology, chosen: CpuSet, most_nodes: int, most_l3s: int) -> bool:
    return len(top.nodes_of(chosen.mask)) <= most_nodes and _l3_domains(top, chosen) <= most_l3s


def _scopes(task: Task, now: Situation, need: int, most_nodes: int, most_l3s: int) -> Iterator[list[Scope]]:
    """Lists of scopes, each list better than the next."""
    policy, nodes = task.policy, task.topology.nodes.values()
    if task.shrinking or policy.numa_policy == "none":
        everywhere = tuple(node.id for node in nodes if node.cpus & (now.take | now.held))
        return iter([_anywhere(everywhere, most_nodes, max_sets(need))])
    base = tuple(node.id for node in nodes if node.cpus & now.held)
    whole = all(len(node.packages) == 1 for node in nodes)
    closest = policy.prefer_closest_numa_nodes and policy.near is None and whole
    most = most_nodes if task.topology.l3_spans_nodes else min(most_nodes, most_l3s)
    return scopes(Wanted(task.topology, _capacities(task, now), base, need, most), closest=closest)


def _anywhere(everywhere: Scope, most_nodes: int, most_sets: int) -> list[Scope]:
    """All nodes as one scope, or each set of as many as a claim may shrink to where these are not too many."""
    most = min(most_nodes, len(everywhere))
    return list(combinations(everywhere, most)) if comb(len(everywhere), most) <= most_sets else [everywhere]


def _capacities(task: Task, now: Situation) -> dict[int, int]:
    """How many CPUs of each node can be taken at most."""
    threads = task.policy.cpu_thread_policy
    return {node.id: _capacity(node, now.within(node.threads), threads) for node in task.topology.nodes.values()}


@lru_cache(_MAX_CAPACITIES)
def _capacity(node: Node, now: Situation, threads: CpuThreadPolicy) -> int:
    take, _, held, available = now
    if threads not in ("require", "isolate"):
        return take.bit_count()
    cores = [core for cell in node.cells for core in cell.cores if core & take and not core & ~available]
    if threads == "require":
        return sum([(core & take).bit_count() for core in cores])
    return sum(1 for core in cores if not core & held)


def _cells(top: Topology, scope: Scope) -> tuple[Cell, ...]:
    if len(scope) == 1:
        return top.nodes[scope[0]].cells
    return tuple([cell for node in scope for cell in top.nodes[node].cells])


def _cost_of_best(weigh: Weights, scope: Scope, now: Situation, need: int) -> int:
    """The cost of the best choice in a scope, for comparison with those of other scopes."""
    value = best(weigh, _cells(weigh.top, scope), now, need)
    if weigh.node_distance and len(scope) > 1:
        value += weigh.node_distance * node_distance(weigh.top, scope)
    return value
