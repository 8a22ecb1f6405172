# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The table of levels in explanation/placement.md: the compared levels in their order, and the options of each."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from epa_orchestrator.placement.cost import LABELS, levels
from epa_orchestrator.placement.policy import PlacementPolicy

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "placement.md"


class Row(NamedTuple):
    number: int
    level: str
    label: str
    switched_by: str

    @property
    def options(self) -> set[str]:
        """The options, and the wish `near`, that the row names."""
        return set(re.findall(r"`([a-z0-9-]+)`(?=[:,])", self.switched_by))


def rows() -> list[Row]:
    table = PAGE.read_text("utf-8").partition("<!-- levels -->\n")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [Row(int(number), level.strip("`"), label, by) for number, level, label, by in cells]


#: The values that make a difference to the levels.
VALUES: dict[str, tuple[Any, ...]] = {
    "numa_policy": ("best-effort", "none"),
    "numa_allocation_strategy": ("packed", "spread", "distribute"),
    "prefer_closest_numa_nodes": (True, False),
    "uncore_cache_alignment": ("prefer", "none", "require"),
    "cpu_thread_policy": ("prefer", "share", "require"),
    "cpu_distribution": ("packed", "cores", "caches"),
    "prefer_core_type": ("none", "performance"),
    "near": (None, 0),
}


def all_policies() -> list[PlacementPolicy]:
    return [PlacementPolicy(**dict(zip(VALUES, each, strict=True))) for each in product(*VALUES.values())]


def places(policy: PlacementPolicy, *, sparing: bool = True) -> dict[str, int]:
    """The sign of each compared level, by its row: an early `l3_domains` is row 3, a late one row 15."""
    compared = levels(policy, sparing=sparing, nodeless=True, clustered=True)
    late = policy.uncore_cache_alignment != "require"
    return {f"{name} late" if name == "l3_domains" and late else name: sign for name, sign in compared}


def row_name(row: Row) -> str:
    return "l3_domains late" if row.level == "l3_domains" and row.number > 3 else row.level


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.number} {row.level}")
def test_a_row_has_the_label_of_its_level(row: Row) -> None:
    assert re.fullmatch(rf"{re.escape(LABELS[row.level])}([ ,(].*)?", row.label)


def test_rows_are_numbered() -> None:
    assert [row.number for row in rows()] == list(range(1, 20))


def test_every_policy_compares_in_the_order_of_the_rows() -> None:
    order = [row_name(row) for row in rows()]
    compared = [list(places(policy)) for policy in all_policies()]
    assert all([name for name in order if name in each] == each for each in compared)


def test_every_row_is_compared_by_some_policy() -> None:
    compared = {name for policy in all_policies() for name in places(policy)}
    assert compared == {row_name(row) for row in rows()}


@pytest.mark.parametrize("option", VALUES)
def test_the_rows_that_an_option_switches_name_it(option: str) -> None:
    changes: Any = [{option: value} for value in VALUES[option]]
    switched: set[str] = set()
    for policy in all_policies():
        before = places(policy)
        for after in (places(replace(policy, **change)) for change in changes):
            switched |= {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert {row_name(row) for row in rows() if option.replace("_", "-") in row.options} == switched


def test_numa_reclaim_switches_reclaimed_cpus_only() -> None:
    without = set(places(PlacementPolicy())) - set(places(PlacementPolicy(), sparing=False))
    assert {row.level for row in rows() if "numa-reclaim" in row.options} == without == {"reclaimed_cpus"}
