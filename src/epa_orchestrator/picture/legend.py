# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Legend: the names of services in columns, as low as possible; two services never have the same text.

Names lose only what all of them have in common, which the legend then says once. Long names fold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from epa_orchestrator.picture.palette import CUT, columns_of, shorten

#: The least width of a column of names (columns of text): names get one more column only if each stays this wide.
_LEAST: Final = 8
#: The lines of a long name; its middle is left out, unless two names would look the same.
_LINES: Final = 2
#: The least characters that all names must have in common to be cut there.
_LEAST_CUT: Final = 3
#: Names fold after these characters, and before blanks, so that a blank at a fold can be seen.
_ENDS: Final = re.compile(r"(?<=[-._:/@])(?![-._:/@])|(?= )")


class Names(NamedTuple):
    """How many names are in a row, the lines of each name, and what the names have in common if they are cut."""

    across: int
    lines: tuple[tuple[str, ...], ...]
    common: str = ""


def lay_out(names: Sequence[str], tails: Sequence[str], room: Callable[[int], int], cut: str = CUT) -> Names:
    """The names, each followed by its tail, in as few lines as possible.

    `room` says how many columns a text has if so many texts are in a row; the character `cut` replaces what is left
    out. Of the lowest layouts it is one with whole names, if there is one, and the one with the widest columns.
    """
    start, end = _in_common(names)
    short = [_cut(name, start, end, cut) for name in names]
    forms = [names, short] if start or end else [names]
    found: list[tuple[int, int, int]] = []
    for number, form in enumerate(forms):
        widths = [columns_of(name + tail) for name, tail in zip(form, tails, strict=True)]
        columns = _columns(len(names), room)
        found += [(_height(widths, across, room(across)) + number, number, across) for across in columns]
    _, number, across = min(found, default=(0, 0, 1))
    lines = tuple(folded(forms[number], tails, room(across), cut))
    return Names(across, lines, f"{start}{cut}{end}" if number else "")


def folded(names: Sequence[str], tails: Sequence[str], room: int, cut: str = CUT) -> Iterator[tuple[str, ...]]:
    """The lines of each name with its tail, none wider than `room`; two names never have the same lines."""
    short = [shorten(name, max(_LINES * room - len(tail), 1), cut) for name, tail in zip(names, tails, strict=True)]
    times = Counter(short)
    for name, text, tail in zip(names, short, tails, strict=True):
        yield tuple(_fold((text if times[text] == 1 else name) + tail, max(room, 2)))


def _fold(text: str, room: int) -> Iterator[str]:
    """The lines of a text; they end with words if that takes no more lines."""
    while (width := columns_of(text)) > room:
        place = _fitting(text, room)
        ends = [found.start() for found in _ENDS.finditer(text, 1, place + 1)]
        word = max([end for end in ends if end <= place], default=place)
        if _lines(columns_of(text[word:]), room) < _lines(width, room):
            place = word
        yield text[:place]
        text = text[place:]
    yield text


def _lines(width: int, room: int) -> int:
    """How many lines a text of this width takes."""
    return -(-width // max(room, 1))


def _fitting(text: str, room: int) -> int:
    """How many characters of a text fit."""
    fitting = room
    while columns_of(text[:fitting]) > room:
        fitting -= 1
    return fitting


def _columns(count: int, room: Callable[[int], int]) -> Iterator[int]:
    """The numbers of names that may be in a row."""
    return takewhile(lambda across: across == 1 or room(across) >= _LEAST, range(1, count + 1))


def _height(widths: Sequence[int], across: int, room: int) -> int:
    """The lines of all rows, each as high as its widest text needs."""
    rows = [max(widths[start : start + across]) for start in range(0, len(widths), across)]
    return sum([_lines(width, room) for width in rows])


# --- what names have in common ---


def _in_common(names: Sequence[str]) -> tuple[str, str]:
    """What all names start and end with, up to a whole word or number; something of each name is left."""
    if len(names) < 2:
        return "", ""
    shortest = min(map(len, names))
    start = _common_start(names)
    end = _common_start([name[::-1] for name in names])[::-1]
    if len(start) + len(end) >= shortest:
        end = ""
    return ("" if len(start) >= shortest else start), end


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    same = [*takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    start = first[: len(same)]
    run = re.search(r"[0-9]+$|[^\W\d_]+$", start)
    if run and any(_is_inside(name, len(start)) for name in names):
        start = start[: run.start()]
    return start if len(start) >= _LEAST_CUT else ""


def _is_inside(name: str, place: int) -> bool:
    """Whether this place is inside of a word or of a number."""
    return re.match(r"[0-9]{2}|[^\W\d_]{2}", name[place - 1 : place + 1]) is not None


def _cut(name: str, start: str, end: str, cut: str) -> str:
    left = name[len(start) : len(name) - len(end)]
    return (cut if start else "") + left + (cut if end else "")
