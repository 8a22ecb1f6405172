# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""SVG: draws a picture as one file without references to others, for light and dark pages.

It folds into the width that is asked for, so that a narrow one stays legible without scaling.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final
from xml.sax.saxutils import escape

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.picture.arrange import Measures, Spot, arrange
from epa_orchestrator.picture.legend import folded, lay_out
from epa_orchestrator.picture.model import STATE_MARKS, STATE_NAMES, Core, Cpu, Group, Owner, Pages, Picture, State
from epa_orchestrator.picture.palette import COLOURS
from epa_orchestrator.picture.style import PATTERNS, STYLE
from epa_orchestrator.picture.widths import Measure, pixels_of, shorten, split
from epa_orchestrator.units import format_size

#: The width (pixels) unless another is asked for: legible without scaling on a screen of 400 pixels.
WIDTH: Final = 400
#: Narrower than this a machine with four threads in each core does not fit.
NARROWEST: Final = 240

_MARGIN: Final = 8
_CPU: Final = (28, 32)
#: The height of a box's label: the tails of its letters stay clear of the cores below.
_LABEL: Final = 20
_LINE: Final = 17
_ROW: Final = 24
#: How much wider than others (times) bold texts are at most.
_BOLD: Final = 1.15
#: The least width of an entry of the legend, and of a bar.
_ENTRY: Final = 178
_BAR: Final = 340
#: Where the text of an entry starts, and the gap between two columns of services.
_TEXT: Final = 28
_GAP: Final = 12
#: The mark of what another picture shows otherwise, in the corner of a legend's box.
_CORNER: Final = "M21.5 0.5v9l-9 -9z"
#: The legend of CPUs that another picture shows otherwise.
_DIFFERS: Final = "not as by default"
#: The most characters of one text, such as a CPU list with all its items.
_MOST: Final = 65_536


def draw(picture: Picture, width: int = WIDTH, title: str = "CPUs by owner") -> str:
    """The picture as the text of an SVG file; its width in pixels is `width` or less."""
    inner = max(width, NARROWEST) - 2 * _MARGIN
    parts = _Column(inner)
    parts.text("heading", title)
    parts.text("said", picture.summary)
    parts.gap()
    _machine(parts, picture)
    parts.gap()
    _legend(parts, picture)
    if picture.pages or picture.memory_only:
        parts.gap()
        _hugepages(parts, picture)
    across, down = inner + 2 * _MARGIN, parts.y + _MARGIN
    size = f'width="{across}" height="{down}" viewBox="0 0 {across} {down}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{_text_of(title)}</title>",
            f"<desc>{_text_of(_describe(picture))}</desc>",
            f"<style>\n{STYLE}\n</style>",
            PATTERNS,
            f'<rect class="paper" x="0.5" y="0.5" width="{across - 1}" height="{down - 1}" rx="6"/>',
            f'<g transform="translate({_MARGIN} 0)">',
            *parts.lines,
            "</g>",
            "</svg>\n",
        )
    )


