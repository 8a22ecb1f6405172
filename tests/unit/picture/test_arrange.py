# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Where boxes go: no two overlap, none is outside of the one around it, and rows are no wider than asked for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.picture.arrange import Arrangement, Measures, Spot, arrange
from epa_orchestrator.picture.model import Core, Cpu, Group

#: A core is as wide as it has threads, and one high.
MEASURES = Measures(
    pad=2,
    top=1,
    bottom=1,
    gap=(1, 0),
    core_gap=(1, 0),
    core=lambda core: (len(core.cpus), 1),
    label=lambda group: len(group.label) + 2,
)


def cores(count: int, threads: int = 2) -> tuple[Core, ...]:
    cpus = tuple(Cpu(number, "free", None, ".") for number in range(threads))
    return (Core(cpus, None, ""),) * count


def box(label: str, *children: Group, count: int = 0) -> Group:
    return Group("node", label, children, cores(count))


def places(found: Iterable[Spot]) -> list[tuple[int, int, int, int]]:
    return [(spot.x, spot.y, spot.part.width, spot.part.height) for spot in found]


def test_boxes_lie_next_to_each_other_as_far_as_they_fit() -> None:
    found = arrange([box("a", count=2), box("b", count=2), box("c", count=2)], 19, MEASURES)
    # Two cores of two threads with a gap, and a border and a blank on both sides.
    assert places(found.spots) == [(0, 0, 9, 3), (10, 0, 9, 3), (0, 3, 9, 3)]


def test_rows_of_equal_cores_are_filled_evenly() -> None:
    """Five of six would fit in the first row."""
    (spot,) = arrange([box("a", count=6)], 18, MEASURES).spots
    assert [(core.x, core.y) for core in spot.part.spots] == [(2, 1), (5, 1), (8, 1), (2, 2), (5, 2), (8, 2)]


def test_boxes_are_not_narrower_than_their_labels_if_they_can_be_below_each_other() -> None:
    found = arrange([box("a long label", count=1), box("another label", count=1)], 25, MEASURES)
    assert [spot.y for spot in found.spots] == [0, 3]


def test_boxes_of_nearly_one_size_become_equal() -> None:
    found = arrange([box("L3 9", count=4), box("L3 10000000", count=4)], 60, MEASURES)
    assert {spot.part.width for spot in found.spots} == {17}


def test_a_small_box_is_not_stretched() -> None:
    found = arrange([box("a", count=30), box("b", count=1)], 30, MEASURES)
    assert places(found.spots)[1][3] == 3


def test_a_core_that_is_too_wide_is_drawn_all_the_same() -> None:
    wide = Group("node", "a", (), cores(2, threads=40))
    found = arrange([wide, wide], 20, MEASURES)
    assert found.width == 44
    assert len({spot.y for spot in found.spots}) == 2


def leaf(label: str, count: int) -> Group:
    return box(label, count=count)


def branch(label: str, children: list[Group]) -> Group:
    return box(label, *children)


labels = st.text("ab", max_size=6)
groups = st.recursive(
    st.builds(leaf, labels, st.integers(1, 9)),
    lambda inner: st.builds(branch, labels, st.lists(inner, min_size=2, max_size=4)),
    max_leaves=12,
)


def check_inside(spots: Iterable[Spot], width: int, height: int) -> None:
    """Check that the spots lie in a box of this size without overlapping, and so do their own."""
    taken: set[tuple[int, int]] = set()
    for x, y, part in spots:
        assert x >= 0
        assert y >= 0
        assert x + part.width <= width
        assert y + part.height <= height
        cells = {(x + right, y + down) for right in range(part.width) for down in range(part.height)}
        assert not cells & taken
        taken |= cells
        check_inside(part.spots, part.width, part.height)


def items(found: Iterable[Spot]) -> list[Group | Core]:
    return [each for spot in found for each in (spot.part.item, *items(spot.part.spots))]


@settings(max_examples=50, deadline=None)
@given(st.lists(groups, min_size=1, max_size=4), st.integers(30, 120))
def test_nothing_overlaps_or_is_outside(drawn: list[Group], width: int) -> None:
    found = arrange(drawn, width, MEASURES)
    assert found.width <= width
    check_inside(found.spots, found.width, found.height)


def all_parts(drawn: Iterable[Group]) -> list[Group | Core]:
    return [each for group in drawn for each in (group, *group.cores, *all_parts(group.children))]


@settings(max_examples=50, deadline=None)
@given(st.lists(groups, min_size=1, max_size=4), st.integers(30, 120))
def test_every_part_is_placed_once_and_in_order(drawn: list[Group], width: int) -> None:
    assert items(arrange(drawn, width, MEASURES).spots) == all_parts(drawn)


@pytest.mark.parametrize("width", [1, 5, 10])
def test_no_room_is_no_error(width: int) -> None:
    found: Arrangement = arrange([box("abc", box("x", count=3), box("y", count=2))], width, MEASURES)
    assert len(items(found.spots)) == 8
