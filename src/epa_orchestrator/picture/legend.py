# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Legend: the names of services in columns, as low as possible; two services never have the same text.

Widths are in the renderer's unit, characters or pixels.

Names lose only what all of them have in common, which the legend then says once. Long names fold.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from epa_orchestrator.picture.widths import CUT, Measure, columns_of, fitting, shorten

#: The least width of a column of names (digits): names get one more column only if each stays this wide.
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


def lay_out(
    names: Sequence[str],
    tails: Sequence[str],
    room: Callable[[int], float],
    cut: str = CUT,
    measure: Measure = columns_of,
) -> Names:
    """The names, each followed by its tail, in as few lines as possible.

    `room` says how much room a text has if so many texts are in a row; the character `cut` replaces what is left out.
    Of the lowest layouts it is one with whole names, if there is one, and the one with the widest columns.
    """
    start, end = _in_common(names)
    short = [_cut(name, start, end, cut) for name in names]
    forms = [names, short] if start or end else [names]
    found: list[tuple[int, int, int]] = []
    least = _LEAST * measure("0")
    for number, form in enumerate(forms):
        widths = [measure(name + tail) for name, tail in zip(form, tails, strict=True)]
        columns = takewhile(lambda across: across == 1 or room(across) >= least, range(1, len(names) + 1))
        found += [(_height(widths, across, room(across)) + number, number, across) for across in columns]
    _, number, across = min(found, default=(0, 0, 1))
    lines = tuple(folded(forms[number], tails, room(across), cut, measure))
    return Names(across, lines, f"{start}{cut}{end}" if number else "")


def folded(
    names: Sequence[str], tails: Sequence[str], room: float, cut: str = CUT, measure: Measure = columns_of
) -> Iterator[tuple[str, ...]]:
    """The lines of each name with its tail, none wider than `room`; two names never have the same lines."""
    room = max(room, 2)
    short = [_shortened(name, tail, room, cut, measure) for name, tail in zip(names, tails, strict=True)]
    times = Counter(short)
    for name, text, tail in zip(names, short, tails, strict=True):
        yield tuple(_fold((text if times[text] == 1 else name) + tail, room, measure))


def _shortened(name: str, tail: str, room: float, cut: str, measure: Measure) -> str:
    """The name if it has room in a few lines, or else without its middle."""
    most = _LINES * room - measure(tail)
    text = shorten(name, most, cut, measure)
    if text != name and len([*_fold(text + tail, room, measure)]) > _LINES:  # a line ends before its last pixel
        return shorten(name, most - max(map(measure, text)), cut, measure)
    return text


def _fold(text: str, room: float, measure: Measure) -> Iterator[str]:
    """The lines of a text; they end with words if that takes no more lines."""
    while (width := measure(text)) > room:
        place = max(fitting(text, room, measure), 1)
        ends = [found.start() for found in _ENDS.finditer(text, 1, place + 1)]
        word = max([end for end in ends if end <= place], default=place)
        if _lines(measure(text[word:]), room) < _lines(width, room):
            place = word
        yield text[:place]
        text = text[place:]
    yield text


def _lines(width: float, room: float) -> int:
    """How many lines a text of this width takes."""
    return math.ceil(width / max(room, 1))


def _height(widths: Sequence[float], across: int, room: float) -> int:
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