class _Column:
    """Parts of the picture, one below the other."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.y = _MARGIN
        self.lines: list[str] = []

    def add(self, lines: Iterable[str], height: int) -> None:
        """Add drawn lines of this height."""
        self.lines += [f'<g transform="translate(0 {self.y})">', *lines, "</g>"]
        self.y += height

    def text(self, kind: str, text: str, x: int = 0) -> None:
        """Add a text, folded at its blanks."""
        size = 15 if kind == "heading" else 12
        wider = _BOLD if kind == "heading" else 1
        for line in fold(text, (self.width - x) / wider, partial(pixels_of, size=size)):
            self.add([_text(kind, x, size + 1, line)], _LINE + size - 12)

    def gap(self) -> None:
        """Leave a gap."""
        self.y += _MARGIN


def fold(text: str, room: float, measure: Measure) -> Iterator[str]:
    """The lines of a text, broken at blanks and after the commas of lists; longer words are shortened."""
    line = ""
    for piece in re.findall(r"[^ ,]+,*|,+| +", text):
        piece = shorten(piece, room, measure=measure)
        if measure(line + piece.rstrip()) > room:
            yield line.rstrip()
            line = ""
        line = line + piece if line else piece.lstrip()
    if line.strip():
        yield line.rstrip()


# --- the machine ---


def _machine(column: _Column, picture: Picture) -> None:
    measures = Measures(
        pad=5,
        top=_LABEL,
        bottom=5,
        gap=(6, 6),
        core_gap=(4, 4),
        core=lambda core: (_CPU[0], _CPU[1] * len(core.cpus)),
        label=lambda group: math.ceil(pixels_of(group.label)) + 4,
    )
    found = arrange(picture.groups, column.width, measures)
    column.add(_spots(found.spots, picture), found.height)


def _spots(spots: Iterable[Spot], picture: Picture) -> Iterator[str]:
    for x, y, part in spots:
        yield f'<g transform="translate({x} {y})">'
        if isinstance(part.item, Core):
            yield from _core(part.item, part.height, picture)
        else:
            yield from _box(part.item, part.width, part.height)
            yield from _spots(part.spots, picture)
        yield "</g>"


def _box(group: Group, width: int, height: int) -> Iterator[str]:
    yield f'<rect class="box {group.kind}" width="{width}" height="{height}" rx="4"/>'
    yield _text("label", 5, 13, _shortened(group.label, width - 8))


def _core(core: Core, height: int, picture: Picture) -> Iterator[str]:
    for number, cpu in enumerate(core.cpus):
        yield _cpu(cpu, core, number * _CPU[1], picture)
    yield f'<rect class="core" width="{_CPU[0]}" height="{height}" rx="3"/>'


def _cpu(cpu: Cpu, core: Core, y: int, picture: Picture) -> str:
    """One CPU: its mark above its id, and all about it on hover."""
    ink = f" o{cpu.owner % len(COLOURS)}" if cpu.owner is not None else ""
    mark = cpu.mark + STATE_MARKS[cpu.state] if cpu.owner is not None and cpu.state == "unavailable" else cpu.mark
    shapes = [f'<rect class="thread {cpu.state}{ink}" y="{y}" width="{_CPU[0]}" height="{_CPU[1]}"/>']
    if cpu.state == "unavailable":
        shapes.append(f'<path class="strike" d="M0 {y + _CPU[1]}L{_CPU[0]} {y}"/>')
    if cpu.state in ("withheld", "reserved"):
        shapes.append(f'<rect class="behind" x="3" y="{y + 2}" width="{_CPU[0] - 6}" height="{_CPU[1] - 4}" rx="2"/>')
    if cpu.differs:
        shapes.append(f'<path class="differs" d="M{_CPU[0]} {y}v9l-9 -9z"/>')
    middle = _CPU[0] // 2
    return (
        f'<g class="cpu" data-cpu="{cpu.id}" data-mark="{escape(mark)}" data-state="{cpu.state}">'
        f"<title>{_text_of(_hover(cpu, core, picture))}</title>{''.join(shapes)}"
        f"{_letter(f't{ink}', middle, y + 14, mark, _CPU[0] - 4)}{_text(f'id t{ink}', middle, y + 27, str(cpu.id))}</g>"
    )


def _hover(cpu: Cpu, core: Core, picture: Picture) -> str:
    state = STATE_NAMES.get(cpu.state, cpu.state)
    owner = f" by {picture.owners[cpu.owner].name}" if cpu.owner is not None else ""
    if cpu.withheld_for is not None:
        owner = f" for {picture.owners[cpu.withheld_for].name}"
    if cpu.state == "unavailable" and owner:
        state = "unavailable, claimed"
    kind = f", {core.type} core" if core.type else ""
    return f"CPU {cpu.id}: {state}{owner}; {core.place}{kind}"


# --- legend and hugepages ---


def _legend(column: _Column, picture: Picture) -> None:
    """The states and the services, each with its mark; in columns, or with the services' remarks below each other."""
    counts = picture.counts.items()
    texts: dict[State, str] = {
        state: f"{STATE_NAMES[state]}: {count}" for state, count in counts if state in STATE_MARKS
    }
    states = [_entry(f"thread {state}", "t", STATE_MARKS[state], [text], "state") for state, text in texts.items()]
    if picture.differs:
        corner = f'<path class="differs" d="{_CORNER}"/>{_text("rest", _TEXT, 15, _DIFFERS)}'
        states.append(f'<g class="entry">{corner}</g>')
    longest = max(map(pixels_of, texts.values()), default=0)
    _in_columns(column, states, max(math.ceil(longest) + _TEXT + _GAP, _ENTRY))
    if any(owner.remark for owner in picture.owners):
        _remarks(column, picture.owners)
    else:
        _services(column, picture.owners)


def _remarks(column: _Column, owners: Sequence[Owner]) -> None:
    """The services with their remarks, below each other."""
    names = folded(*_names(owners, ""), _room(column, 1), measure=pixels_of)
    for number, (owner, lines) in enumerate(zip(owners, names, strict=True)):
        column.add([_owner(number, lines, owner)], (_LINE + 1) * len(lines))
        column.text("remark", owner.remark, _TEXT)
        column.gap()


