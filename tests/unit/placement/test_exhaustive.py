# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Search: compared with every possible choice on small machines, by definitions that share no code with placement."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import CoreType, Machine
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.rules import Unplaceable, broken_rule
from epa_orchestrator.placement.search import EXPLAINED_CANDIDATES, choose, place
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import build_topology
from tests import oracle
from tests.machines import made_up, with_packages
from tests.unit.placement.states import CHOICES, CLUSTERED, CROSSED, SMALL, State, random_state
from tools.synthetic import Shape

SEEDS = range(20)
STATES_OF_A_SEED = 160


def states(seed: int) -> Iterator[State]:
    rng = random.Random(seed)
    return (random_state(rng, taking=seed % 4 == 3) for _ in range(STATES_OF_A_SEED))


@dataclass(frozen=True)
class Solved:
    """A request, and the rank of the best choice of all; None when every choice breaks a rule."""

    state: State
    task: Task
    asked: oracle.Question
    best: tuple[int, ...] | None


@cache
def solved(seed: int) -> list[Solved]:
    found = [(state, state.question()) for state in states(seed)]
    return [Solved(state, state.task(), asked, asked.answer()) for state, asked in found]


def placeable(seed: int) -> list[Solved]:
    return [each for each in solved(seed) if each.best is not None]


def exact_levels(each: Solved) -> int | None:
    """How many levels are exact, None for all: in `numa_balance` the nodes of a crossed core count as one."""
    names = [name for name, _ in each.task.levels]
    return names.index("numa_balance") if each.state.machine in CROSSED and "numa_balance" in names else None


@pytest.mark.parametrize("seed", SEEDS)
def test_no_choice_is_better(seed: int) -> None:
    for each in placeable(seed):
        chosen = place(each.task)[0]
        exact = exact_levels(each)
        assert each.best is not None
        assert oracle.rank(each.asked, frozenset(chosen))[:exact] == each.best[:exact], (each.state, str(chosen))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_candidate_is_a_possible_choice(seed: int) -> None:
    for each in placeable(seed):
        state = each.state
        for chosen in place(each.task, EXPLAINED_CANDIDATES):
            assert chosen <= state.free | state.own, state
            assert state.own <= chosen or each.task.shrinking, state
            assert len(chosen) == state.count, state


@pytest.mark.parametrize("seed", SEEDS)
def test_every_candidate_respects_the_rules(seed: int) -> None:
    for each in placeable(seed):
        for chosen in place(each.task, EXPLAINED_CANDIDATES):
            assert oracle.broken(each.asked, frozenset(chosen)) is None, each.state


@pytest.mark.parametrize("seed", SEEDS)
def test_a_refusal_names_the_rule_that_its_choice_breaks(seed: int) -> None:
    for each in solved(seed):
        if each.best is None:
            with pytest.raises(Unplaceable) as refused:
                place(each.task)
            choice = frozenset(refused.value.choice)
            assert choice in set(each.asked.choices()), each.state
            assert oracle.broken(each.asked, choice) == refused.value.rule.option, each.state


def some_choices(seed: int) -> Iterator[tuple[Task, oracle.Question, frozenset[int]]]:
    """Up to eight of the possible choices of each request."""
    rng = random.Random(f"choices {seed}")
    for state in states(seed):
        task, asked = state.task(), state.question()
        every = list(asked.choices())
        yield from ((task, asked, choice) for choice in rng.sample(every, min(len(every), 8)))


@pytest.mark.parametrize("seed", SEEDS)
def test_costs_are_those_of_the_oracle(seed: int) -> None:
    for task, asked, choice in some_choices(seed):
        assert task.cost(CpuSet(choice))._asdict() == oracle.cost(asked, choice), (asked, choice)


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks_are_those_of_the_oracle(seed: int) -> None:
    for task, asked, choice in some_choices(seed):
        assert task.rank(CpuSet(choice)) == oracle.rank(asked, choice), (asked, choice)


