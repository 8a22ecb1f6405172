# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Terminal: draws a picture with characters, for any number of columns, with colours or without.

Small machines show the id of each CPU above its mark. Larger ones show the marks only, and the CPUs of each box in its
lower border.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.picture.arrange import Arrangement, Measures, Spot, arrange
from epa_orchestrator.picture.model import (
    STATE_MARKS,
    Core,
    Cpu,
    Group,
    Kind,
    Picture,
    without_l3,
)
from epa_orchestrator.picture.terminal_legend import OWNED, STATES, dense_hugepages, hugepages, legend
from epa_orchestrator.picture.widths import shorten, shorten_list

#: The most lines of boxes with the id of each CPU; a higher drawing has the marks only.
_MOST_LINES: Final = 48
#: The most columns of the CPU list in a border.
_LIST: Final = 20


class Border(NamedTuple):
    """The characters of a box: corners from the upper left one clockwise, then the lines across and down."""

    corners: str
    across: str
    down: str


_BORDERS: Final[dict[Kind, Border]] = {
    "package": Border("┏┓┛┗", "━", "┃"),
    "node": Border("┌┐┘└", "─", "│"),
    "l3": Border("╭╮╯╰", "┄", "┊"),
    "offline": Border("┌┐┘└", "╌", "╎"),
}
_PLAIN: Final = Border("++++", "-", "|")


@dataclass(frozen=True)
class _Form:
    """How CPUs are shown: with ids or without, and the columns of a thread."""

    ids: bool
    thread: int
    plain: bool

    def core(self, core: Core) -> tuple[int, int]:
        """The width and height of a core."""
        if self.ids:
            return len(core.cpus) * (self.thread + 1) + 1, 2
        return len(core.cpus) * self.thread, 1

    def foot(self, group: Group) -> str:
        """The text in the lower border of a box: without ids, the CPUs of the innermost one."""
        if self.ids or not group.cores:
            return ""
        return shorten_list(str(CpuSet(cpu.id for core in group.cores for cpu in core.cpus)), _LIST)

    def mark(self, cpu: Cpu) -> str:
        """The text of a thread without its id."""
        if cpu.state != "unavailable":
            return cpu.mark
        unavailable = STATE_MARKS[cpu.state]
        return cpu.mark + unavailable if len(cpu.mark) < self.thread else unavailable


def draw(picture: Picture, columns: int, *, plain: bool = False) -> list[Text]:
    """The lines of a picture, none wider than `columns`. `plain` uses ASCII characters only.

    Below 30 columns boxes do not fit, and lines are cut.
    """
    parts = [_summary(picture, columns), _boxes(picture, columns, plain)]
    parts.append([*legend(picture, columns, plain=plain)])
    parts.append([*hugepages(picture, columns, plain=plain)])
    return _trimmed(_apart(parts), columns)


def draw_on_screen(picture: Picture, columns: int, most: int, *, plain: bool = False) -> list[Text]:
    """The lines of a picture, `most` at most: as detailed as has room, or the summary and the legend first.

    The last line then says how many lines of the drawing are missing.
    """
    whole = draw(picture, columns, plain=plain)
    if len(whole) <= most:
        return whole
    summary, marks = _summary(picture, columns), [*legend(picture, columns, plain=plain)]
    drawings = _ever_denser(picture, columns, plain)
    dense = [*dense_hugepages(picture, columns)]
    for found, form in drawings:
        for pages in ([*hugepages(picture, columns, plain=plain)], dense):
            if found.height + len(summary) + len(marks) + len(pages) <= most:
                parts = [summary, _paint(found, form), marks, pages]
                apart = _apart(parts)
                return _trimmed(apart if len(apart) <= most else _close(parts), columns)
    lowest = min(drawings, key=lambda drawing: drawing[0].height)
    lines = _close([summary, marks, _paint(*lowest), dense])
    shown = max(most - 1, 0)
    return _trimmed([*lines[:shown], Text(f"({len(lines) - shown} more lines)")], columns)


def _summary(picture: Picture, columns: int) -> list[Text]:
    return [*map(Text, textwrap.wrap(picture.summary, max(columns, 1)))]


def _apart(parts: Iterable[list[Text]]) -> list[Text]:
    """The lines of the parts, with an empty one between them."""
    return [line for part in parts if part for line in (Text(), *part)][1:]


def _close(parts: Iterable[list[Text]]) -> list[Text]:
    return [line for part in parts for line in part]


def _trimmed(lines: list[Text], columns: int) -> list[Text]:
    for line in lines:
        line.truncate(columns)
        line.rstrip()
    return lines