def _services(column: _Column, owners: Sequence[Owner]) -> None:
    """The services in columns, each as wide as the longest text needs."""
    found = lay_out(*_names(owners, ": "), lambda across: _room(column, across), measure=pixels_of)
    if found.common:
        column.text("rest", f"all services: {found.common}")
    longest = max((pixels_of(line) for lines in found.lines for line in lines), default=0)
    spread = min(math.ceil(longest) + _TEXT + 2 * _GAP, (column.width + _GAP) // found.across)
    entries = [*enumerate(zip(owners, found.lines, strict=True))]
    for start in range(0, len(entries), found.across):
        row = entries[start : start + found.across]
        drawn = [
            f'<g transform="translate({place * spread} 0)">{_owner(number, lines, owner)}</g>'
            for place, (number, (owner, lines)) in enumerate(row)
        ]
        column.add(drawn, _ROW + _LINE * (max(len(lines) for _, (_, lines) in row) - 1))


def _room(column: _Column, across: int) -> int:
    """How many pixels a service's text has if so many are in a row."""
    return (column.width + _GAP) // across - _GAP - _TEXT


def _names(owners: Sequence[Owner], before: str) -> tuple[list[str], list[str]]:
    """The names of services, and the numbers of their CPUs after this text, if there is one."""
    names = [printable(owner.name) for owner in owners]
    return names, [f"{before}{len(owner.cpus)}" if before else "" for owner in owners]


def _in_columns(column: _Column, entries: Sequence[str], least: int) -> None:
    """Entries of one line, each at least so wide."""
    across = max(column.width // least, 1)
    spread = column.width // across
    for start in range(0, len(entries), across):
        row = enumerate(entries[start : start + across])
        column.add([f'<g transform="translate({place * spread} 0)">{entry}</g>' for place, entry in row], _ROW)


def _owner(number: int, lines: Sequence[str], owner: Owner) -> str:
    ink = f"o{number % len(COLOURS)}"
    entry = _entry(f"thread claimed {ink}", f"t {ink}", owner.mark, lines, "service", differs=owner.differs)
    withheld = f"; withheld for it: {_owned(owner.withheld)}" if owner.withheld else ""
    return f"<g><title>{_text_of(f'{owner.name}: {_owned(owner.cpus)}{withheld}')}</title>{entry}</g>"


def _entry(box: str, ink: str, mark: str, lines: Sequence[str], kind: str, *, differs: bool = False) -> str:
    chip = f'<rect class="{box}" x="0.5" y="0.5" width="21" height="19"/>'
    has_pattern = "withheld" in box or "reserved" in box
    behind = '<rect class="behind" x="4" y="3" width="14" height="14" rx="2"/>' if has_pattern else ""
    corner = f'<path class="differs" d="{_CORNER}"/>' if differs else ""
    shown = _letter(ink, 11, 15, mark, 20)
    return f'<g class="entry">{chip}{behind}{corner}{shown}{_lines(kind, lines)}</g>'


def _lines(kind: str, lines: Sequence[str]) -> str:
    """The text of an entry; its blanks count, as names may differ in nothing else."""
    parts = [
        f'<text class="{kind}" x="{_TEXT}" y="{15 + number * _LINE}" xml:space="preserve">{_text_of(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return "".join(parts)


def _hugepages(column: _Column, picture: Picture) -> None:
    if picture.pages:
        column.text("label", "Hugepages by NUMA node")
        _key_of_bars(column)
    across = max(column.width // _BAR, 1)
    spread = column.width // across
    for start in range(0, len(picture.pages), across):
        row = enumerate(picture.pages[start : start + across])
        drawn = [line for place, pages in row for line in _bar(pages, place * spread, spread)]
        column.add(drawn, _ROW + 10)
    if picture.memory_only:
        column.text("rest", f"NUMA nodes without CPUs: {picture.memory_only}")


def _key_of_bars(column: _Column) -> None:
    x = 0
    for name, words in (("recorded", "recorded"), ("others", "in use by others, or reserved"), ("free", "free")):
        width = 17 + math.ceil(pixels_of(words))
        if x and x + width > column.width:
            x = 0
            column.y += _ROW
        chip = f'<rect class="bar {name}" x="{x}.5" y="4.5" width="12" height="11"/>'
        column.add([chip, _text("rest", x + 17, 14, words)], 0)
        x += width + _MARGIN
    column.y += _ROW


def _bar(pages: Pages, x: int, width: int) -> Iterator[str]:
    recorded = f", {pages.recorded} recorded" if pages.recorded else ""
    numbers = f"{pages.free} of {pages.total} free{recorded}"
    line = f"node {pages.node_id}, {format_size(pages.size_kb)}: {numbers}"
    yield _text("rest", x, 25, _shortened(line, width - _MARGIN))
    lengths = split(width - _MARGIN, (pages.recorded, pages.others, pages.free))
    for name, length in zip(("recorded", "others", "free"), lengths, strict=True):
        if length:
            yield f'<rect class="bar {name}" x="{x}.5" y="0.5" width="{length}" height="10"/>'
        x += length


def _describe(picture: Picture) -> str:
    parts = [f"{owner.name}: {owner.remark or _owned(owner.cpus)}" for owner in picture.owners]
    return "; ".join([picture.summary, *parts])


def _owned(cpus: CpuSet) -> str:
    return f"{'CPU' if len(cpus) == 1 else 'CPUs'} {cpus}"


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{_text_of(text)}</text>'


def _letter(ink: str, x: int, y: int, mark: str, room: int) -> str:
    """The mark of a CPU; one that is too wide is drawn narrower."""
    too_wide = pixels_of(mark, 13) * _BOLD > room
    narrow = f' textLength="{room}" lengthAdjust="spacingAndGlyphs"' if too_wide else ""
    return f'<text class="letter {ink}" x="{x}" y="{y}"{narrow}>{_text_of(mark)}</text>'


def _shortened(text: str, room: float) -> str:
    return shorten(text, room, measure=pixels_of)


def _text_of(text: str) -> str:
    """A text for XML: printable, and escaped."""
    return escape(shorten(text, _MOST))
