# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sentences: what decided a request, in plain words, for the history and for explanations.

A sentence is made when the request is decided, from the task that was placed and the difference between the two best
choices, so that it tells what was true then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from epa_orchestrator.allocation.allocate import Grant
from epa_orchestrator.allocation.taken import NOTHING_TAKEN, Taken
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.placement.cost import other_type
from epa_orchestrator.placement.difference import Difference
from epa_orchestrator.placement.node_sets import node_distance
from epa_orchestrator.placement.search import Lone, Placed
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import NO_NODE
from epa_orchestrator.protocol.requests import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Allocating,
)
from epa_orchestrator.units import count_of, format_size, named_nodes

#: What makes one choice better than another, by the level that decides, and what that of the `other` would be. The
#: words in braces become those for one node or several, `n` the level's value, and `near` what to be near to.
_BETTER: Final[dict[str, tuple[str, str]]] = {
    "packages": ("need{s} fewer packages: {n}", "{other} would need {n}"),
    "numa_nodes": ("need{s} fewer NUMA nodes: {n}", "{other} would need {n}"),
    "nodeless_cpus": ("{has} fewer CPUs in no NUMA node: {n}", "{other} would have {n}"),
    "reclaimed_cpus": ("take{s} fewer CPUs from other services: {n}", "{other} would take {n}"),
    "near_distance": ("{is} closer to {near}: the sum of the distances is {n}", "for {other} it would be {n}"),
    "node_distance": ("{is} closer to each other: the sum of the distances is {n}", "for {other} it would be {n}"),
    "numa_balance": (
        "{has} a more even number of CPUs per NUMA node: the sum of squares is {n}",
        "for {other} it would be {n}",
    ),
    "other_type_cpus": ("need{s} fewer CPUs of the other core type: {n}", "{other} would need {n}"),
    "shared_cores": (
        "share{s} fewer cores with another owner or the operating system: {n}",
        "{other} would share {n}",
    ),
    "fresh_cores": ("open{s} fewer unused cores: {n}", "{other} would open {n}"),
    "stacked_cpus": ("put{s} fewer CPUs on a core that the service is on already: {n}", "{other} would put {n} there"),
    "split_cores": ("use{s} fewer cores in part: {n}", "{other} would use {n}"),
    "l3_domains": ("need{s} fewer L3 cache domains: {n}", "{other} would need {n}"),
    "l3_balance": (
        "{has} a more even number of CPUs per L3 cache domain: the sum of squares is {n}",
        "for {other} it would be {n}",
    ),
    "l2_clusters": ("need{s} fewer L2 clusters: {n}", "{other} would need {n}"),
    "l3_left_over": ("fit{s} tighter: {it} leave{s} {cpus} of {its} L3 caches unused", "{other} would leave {n}"),
    "scope_left_over": ("fit{s} tighter: {it} leave{s} {cpus} of {its} own unused", "{other} would leave {n}"),
}
#: The same for levels of which the policy wants more.
_MORE_IS_BETTER: Final[dict[str, tuple[str, str]]] = {
    "l3_left_over": ("{is} freer: {it} leave{s} {cpus} of {its} L3 caches unused", "{other} would leave {n}"),
    "scope_left_over": ("{is} freer: {it} leave{s} {cpus} of {its} own unused", "{other} would leave {n}"),
}
_ONE: Final = {"s": "s", "is": "is", "has": "has", "it": "it", "its": "its"}
_SEVERAL: Final = {"s": "", "is": "are", "has": "have", "it": "they", "its": "their"}


class Reasons(NamedTuple):
    """The sentences that say what decided a request, for the service itself and for those that lose CPUs to it."""

    decided_by: str | None = None
    lost_by: str | None = None


def reasons(request: Allocating, grant: Grant, taken: Taken) -> Reasons:
    """The sentences about a granted request for CPUs."""
    return Reasons(of_change(request, grant, taken), of_loss(request, request.service_name, taken))


def hugepage_reasons(request: AllocateHugepages, free: int) -> Reasons:
    """The sentence about a granted request for hugepages; see `of_hugepages`."""
    return Reasons(of_hugepages(request, free))


def of_grant(task: Task, placed: Placed, taken: Taken = NOTHING_TAKEN, near: int | str | None = None) -> str:
    """What decided which CPUs a request gets, which named what to be `near` to."""
    takes = f" It takes {taken}." if taken else ""
    node = f"NUMA node {task.policy.near}"
    what = f"{near} ({node})" if isinstance(near, str) else f"{node}, which the request names"
    return f"{_of_placement(task, placed, what)}{takes}"


