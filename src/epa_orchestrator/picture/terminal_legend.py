# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Terminal legend: the lines of the legend and of the hugepages, for any number of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.style import Style
from rich.text import Text

from epa_orchestrator.errors import printable
from epa_orchestrator.picture.legend import lay_out
from epa_orchestrator.picture.model import STATE_MARKS, STATE_NAMES, Owner, Pages, Picture
from epa_orchestrator.picture.palette import COLOURS
from epa_orchestrator.picture.widths import CUT, shorten_list, split
from epa_orchestrator.units import format_size

OWNED: Final = [Style(color=colour.ink, bgcolor=colour.paper, bold=True) for colour in COLOURS]
STATES: Final = {
    "withheld": Style(dim=True),
    "offline": Style(dim=True),
    "not-isolated": Style(dim=True),
    "free": Style(bold=True),
    "free-general": Style(bold=True),
}
#: The columns between two entries.
_GAP: Final = 3
#: The most columns of a list of withheld CPUs.
_LIST: Final = 12
#: Where names are cut, if only ASCII characters may be used.
_PLAIN_CUT: Final = "*"

_LONGEST_BAR: Final = 40
_SHORTEST_BAR: Final = 8
_BARS: Final = ("█", "▒", "·")
_PLAIN_BARS: Final = ("#", "x", ".")


def legend(picture: Picture, columns: int, *, plain: bool) -> Iterator[Text]:
    """The states, then the services in as many columns as fit."""
    states: list[Text] = []
    for state, count in picture.counts.items():
        if state in STATE_MARKS:
            text = Text(STATE_MARKS[state], style=STATES.get(state, ""))
            states.append(text.append(f" {STATE_NAMES[state]} {count}", ""))
    yield from _folded(states, columns)
    if picture.owners:
        yield from _services(picture.owners, columns, plain)


def _services(owners: Sequence[Owner], columns: int, plain: bool) -> Iterator[Text]:
    """The services in rows, below each other."""
    marks = max(len(owner.mark) for owner in owners) + 1
    names = [_shown(owner.name, plain) for owner in owners]
    tails = [f" {len(owner.cpus)}{_withheld(owner)}" for owner in owners]
    cut = _PLAIN_CUT if plain else CUT
    found = lay_out(names, tails, lambda across: (columns + _GAP) // across - _GAP - marks, cut)
    if found.common:
        yield from _folded([Text("all services:"), Text(found.common)], columns, 1)
    entries: list[list[Text]] = []
    for number, (owner, lines) in enumerate(zip(owners, found.lines, strict=True)):
        first = Text(owner.mark, style=OWNED[number % len(OWNED)])
        room = len(owner.mark) + 1
        entries.append([first.append(f" {lines[0]}", ""), *[Text(" " * room + text) for text in lines[1:]]])
    yield from _in_columns(entries, found.across)


def _withheld(owner: Owner) -> str:
    """The CPUs that are withheld because of a service, after the mark of their state."""
    if not owner.withheld:
        return ""
    return f" ({STATE_MARKS['withheld']}{shorten_list(str(owner.withheld), _LIST)})"


def _shown(name: str, plain: bool) -> str:
    """A name as it can be printed; in ASCII with escapes, so that two names stay different."""
    name = printable(name)
    return name.encode("unicode_escape").decode() if plain else name


def _in_columns(entries: Sequence[Sequence[Text]], across: int) -> Iterator[Text]:
    """Entries of one or more lines, so many in a row."""
    width = max(line.cell_len for entry in entries for line in entry) + _GAP
    for start in range(0, len(entries), across):
        row = entries[start : start + across]
        for number in range(max(map(len, row))):
            line = Text()
            for entry in row:
                text = entry[number] if number < len(entry) else Text()
                line.append_text(text).append(" " * (width - text.cell_len))
            yield line


def _folded(entries: Sequence[Text], columns: int, gap: int = _GAP, indent: int = 0) -> Iterator[Text]:
    """The entries one after the other, in as few lines as possible."""
    line = Text(" " * indent)
    for entry in entries:
        if line.cell_len > indent and line.cell_len + gap + entry.cell_len > columns:
            yield line
            line = Text(" " * indent)
        line.append_text(Text(" " * gap if line.cell_len > indent else "")).append_text(entry)
    if line.cell_len > indent:
        yield line


# --- hugepages ---


def hugepages(picture: Picture, columns: int, *, plain: bool) -> Iterator[Text]:
    """The hugepages of each node and size: a bar and the numbers, on two lines if one is too short."""
    marks = _PLAIN_BARS if plain else _BARS
    if picture.pages:
        names = ("recorded", "in use by others or reserved", "free")
        key = [Text(f"{mark} {name}") for mark, name in zip(marks, names, strict=True)]
        yield from _folded([Text("hugepages"), *key], columns, 2)
    heads = [_head(each) for each in picture.pages]
    digits = max((len(str(each.total)) for each in picture.pages), default=1)
    head_width = max(map(len, heads), default=0)
    for pages, head in zip(picture.pages, heads, strict=True):
        numbers = [
            f"{pages.recorded:>{digits}} recorded",
            f"{pages.others:>{digits}} others",
            f"{pages.free:>{digits}} free",
        ]
        total = f"of {pages.total:>{digits}}"
        tail = "  ".join([*numbers, total])
        start = f"{head:<{head_width}}  "
        bar = min(columns - len(start) - len(tail) - 2, _LONGEST_BAR)
        if bar >= _SHORTEST_BAR:
            yield Text(f"{start}{_bar(pages, bar, marks)}  {tail}")
        elif len(start) + len(tail) <= columns:
            yield Text(f"{start}{tail}")
        else:
            bar = max(columns - len(start) - len(total) - 2, 1)
            yield Text(f"{start}{_bar(pages, bar, marks)}  {total}")
            yield from _folded([*map(Text, numbers)], columns, 2, 2)
    yield from _memory_only(picture)


def dense_hugepages(picture: Picture, columns: int) -> Iterator[Text]:
    """The free hugepages of each node and size, without bars and with several in a line."""
    shown = [Text(f"{' '.join(_head(each).split())}: {each.free} of {each.total}") for each in picture.pages]
    if shown:
        yield from _folded([Text("free hugepages:"), *shown], columns)
    yield from _memory_only(picture)


def _head(pages: Pages) -> str:
    return f"node {pages.node_id} {format_size(pages.size_kb):>4}"


def _memory_only(picture: Picture) -> Iterator[Text]:
    if picture.memory_only:
        yield Text(f"NUMA nodes without CPUs: {picture.memory_only}")


def _bar(pages: Pages, width: int, marks: tuple[str, str, str]) -> str:
    """A bar of the pages in this order: recorded, in use by others, free. No part that has pages is left out."""
    parts = split(width, (pages.recorded, pages.others, pages.free))
    return "".join(mark * length for mark, length in zip(marks, parts, strict=True))