def _boxes(picture: Picture, columns: int, plain: bool) -> list[Text]:
    detailed, compact = _forms(picture, plain)
    found = _arrange(picture.groups, columns, detailed)
    if found.height <= _MOST_LINES and found.width <= columns:
        return _paint(found, detailed)
    return _paint(_arrange(picture.groups, columns, compact), compact)


def _ever_denser(picture: Picture, columns: int, plain: bool) -> list[tuple[Arrangement, _Form]]:
    """The boxes with ids or without, each with the boxes of L3 domains or without; only those that are complete."""
    detailed, compact = _forms(picture, plain)
    both = picture.groups, without_l3(picture.groups)
    found = [(_arrange(groups, columns, form), form) for form in (detailed, compact) for groups in both]
    return [(boxes, form) for boxes, form in found if boxes.width <= columns or form is compact]


def _forms(picture: Picture, plain: bool) -> tuple[_Form, _Form]:
    """The forms with ids and without."""
    every = [core for group in picture.groups for core in _cores_of(group)]
    marks = max((len(cpu.mark) for core in every for cpu in core.cpus), default=1)
    with_state = marks + ("unavailable" in picture.counts)
    ids = max((len(str(cpu.id)) for core in every for cpu in core.cpus), default=1)
    return _Form(True, max(with_state, ids), plain), _Form(False, marks, plain)


def _cores_of(group: Group) -> Iterator[Core]:
    yield from group.cores
    for child in group.children:
        yield from _cores_of(child)


def _arrange(groups: Sequence[Group], columns: int, form: _Form) -> Arrangement:
    measures = Measures(
        pad=2,
        top=1,
        bottom=1,
        gap=(1, 0),
        core_gap=(0 if form.ids else 1, 0),
        core=form.core,
        label=lambda group: max(cell_len(group.label), len(form.foot(group))) + 2,
    )
    return arrange(groups, columns, measures)


class _Canvas:
    """Characters with their styles, line by line."""

    def __init__(self, width: int, height: int) -> None:
        self._cells: list[list[tuple[str, Style | None]]] = [[(" ", None)] * width for _ in range(height)]

    def write(self, x: int, y: int, text: str, style: Style | None = None) -> None:
        """Write a text whose characters are one column wide each."""
        self._cells[y][x : x + len(text)] = [(char, style) for char in text]

    def lines(self) -> Iterator[Text]:
        """The lines as texts."""
        for row in self._cells:
            line = Text()
            run, style = "", None
            for char, own in row:
                if own is not style:
                    line.append(run, style)
                    run, style = "", own
                run += char
            line.append(run, style)
            yield line


def _paint(found: Arrangement, form: _Form) -> list[Text]:
    canvas = _Canvas(found.width, found.height)
    _paint_spots(canvas, found.spots, 0, 0, form)
    return [*canvas.lines()]


def _paint_spots(canvas: _Canvas, spots: Iterable[Spot], x: int, y: int, form: _Form) -> None:
    for left, top, part in spots:
        if isinstance(part.item, Core):
            _paint_core(canvas, part.item, x + left, y + top, form)
        else:
            _paint_box(canvas, part.item, (x + left, y + top, part.width, part.height), form)
            _paint_spots(canvas, part.spots, x + left, y + top, form)


def _paint_box(canvas: _Canvas, group: Group, place: tuple[int, int, int, int], form: _Form) -> None:
    x, y, width, height = place
    corners, across, down = _PLAIN if form.plain else _BORDERS[group.kind]
    canvas.write(x, y, corners[0] + _in_border(group.label, width, across) + corners[1])
    for row in range(y + 1, y + height - 1):
        canvas.write(x, row, down)
        canvas.write(x + width - 1, row, down)
    canvas.write(x, y + height - 1, corners[3] + _in_border(form.foot(group), width, across) + corners[2])


def _in_border(text: str, width: int, across: str) -> str:
    """The border between the corners of a box of this width, with a text in it."""
    shown = f" {shorten(text, width - 4)} " if text else ""
    return shown.ljust(width - 2, across)


def _paint_core(canvas: _Canvas, core: Core, x: int, y: int, form: _Form) -> None:
    if not form.ids:
        for number, cpu in enumerate(core.cpus):
            canvas.write(x + number * form.thread, y, form.mark(cpu).ljust(form.thread), _style(cpu))
        return
    canvas.write(x, y + 1, "[")
    for number, cpu in enumerate(core.cpus):
        left = x + 1 + number * (form.thread + 1)
        canvas.write(left, y, str(cpu.id).rjust(form.thread))
        canvas.write(left, y + 1, form.mark(cpu).rjust(form.thread), _style(cpu))
    canvas.write(x + form.core(core)[0] - 1, y + 1, "]")


def _style(cpu: Cpu) -> Style | None:
    if cpu.owner is not None:
        return OWNED[cpu.owner % len(OWNED)]
    return STATES.get(cpu.state)