def of_change(request: Allocating, grant: Grant, taken: Taken) -> str:
    """What decided a granted request for CPUs."""
    if grant.task is None:
        return _of_release(request) if request.is_release else _KEPT
    size = _of_size(request, grant.task)
    return f"{size}{of_grant(grant.task, grant.placed, taken, request.near)}"


def of_loss(request: Allocating, taker: str, taken: Taken) -> str | None:
    """Why services lose CPUs to a request; None when none do."""
    if not taken or not isinstance(request, AllocateNumaCores):
        return None
    return (
        f"'{taker}' asked for CPUs of NUMA node {request.numa_node}, and such a request may take CPUs of other services"
        " whose preemption policy is legacy, except explicit ones."
    )


def of_hugepages(request: AllocateHugepages, free: int) -> str:
    """What decided a hugepage request; `free` pages could still be recorded for the service, its own ones too."""
    pages = f"{format_size(request.size_kb)} on NUMA node {request.node_id}"
    if request.is_release:
        return f"The service removes its record of hugepages of {pages}."
    count = count_of(request.hugepages_requested, "hugepage")
    fit = "fits" if request.hugepages_requested == 1 else "fit"
    return f"{count} {fit} into the {free} of {pages} that the service could have."


_LEAST_USED: Final = "gives up what it uses least, and keeps the rest"
_KEPT: Final = "The service keeps the CPUs that it holds: it asks for as many as it has."


def _of_release(request: Allocating) -> str:
    if isinstance(request, AllocateNumaCores):
        return f"The service gives back its CPUs of NUMA node {request.numa_node}."
    return "The service gives back all its CPUs."


def _of_size(request: Allocating, task: Task) -> str:
    """How many CPUs a request means that names no number, as the beginning of a sentence; empty otherwise."""
    if isinstance(request, AllocateCoresPercent):
        return f"{request.percent} % of the pool comes to {count_of(task.count, 'CPU')}. "
    if isinstance(request, AllocateCores) and request.count is None:
        return f"The default size comes to {count_of(task.count, 'CPU')}. "
    return ""


def _of_placement(task: Task, placed: Placed, near: str) -> str:
    if task.count == len(task.own):
        return _KEPT
    if task.shrinking:
        return f"The claim shrinks: the service {_what_shrinks(task, near)}."
    grown = "The claim grows: the service keeps what it holds. " if task.own else ""
    return f"{grown}{_comparison(task, placed, near)}"


def _what_shrinks(task: Task, near: str) -> str:
    """Which CPUs a service keeps or gives up, by the first level in which these can differ."""
    own, topology = task.own.mask, task.topology
    several_nodes = len(topology.nodes_of(own)) > 1
    several_l3s = len({cell.l3 for cell in topology.cells if cell.cpus & own}) > 1
    for level, sign in task.levels:
        if level == "near_distance" and _distances_differ(task, own):
            return f"keeps the CPUs that are {_closest(task, own, near)}, and gives up the rest"
        if level == "numa_balance" and several_nodes:
            return "keeps as even a number of CPUs per NUMA node as it can" if sign > 0 else _LEAST_USED
        if level == "other_type_cpus" and 0 != own & other_type(topology, task.policy) != own:
            return "gives up CPUs of the other core type first"
        if level == "l3_balance" and several_l3s:
            return "keeps as even a number of CPUs per L3 cache domain as it can" if sign > 0 else _LEAST_USED
    return _LEAST_USED


def _distances_differ(task: Task, cpus: int) -> bool:
    """Whether some of these CPUs (a mask) are closer to what the request wants to be near than others."""
    near = task.policy.near
    return (
        near is not None and len({task.topology.distance[near][node.id] for node in task.topology.nodes_of(cpus)}) > 1
    )


def _closest(task: Task, cpus: int, near: str) -> str:
    """What is true of the chosen ones of these CPUs (a mask) that differ in their distance."""
    cells = [cell for cell in task.topology.cells if cell.cpus & cpus]
    domains = {"l3_domains": ("L3 cache domains", len({cell.l3 for cell in cells}))}
    domains["packages"] = ("packages", len({cell.package for cell in cells}))
    more_important = [level for level, _ in task.levels[: task.levels.index(("near_distance", 1))]]
    fewest = [domains[level][0] for level in more_important if level in domains and domains[level][1] > 1]
    first = f"in the fewest {' and '.join(fewest)}, and of these choices " if fewest else ""
    return f"{first}the closest to {near}"


