# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Arrange: where each box of a picture goes, folded into rows so that no row is wider than asked for.

The unit is that of the renderer: a character, or a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from epa_orchestrator.picture.model import Core, Group

#: The most boxes that are tried in a row: more would take long, and hardly lie better.
_MOST_IN_A_ROW: Final = 16
#: Boxes with at least this part of the width of the widest one, or of the height of the highest one, get its size.
_NEARLY: Final = (4, 5)


@dataclass(frozen=True)
class Measures:
    """The sizes of a renderer's parts.

    A box has `pad` on its left and right, `top` for its label and `bottom` below its content. `label` is the width of
    its label, `core` the width and height of a core. `core_gap` and `gap` are between cores and between boxes, across
    and down.
    """

    pad: int
    top: int
    bottom: int
    gap: tuple[int, int]
    core_gap: tuple[int, int]
    core: Callable[[Core], tuple[int, int]]
    label: Callable[[Group], int]


class Spot(NamedTuple):
    """The place of a part in its box, and the part with its own places inside."""

    x: int
    y: int
    part: Placed


class Placed(NamedTuple):
    """A group or a core with its size; `spots` are the parts of a group."""

    item: Group | Core
    width: int
    height: int
    spots: tuple[Spot, ...] = ()


class Arrangement(NamedTuple):
    """The boxes of a whole picture."""

    width: int
    height: int
    spots: tuple[Spot, ...]


def arrange(groups: Sequence[Group], width: int, measures: Measures) -> Arrangement:
    """The places of all groups in this width; a single core is drawn even if it is wider."""
    return _Arranger(groups, measures).rows(groups, width)


class _Rows(NamedTuple):
    """Parts in rows: the size of all, and the place and the size of each."""

    width: int
    height: int
    places: list[tuple[int, int]]
    sizes: Sequence[tuple[int, int]]


class _Arranger:
    """Finds the places. Large machines have many equal boxes, so the rows of each shape and width are found once.

    Boxes of one kind get room for the longest label among them, so that they look alike.
    """

    def __init__(self, groups: Sequence[Group], measures: Measures) -> None:
        self._measures = measures
        self._labels: dict[object, int] = {}
        self._note_labels(groups)
        self._shapes: dict[object, int] = {}
        self._shape_of: dict[int, int] = {}
        self._found: dict[tuple[int, int], tuple[int, int]] = {}

    def _note_labels(self, groups: Sequence[Group]) -> None:
        for group in groups:
            kind = group.kind, bool(group.children)
            self._labels[kind] = max(self._labels.get(kind, 0), self._measures.label(group))
            self._note_labels(group.children)

    def _label(self, group: Group) -> int:
        return self._labels[group.kind, bool(group.children)]

    def rows(self, groups: Sequence[Group], width: int) -> Arrangement:
        """The groups in rows of this width."""
        across, rows = self._best(groups, width)
        share = self._share(width, across)
        parts = [
            self._place(group, share)._replace(width=size[0], height=size[1])
            for group, size in zip(groups, rows.sizes, strict=True)
        ]
        return Arrangement(rows.width, rows.height, _spots(rows.places, parts, 0, 0))

    def _place(self, group: Group, width: int) -> Placed:
        measures = self._measures
        inner = width - 2 * measures.pad
        if group.children:
            inside = self.rows(group.children, inner)
            spots = tuple([Spot(x + measures.pad, y + measures.top, part) for x, y, part in inside.spots])
        else:
            parts = [Placed(core, *measures.core(core)) for core in group.cores]
            places = _in_rows([part[1:3] for part in parts], inner, measures.core_gap).places
            spots = _spots(places, parts, measures.pad, measures.top)
        return Placed(group, *self._size(group, width), spots)

    def _size(self, group: Group, width: int) -> tuple[int, int]:
        """The size of a group that has this width for itself."""
        key = self._shape(group), width
        if key not in self._found:
            measures = self._measures
            inner = width - 2 * measures.pad
            if group.children:
                _, inside = self._best(group.children, inner)
            else:
                inside = _in_rows([measures.core(core) for core in group.cores], inner, measures.core_gap)
            needed = max(inside.width, min(self._label(group), inner))
            self._found[key] = needed + 2 * measures.pad, inside.height + measures.top + measures.bottom
        return self._found[key]

    def _best(self, groups: Sequence[Group], width: int) -> tuple[int, _Rows]:
        """The lowest of the rows with one, two and more groups in each, and how many; of equal ones the narrowest.

        No group is next to another one where its label would be cut, or a core is wider than its share of the row.
        """
        found: list[tuple[int, _Rows]] = []
        for across in range(1, min(len(groups), _MOST_IN_A_ROW) + 1):
            share = self._share(width, across)
            sizes = [self._size(group, share) for group in groups]
            if found and any(
                size[0] > share or self._is_cut(group, share) for size, group in zip(sizes, groups, strict=True)
            ):
                break
            found.append((across, _in_even_rows(sizes, width, self._measures.gap)))
        return min(found, key=lambda each: (each[1].height, each[1].width))

    def _is_cut(self, group: Group, width: int) -> bool:
        """Whether a label in the group, or the group's own one, would be cut in this width."""
        inner = width - 2 * self._measures.pad
        return self._label(group) > inner or any(self._is_cut(child, inner) for child in group.children)

    def _share(self, width: int, across: int) -> int:
        return (width - (across - 1) * self._measures.gap[0]) // across

    def _shape(self, group: Group) -> int:
        """A number that groups share if they have the same parts in the same sizes."""
        known = self._shape_of.get(id(group))
        if known is None:
            parts = [self._shape(child) for child in group.children] or [*map(self._measures.core, group.cores)]
            shape = self._label(group), bool(group.children), tuple(parts)
            known = self._shape_of[id(group)] = self._shapes.setdefault(shape, len(self._shapes))
        return known


