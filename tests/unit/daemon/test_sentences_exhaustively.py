# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sentences, compared with every choice that there was: what they say is true, and they deny nothing that decided."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations
from typing import Final, NamedTuple

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon import sentences
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import Unplaceable, broken_rule
from epa_orchestrator.placement.search import place_compared
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import build_topology
from tests.machines import made_up
from tools.synthetic import Shape

MACHINES: Final = [
    made_up(shape)
    for shape in (
        Shape(packages=2, nodes_per_package=2, cores_per_l3=2, threads_per_core=2),
        Shape(packages=2, nodes_per_package=2, l3_per_node=2, cores_per_l3=2),
        Shape(packages=1, nodes_per_package=3, cores_per_l3=4),
    )
]


class Told(NamedTuple):
    """A task, what was chosen, the sentence about it, and every choice that no rule forbids."""

    task: Task
    chosen: CpuSet
    sentence: str
    choices: list[CpuSet]

    def alike_before(self, level: str) -> list[CpuSet]:
        """The choices that are as good as the chosen one by all levels before this one."""
        before = [name for name, _ in self.task.levels].index(level)
        mine = self.task.rank(self.chosen)[:before]
        return [choice for choice in self.choices if self.task.rank(choice)[:before] == mine]


def random_policy(chance: random.Random, nodes: list[int]) -> PlacementPolicy:
    while True:
        policy = PlacementPolicy(
            numa_policy=chance.choice(["best-effort", "none", "none", "single-numa-node"]),
            numa_allocation_strategy=chance.choice(["packed", "spread", "distribute"]),
            prefer_closest_numa_nodes=chance.random() < 0.6,
            uncore_cache_alignment=chance.choice(["prefer", "none", "require"]),
            cpu_thread_policy=chance.choice(["prefer", "share", "require", "isolate"]),
            cpu_distribution=chance.choice(["packed", "cores", "caches"]),
            near=chance.choice([None, *nodes]),
        )
        if policy.contradiction() is None:
            return policy


def told(chance: random.Random) -> Iterator[Told]:
    for _ in range(400):
        machine = chance.choice(MACHINES)
        policy = random_policy(chance, [node.id for node in machine.nodes])
        cpus = chance.sample([*machine.online], 10)
        free = CpuSet(cpus[: chance.randint(1, 6)])
        own = CpuSet(cpus[6 : 6 + chance.choice([0, 0, 2, 4])])
        shrinks = bool(own) and chance.random() < 0.5
        count = chance.randint(1, len(own) - 1) if shrinks else len(own) + chance.randint(1, len(free))
        task = Task(build_topology(machine, machine.online, CpuSet()), free, own, count, policy)
        try:
            placed = place_compared(task)
        except Unplaceable:
            continue
        some = combinations([*own], count) if shrinks else combinations([*free], count - len(own))
        choices = [CpuSet(each) if shrinks else own | CpuSet(each) for each in some]
        allowed = [choice for choice in choices if broken_rule(task, choice) is None]
        yield Told(task, placed.candidates[0], sentences.of_grant(task, placed), allowed)


TOLD: Final = list(told(random.Random(5)))


def test_what_is_called_the_closest_is_the_closest() -> None:
    closest = [each for each in TOLD if "the closest to NUMA node" in each.sentence]
    assert len(closest) > 50
    for each in closest:
        distances = [each.task.cost(choice).near_distance for choice in each.alike_before("near_distance")]
        assert each.task.cost(each.chosen).near_distance == min(distances), each


def test_what_is_called_the_fewest_is_the_fewest() -> None:
    for words, level in (("packages", "packages"), ("L3 cache domains", "l3_domains")):
        named = [each for each in TOLD if f"{words}, and of these choices" in each.sentence]
        assert named
        for each in named:
            fewest = min(getattr(each.task.cost(choice), level) for choice in each.alike_before(level))
            assert getattr(each.task.cost(each.chosen), level) == fewest, each


def test_no_sentence_is_silent_about_the_distance_that_decided() -> None:
    silent = [each for each in TOLD if each.task.policy.near is not None and "close" not in each.sentence]
    compared = [each for each in silent if each.task.shrinking or each.task.policy.numa_policy == "none"]
    assert len(compared) > 20
    for each in compared:
        alike = each.alike_before("near_distance")
        assert len({each.task.cost(choice).near_distance for choice in alike}) == 1, each


@pytest.mark.parametrize(("words", "level"), [("per NUMA node", "numa_balance"), ("per L3 cache domain", "l3_balance")])
def test_what_is_called_even_is_the_most_even(words: str, level: str) -> None:
    even = [each for each in TOLD if f"keeps as even a number of CPUs {words}" in each.sentence]
    assert even
    for each in even:
        best = min(getattr(each.task.cost(choice), level) for choice in each.alike_before(level))
        assert getattr(each.task.cost(each.chosen), level) == best, each
