# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tables: a fold is the best of all divisions, and each entry is the best choice."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.placement.cost import cost, levels, rank
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.tables import (
    _MOST_LEVELS,
    FIELD_BITS,
    Availability,
    Table,
    _convolved,
    _core_table,
    _domain,
    _domain_table,
    _fold,
    _fold_to,
    _mirrored,
    _remembered_tables,
    best,
    weights_of,
)
from epa_orchestrator.placement.topology import Topology, build_topology
from tests.machines import made_up
from tools.synthetic import Shape

INFEASIBLE = 10**9

# Package/node 0: L3 {0,1,8,9}, L3 {2,3,10,11};  package/node 1: L3 {4,5,12,13}, L3 {6,7,14,15}; siblings 8 apart.
EIGHT_CORES = Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2)


def pool(shape: Shape) -> Topology:
    machine = made_up(shape)
    return build_topology(machine, machine.online, EMPTY)


def tried(tables: list[Table], number: int) -> int | None:
    """The least sum of one entry of each table whose places add up to the number."""
    places = itertools.product(*(range(len(table)) for table in tables))
    return min(
        (
            sum(table[at] for table, at in zip(tables, chosen, strict=True))
            for chosen in places
            if sum(chosen) == number
        ),
        default=None,
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_fold_is_the_best_of_every_division(seed: int) -> None:
    rng = random.Random(seed)
    tables = [
        [0, *(rng.choice((rng.randrange(-50, 50), INFEASIBLE)) for _ in range(rng.randrange(4)))]
        for _ in range(rng.randrange(1, 6))
    ]
    most = sum(len(table) - 1 for table in tables)
    for limit in range(most + 3):
        folded = _fold(tables, limit)
        assert folded == [tried(tables, number) for number in range(min(limit, most) + 1)]
        exact = _fold_to(tables, limit, INFEASIBLE)
        assert exact == (tried(tables, limit) if limit <= most else INFEASIBLE)


def test_folding_nothing() -> None:
    assert _fold([], 3) == [0]
    assert _fold_to([], 0, INFEASIBLE) == 0
    assert _fold_to([], 3, INFEASIBLE) == INFEASIBLE


@pytest.mark.parametrize(
    ("policy", "take", "others", "held", "available", "expected"),
    [
        (PlacementPolicy(), "0,8", "", "", "0,8", ["", "0", "0,8"]),
        (PlacementPolicy(), "8", "", "", "8", ["", "8"]),
        (PlacementPolicy(), "8", "", "0", "0,8", ["", "8"]),
        (PlacementPolicy(), "0,8", "0", "", "0,8", ["", "8", "0,8"]),
        (PlacementPolicy(cpu_thread_policy="require"), "0,8", "", "", "0,8", ["", None, "0,8"]),
        (PlacementPolicy(cpu_thread_policy="require"), "8", "", "0", "0,8", [None, "8"]),
        (PlacementPolicy(cpu_thread_policy="require"), "8", "", "", "8", ["", None]),
        (PlacementPolicy(cpu_thread_policy="isolate"), "0,8", "", "", "0,8", ["", "0", None]),
        (PlacementPolicy(cpu_thread_policy="isolate"), "8", "", "0", "0,8", ["", None]),
        (PlacementPolicy(cpu_thread_policy="isolate"), "8", "", "", "8", ["", None]),
    ],
)
def test_table_of_a_core(
    policy: PlacementPolicy, take: str, others: str, held: str, available: str, expected: list[str | None]
) -> None:
    topology = pool(EIGHT_CORES)
    weights = weights_of(topology, policy)
    availability = Availability(*(CpuSet.parse(text).mask for text in (take, others, held, available)))
    entries = _core_table(weights, CpuSet.parse("0,8").mask, availability)
    chosen = [str(CpuSet.from_mask(weights.chosen(value))) if weights.feasible(value) else None for value in entries]
    assert chosen == expected


POLICIES = (
    PlacementPolicy(),
    PlacementPolicy(numa_allocation_strategy="spread"),
    PlacementPolicy(uncore_cache_alignment="none"),
    PlacementPolicy(cpu_thread_policy="share"),
    PlacementPolicy(cpu_distribution="cores"),
    PlacementPolicy(cpu_distribution="caches", near=1),
)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_every_entry_of_a_node_table_is_the_best_choice(policy: PlacementPolicy, seed: int) -> None:
    topology, rng = pool(Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2)), random.Random(seed)
    node, weights = topology.nodes[0], weights_of(topology, policy)
    free = CpuSet(rng.sample(range(16), 11))
    inside = CpuSet.from_mask(free.mask & node.cpus)
    left = {l3: (cpus & free.mask).bit_count() for l3, cpus in topology.l3_cpus.items()}
    depth = weights.nesting.index("node")
    entries = _domain_table(weights, _domain(node.cells), depth, Availability(free.mask, 0, 0, free.mask), left, 16)
    assert len(entries) == len(inside) + 1
    for number, value in enumerate(entries[1:], 1):
        choices = [CpuSet(each).mask for each in itertools.combinations(inside, number)]
        ranks = {each: rank(cost(topology, free.mask, 0, each, policy), levels(policy)) for each in choices}
        assert ranks[weights.chosen(value)] == min(ranks.values())


@pytest.mark.parametrize(
    ("mask", "width", "mirrored"),
    [(0b00000101, 8, 0b10100000), (0b00000110, 8, 0b01100000), (0b1, 3, 0b100), (0, 3, 0)],
)
def test_mirrored(mask: int, width: int, mirrored: int) -> None:
    assert _mirrored(mask, width) == mirrored


def test_entries_of_a_fold_from_an_offset() -> None:
    # `one` has the entries of 1 to 3 CPUs. For 2 CPUs: min(20 + 0, 10 + 5), for 3: min(30 + 0, 20 + 5), for 4: 30 + 5.
    assert _convolved([10, 20, 30], 1, [0, 5], 2, 4) == [15, 25, 35]


def test_more_cpus_than_there_are_is_infeasible() -> None:
    topology = pool(EIGHT_CORES)
    weights = weights_of(topology, PlacementPolicy())
    availability = Availability(0b111, 0, 0, 0b111)
    assert not weights.feasible(best(weights, topology.cells, availability, 4))
    assert weights.chosen(best(weights, topology.cells, availability, 3)) == 0b111


def test_of_equal_choices_the_lowest_ids_are_best() -> None:
    topology = pool(Shape(cores_per_l3=8))
    weights = weights_of(topology, PlacementPolicy())
    for free in (0b11111111, 0b10110110):
        availability = Availability(free, 0, 0, free)
        expected = CpuSet(list(CpuSet.from_mask(free))[:3]).mask
        assert weights.chosen(best(weights, topology.cells, availability, 3)) == expected


@pytest.mark.parametrize("cores", [64, 65, 256, 257, 2048])
def test_remembered_tables_of_domains_take_less_than_100_mb(cores: int) -> None:
    """512 tables of 4,096 CPUs would take 1.4 GB."""
    (cell,) = pool(Shape(cores_per_l3=cores, threads_per_core=2)).cells
    chosen = _domain((cell,)).table
    (most,) = [tables.cache_info().maxsize or 0 for _, tables in _remembered_tables if tables is chosen]
    value = sys.getsizeof(1 << 4096 + (_MOST_LEVELS + 1) * FIELD_BITS) + 8
    assert most >= 16
    assert most * (2 * cores + 1) * value < 100_000_000