def _comparison(task: Task, placed: Placed, near: str) -> str:
    if task.node is not None:
        return f"The request names NUMA node {task.node}; these are the best CPUs in it."
    if task.policy.numa_policy == "none":
        return _without_nodes(task, placed.candidates[0] - task.own, near)
    nodes = [node.id for node in task.topology.nodes_of(placed.candidates[0].mask)]
    if placed.difference is not None:
        return _difference(task, nodes, placed.difference, near)
    if task.own:
        return f"It has the best CPUs that are free in {_named(nodes)}."
    return _of_lone(task, nodes, placed.lone)


def _without_nodes(task: Task, gained: CpuSet, near: str) -> str:
    """What decided which CPUs a service gains while NUMA nodes are not compared."""
    if not _distances_differ(task, task.free.mask):
        return "These are the best CPUs of the pool: numa-policy=none compares no NUMA nodes."
    distances = task.topology.distance[task.policy.near or 0]
    total = sum(
        distances[node.id] * (node.cpus & gained.mask).bit_count() for node in task.topology.nodes_of(gained.mask)
    )
    what = _closest(task, task.free.mask, near)
    return f"These CPUs are {what}: the sum of the distances is {total}; numa-policy=none compares no NUMA nodes."


def _of_lone(task: Task, nodes: Sequence[int], lone: Lone | None) -> str:
    """Why the choice in these nodes was compared with no other."""
    named, verb = _named(nodes), "is" if len(nodes) == 1 and NO_NODE not in nodes else "are"
    cpus = count_of(task.count, "CPU")
    others = [node for node in task.topology.nodes.values() if node.id not in nodes]
    most = max([(node.cpus & task.free.mask).bit_count() for node in others], default=0)
    if not most:
        return f"Only {named} {verb} possible: no other NUMA node has free CPUs of the pool."
    if lone is None:
        return f"{named} {verb} the best choice that was found for {cpus}."
    number = "one" if len(nodes) == 1 else str(len(nodes))
    rules = _rules_inside(task)
    if NO_NODE in nodes:
        number = "NUMA node" if len(nodes) == 1 else f"{len(nodes)} NUMA nodes"
        return f"No {number} alone can hold {cpus}{rules}, so the service gets {_NODELESS}."
    if lone == "closest":
        distance = node_distance(task.topology, tuple(nodes))
        return f"{named} are the closest {number} that can hold {cpus}{rules}: the sum of the distances is {distance}."
    next_best = f": at most {most} are free in another" if len(nodes) == 1 and most < task.count else ""
    return f"{named} {verb} the only {number} that can hold {cpus}{rules}{next_best}."


def _rules_inside(task: Task) -> str:
    """The rules of a task that leave less room in NUMA nodes, as a part of a sentence."""
    rules = [
        f"{name.replace('_', '-')}={getattr(task.policy, name)}" for name in task.policy.rules if name != "numa_policy"
    ]
    return f" with {' and '.join(rules)}" if rules else ""


def _difference(task: Task, nodes: Sequence[int], difference: Difference, near: str) -> str:
    """What makes the choice in these nodes better than the second best."""
    mine, other = _named(nodes), _named(difference.nodes)
    if not difference.level:
        return f"{_equal(nodes, difference)} are equally good; the lower CPU ids decide."
    wants_more = (difference.level, -1) in task.levels
    does, would = (_MORE_IS_BETTER if wants_more else _BETTER)[difference.level]
    number = _ONE if len(nodes) == 1 else _SEVERAL
    does = does.format(n=difference.best, cpus=count_of(difference.best, "CPU"), near=near, **number)
    return f"{mine} {does}, {would.format(other=other, n=difference.second)}."


def _equal(nodes: Sequence[int], difference: Difference) -> str:
    """These nodes and those that are as good, in words."""
    more = len(difference.equal)
    if more < 2:
        return f"{_named(nodes)} and {_named(difference.nodes)}"
    every = [*nodes, *(node for each in difference.equal for node in each)]
    if len(every) == more + 1 and NO_NODE not in every:
        return _named(every)
    return f"{_named(nodes)} and {more} other sets of NUMA nodes"


def _named(nodes: Sequence[int]) -> str:
    """NUMA nodes in words."""
    known = [node for node in nodes if node != NO_NODE]
    if not known:
        return _NODELESS
    text = named_nodes(str(CpuSet(known)))
    return text if len(known) == len(nodes) else f"{text} with {_NODELESS}"


_NODELESS: Final = "CPUs in no NUMA node"