@pytest.mark.parametrize("seed", SEEDS)
def test_broken_rules_are_those_of_the_oracle(seed: int) -> None:
    for task, asked, choice in some_choices(seed):
        rule = broken_rule(task, CpuSet(choice))
        assert (rule.option if rule else None) == oracle.broken(asked, choice), (asked, choice)


def _twelve_nodes(seed: int) -> Machine:
    """Twelve nodes of one CPU, at any distances."""
    rng, rows = random.Random(seed), [[10] * 12 for _ in range(12)]
    for a, b in itertools.combinations(range(12), 2):
        rows[a][b] = rows[b][a] = rng.randint(11, 40)
    packages, nodes_per_package = (12, 1) if seed % 2 else (4, 3)
    return made_up(Shape(packages, nodes_per_package, 1, 1, distances=rows))


@pytest.mark.parametrize("seed", range(4))
def test_every_set_of_twelve_nodes_is_compared(seed: int) -> None:
    machine = _twelve_nodes(seed)
    topology = build_topology(machine, machine.online, EMPTY)
    where = oracle.world(machine, frozenset(machine.online))
    for count, near in itertools.product(range(1, len(machine.online) + 1), (None, 3)):
        task = Task(topology, machine.online, EMPTY, count, PlacementPolicy(near=near))
        asked = oracle.Question(where, frozenset(machine.online), frozenset(), count, task.policy)
        assert oracle.rank(asked, frozenset(place(task)[0])) == asked.answer(), (count, near)


def test_every_set_of_twelve_packages_is_compared() -> None:
    # A virtual machine with a package for each CPU; the last six are efficient ones.
    machine = with_packages(made_up(Shape(1, 1, 1, 12)), map(str, range(12)))
    types: tuple[CoreType, ...] = ("performance",) * 6 + ("efficiency",) * 6
    cores = tuple(replace(core, type=kind) for core, kind in zip(machine.cores, types, strict=True))
    topology = build_topology(replace(machine, cores=cores), machine.online, EMPTY)
    policy = PlacementPolicy(prefer_core_type="efficiency")
    found = [str(choose(topology, machine.online, EMPTY, count, policy)) for count in (4, 5, 6, 7)]
    assert found == ["6-9", "6-10", "6-11", "0,6-11"]


def every_state() -> list[State]:
    return [state for seed in SEEDS for state in states(seed)]


def test_states_use_every_machine() -> None:
    assert {state.machine for state in every_state()} == set(SMALL)


def test_states_have_every_pair_of_values() -> None:
    values = [(name, value) for name, choices in CHOICES.items() for value in choices]
    pairs = Counter[frozenset[tuple[str, object]]]()
    for state in every_state():
        set_ = [(name, getattr(state.policy, name)) for name in CHOICES]
        pairs.update(map(frozenset, itertools.combinations(set_, 2)))
    possible = {frozenset(pair) for pair in itertools.combinations(values, 2) if pair[0][0] != pair[1][0]}
    contradictory = {
        frozenset({("cpu_thread_policy", "require"), ("cpu_distribution", "cores")}),
        frozenset({("uncore_cache_alignment", "require"), ("numa_allocation_strategy", "distribute")}),
        frozenset({("uncore_cache_alignment", "require"), ("cpu_distribution", "caches")}),
    }
    assert (len(values), len(possible), len(contradictory)) == (22, 206, 3)
    assert set(pairs) == possible - contradictory
    assert min(pairs.values()) >= 50


def test_states_are_of_every_kind() -> None:
    kinds = Counter(_kinds(every_state()))
    every = "shrinks", "grows", "first", "in a node", "takes", "near", "reserved", "crossed", "clustered"
    assert min(kinds[kind] for kind in every) >= 90


def _kinds(every: Iterable[State]) -> Iterator[str]:
    for state in every:
        yield "shrinks" if state.count < len(state.own) else "grows" if state.own else "first"
        facts = {
            "in a node": state.node is not None,
            "takes": bool(state.last_resort),
            "reserved": bool(state.reserved),
            "crossed": state.machine in CROSSED,
            "clustered": state.machine in CLUSTERED,
        }
        yield from (kind for kind, holds in facts.items() if holds)
        if state.policy.near is not None:
            yield "near"
