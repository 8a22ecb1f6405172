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
    STATE_NAMES,
    Core,
    Cpu,
    Group,
    Kind,
    Owner,
    Pages,
    Picture,
)
from epa_orchestrator.picture.palette import COLOURS, shorten, shorten_list, split
from epa_orchestrator.units import format_size

#: The most lines of boxes with the id of each CPU; a higher drawing has the marks only.
_MOST_LINES: Final = 48
#: The most columns of a service's name in the legend, and of the CPU list in a border.
_NAME: Final = 24
_LIST: Final = 20
_LONGEST_BAR: Final = 40


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

_OWNED: Final = [Style(color=colour.ink, bgcolor=colour.paper, bold=True) for colour in COLOURS]
_STATES: Final = {
    "withheld": Style(dim=True),
    "offline": Style(dim=True),
    "not-isolated": Style(dim=True),
    "free": Style(bold=True),
}


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
    lines = [*map(Text, textwrap.wrap(picture.summary, max(columns, 1))), Text()]
    lines += _boxes(picture, columns, plain=plain)
    lines += [Text(), *_legend(picture, columns, plain=plain)]
    if picture.pages or picture.memory_only:
        lines += [Text(), *_hugepages(picture, columns, plain=plain)]
    for line in lines:
        line.truncate(columns)
        line.rstrip()
    return lines


def _boxes(picture: Picture, columns: int, *, plain: bool) -> list[Text]:
    every = [core for group in picture.groups for core in _cores_of(group)]
    marks = max((len(cpu.mark) for core in every for cpu in core.cpus), default=1)
    with_state = marks + ("unavailable" in picture.counts)
    ids = max((len(str(cpu.id)) for core in every for cpu in core.cpus), default=1)
    detailed = _Form(True, max(with_state, ids), plain)
    found = _arrange(picture, columns, detailed)
    if found.height <= _MOST_LINES and found.width <= columns:
        return _paint(found, detailed)
    compact = _Form(False, marks, plain)
    return _paint(_arrange(picture, columns, compact), compact)


def _cores_of(group: Group) -> Iterator[Core]:
    yield from group.cores
    for child in group.children:
        yield from _cores_of(child)


def _arrange(picture: Picture, columns: int, form: _Form) -> Arrangement:
    measures = Measures(
        pad=2,
        top=1,
        bottom=1,
        gap=(1, 0),
        core_gap=(0 if form.ids else 1, 0),
        core=form.core,
        label=lambda group: max(cell_len(group.label), len(form.foot(group))) + 2,
    )
    return arrange(picture.groups, columns, measures)


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
        return _OWNED[cpu.owner % len(_OWNED)]
    return _STATES.get(cpu.state)


# --- legend ---


def _legend(picture: Picture, columns: int, *, plain: bool) -> Iterator[Text]:
    """The states, then the services in as many columns as fit."""
    states: list[Text] = []
    for state, count in picture.counts.items():
        if state in STATE_MARKS:
            text = Text(STATE_MARKS[state], style=_STATES.get(state, ""))
            states.append(text.append(f" {STATE_NAMES[state]} {count}", ""))
    yield from _folded(states, columns)
    yield from _in_columns([_owner(owner, number, plain) for number, owner in enumerate(picture.owners)], columns)


def _owner(owner: Owner, number: int, plain: bool) -> Text:
    name = shorten(owner.name, _NAME)
    if plain:
        name = name.encode("ascii", "replace").decode()
    text = Text(owner.mark, style=_OWNED[number % len(_OWNED)])
    return text.append(f" {name} {len(owner.cpus)}", "")


def _folded(entries: Sequence[Text], columns: int) -> Iterator[Text]:
    """The entries one after the other, in as few lines as possible."""
    line = Text()
    for entry in entries:
        if line and line.cell_len + 3 + entry.cell_len > columns:
            yield line
            line = Text()
        line.append_text(Text("   " if line else "")).append_text(entry)
    if line:
        yield line


def _in_columns(entries: Sequence[Text], columns: int) -> Iterator[Text]:
    """The entries in rows, below each other."""
    if not entries:
        return
    width = max(entry.cell_len for entry in entries) + 3
    across = max((columns + 3) // width, 1)
    for start in range(0, len(entries), across):
        line = Text()
        for entry in entries[start : start + across]:
            line.append_text(entry).append(" " * (width - entry.cell_len))
        yield line


# --- hugepages ---

_BARS: Final = ("█", "▒", "·")
_PLAIN_BARS: Final = ("#", "x", ".")


def _hugepages(picture: Picture, columns: int, *, plain: bool) -> Iterator[Text]:
    marks = _PLAIN_BARS if plain else _BARS
    if picture.pages:
        names = ("recorded", "in use by others or reserved", "free")
        key = "  ".join(f"{mark} {name}" for mark, name in zip(marks, names, strict=True))
        yield Text(f"hugepages  {key}")
    heads = [f"node {each.node_id} {format_size(each.size_kb):>4}" for each in picture.pages]
    digits = max((len(str(each.total)) for each in picture.pages), default=1)
    tails = [
        f"{each.recorded:>{digits}} recorded  {each.others:>{digits}} others  {each.free:>{digits}} free"
        f"  of {each.total:>{digits}}"
        for each in picture.pages
    ]
    head_width, tail_width = max(map(len, heads), default=0), max(map(len, tails), default=0)
    bar = min(columns - head_width - tail_width - 4, _LONGEST_BAR)
    for pages, head, tail in zip(picture.pages, heads, tails, strict=True):
        shown = f"{_bar(pages, bar, marks)}  " if bar >= 8 else ""
        yield Text(f"{head:<{head_width}}  {shown}{tail}")
    if picture.memory_only:
        yield Text(f"NUMA nodes without CPUs: {picture.memory_only}")


def _bar(pages: Pages, width: int, marks: tuple[str, str, str]) -> str:
    """A bar of the pages in this order: recorded, in use by others, free. No part that has pages is left out."""
    parts = split(width, (pages.recorded, pages.others, pages.free))
    return "".join(mark * length for mark, length in zip(marks, parts, strict=True))