def _in_rows(sizes: Sequence[tuple[int, int]], width: int, gap: tuple[int, int]) -> _Rows:
    """Parts of these sizes in rows, with as many in each as fit; rows of equal parts are filled evenly."""
    most = _evenly(sizes, width, gap[0])
    places: list[tuple[int, int]] = []
    x = y = right = row_height = in_row = 0
    for part_width, part_height in sizes:
        if in_row and (x + part_width > width or in_row == most):
            x, y = 0, y + row_height + gap[1]
            row_height = in_row = 0
        places.append((x, y))
        right = max(right, x + part_width)
        row_height = max(row_height, part_height)
        x += part_width + gap[0]
        in_row += 1
    return _Rows(right, y + row_height, places, sizes)


def _in_even_rows(sizes: Sequence[tuple[int, int]], width: int, gap: tuple[int, int]) -> _Rows:
    """Boxes in rows; those that are nearly as wide as the widest, or as high as others in their row, are evened."""
    widest = max(size[0] for size in sizes)
    sizes = [(_even(width, widest), height) for width, height in sizes]
    rows = _in_rows(sizes, width, gap)
    highest: dict[int, int] = {}
    for (_, y), (_, height) in zip(rows.places, sizes, strict=True):
        highest[y] = max(highest.get(y, 0), height)
    evened = [(size[0], _even(size[1], highest[place[1]])) for place, size in zip(rows.places, sizes, strict=True)]
    return rows._replace(sizes=evened)


def _even(size: int, largest: int) -> int:
    """The largest size in place of one that is nearly as large."""
    return largest if size * _NEARLY[1] >= largest * _NEARLY[0] else size


def _evenly(sizes: Sequence[tuple[int, int]], width: int, gap: int) -> int:
    """How many parts a row has if all rows have about as many."""
    widths = {size[0] for size in sizes}
    if len(widths) != 1:
        return len(sizes)
    fitting = max((width + gap) // (widths.pop() + gap), 1)
    rows = -(-len(sizes) // fitting)
    return -(-len(sizes) // rows)


def _spots(places: Sequence[tuple[int, int]], parts: Sequence[Placed], x: int, y: int) -> tuple[Spot, ...]:
    return tuple([Spot(x + left, y + top, part) for (left, top), part in zip(places, parts, strict=True)])
