# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The fewest claims whose moving makes room, by brute force: every set of claims, and every set of CPUs for each.

It shares the rules of placement with `tests.oracle`, and with the program only the policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from epa_orchestrator.placement.policy import PlacementPolicy
from tests import oracle
from tests.oracle import NOTHING, Cpus, Question, World


@dataclass(frozen=True)
class Party:
    """A claim or the request: its size, the policy that places it, its CPUs now, and those that it has by NUMA node.

    `node` is the only node that the request may use. `withheld` are the CPUs that a claim withholds now.
    """

    name: str
    count: int
    policy: PlacementPolicy
    cpus: Cpus = NOTHING
    explicit: Cpus = NOTHING
    withheld: Cpus = NOTHING
    node: int | None = None


def fewest(world: World, request: Party, claims: Sequence[Party]) -> int | None:
    """The fewest claims that have to move so that the request and they can be placed; None where no moving helps."""
    for size in range(len(claims) + 1):
        for moved in combinations(claims, size):
            stay = [claim for claim in claims if claim not in moved]
            free = frozenset(world.core).difference(*(claim.cpus | claim.withheld for claim in stay))
            held = frozenset[int]().union(*(claim.cpus for claim in stay))
            if any(_arrangements(world, free, held, (request, *moved), {})):
                return size
    return None


def _arrangements(
    world: World, free: Cpus, held: Cpus, left: Sequence[Party], placed: dict[str, tuple[Party, Cpus]]
) -> Iterator[bool]:
    """Yields True for every way to place the parties that are left, in which none breaks a rule in the end."""
    if not left:
        if all(_is_valid(world, held, party, chosen, placed) for party, chosen in placed.values()):
            yield True
        return
    first, *rest = left
    for choice in combinations(sorted(free), first.count):
        chosen = frozenset(choice)
        if _is_in_its_nodes(world, first, chosen):
            yield from _arrangements(world, free - chosen, held, rest, {**placed, first.name: (first, chosen)})


def _is_in_its_nodes(world: World, party: Party, chosen: Cpus) -> bool:
    if party.node is not None:
        return all(world.node[cpu] == party.node for cpu in chosen)
    wanted = Counter(world.node[cpu] for cpu in party.explicit)
    there = Counter(world.node[cpu] for cpu in chosen)
    return all(there[node] >= count for node, count in wanted.items())


def _is_valid(world: World, held: Cpus, party: Party, chosen: Cpus, placed: dict[str, tuple[Party, Cpus]]) -> bool:
    """Whether the choice of a party breaks no rule while all others have their CPUs."""
    others = held.union(*(cpus for other, cpus in placed.values() if other is not party))
    if not party.explicit:
        return _keeps_rules(world, others, party, chosen, party.node)
    return all(
        _keeps_rules(world, others, party, frozenset(cpu for cpu in chosen if world.node[cpu] == node), node)
        for node in {world.node[cpu] for cpu in chosen}
    )


def _keeps_rules(world: World, others: Cpus, party: Party, chosen: Cpus, node: int | None) -> bool:
    free = frozenset(world.core) - others
    around = NOTHING
    if node is not None:
        around = frozenset(cpu for cpu in free if world.node[cpu] != node)
        free -= around
    asked = Question(world, free, NOTHING, len(chosen), party.policy, node=node, around=around)
    return oracle.broken(asked, chosen) is None
