# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Widths: how much room a printable text takes, in columns of a terminal or in pixels of the SVG, and texts cut to it.

A viewer chooses the font of an SVG, so pixels are those of DejaVu Sans, which is as wide as Verdana and wider than the
other fonts that the style sheet names.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

from epa_orchestrator.errors import printable

#: The mark of what is left out of a text.
CUT: Final = "…"

#: The width of a text, which is the sum of those of its characters.
Measure = Callable[[str], float]

#: The advance widths of DejaVu Sans, in thousandths of the font size.
_WIDTHS: Final = {
    char: width
    for width, chars in {
        278: "'ijl",
        295: "IJ",
        337: " ,./:;\\|",
        401: "-()[]!ft",
        460: 'r"',
        531: "*_`sz?",
        557: "cL",
        592: "Fkvxy",
        613: "PTYoa",
        636: "eEhnuSbdgpq$0123456789{}",
        686: "KAVXZB",
        698: "RC",
        752: "UNH",
        787: "DG&OQ",
        838: "w#+<=>^~",
        863: "M",
        989: "%mW",
        1000: "@…",
    }.items()
    for char in chars
}
#: The widths of all others: of two columns, as Chinese and emoji, or of one. Few letters are wider.
_WIDE: Final = 1250
_OTHER: Final = 1100


def columns_of(text: str) -> int:
    """How many columns a printable text takes: two for each wide character, as of Chinese."""
    if text.isascii():
        return len(text)
    return len(text) + sum([unicodedata.east_asian_width(char) in "WF" for char in text])


def pixels_of(text: str, size: int = 12) -> float:
    """How many pixels a printable text of this font size takes at most, in nearly all fonts and scripts."""
    return sum([*map(_thousandths, text)]) * size / 1000


def fitting(text: str, room: float, measure: Measure) -> int:
    """How many characters of a text, from its beginning, have room."""
    return bisect_right([*accumulate(map(measure, text))], room)


def shorten(text: str, most: float, cut: str = CUT, measure: Measure = columns_of) -> str:
    """A printable text that is at most so wide; `cut` replaces its middle, as names often differ at their ends."""
    text = printable(text)
    if measure(text) <= most:
        return text
    start = text[: fitting(text, most // 2, measure)]
    end = fitting(text[::-1], most - measure(start) - measure(cut), measure)
    return f"{start}{cut}{text[len(text) - end :]}"


def shorten_list(cpus: str, most: int) -> str:
    """A CPU list of at most this many characters, cut at a comma."""
    if len(cpus) <= most:
        return cpus
    return cpus[: cpus.rfind(",", 0, most - 1) + 1] + CUT


def split(width: int, counts: Sequence[int]) -> list[int]:
    """A width divided in proportion to counts; a count over 0 gets 1 at least, if there is room for all."""
    total = sum(counts)
    if total == 0:
        return [0] * len(counts)
    parts = [max(width * count // total, int(count > 0)) for count in counts]
    parts[parts.index(max(parts))] += width - sum(parts)
    return parts


@lru_cache(4096)
def _thousandths(char: str) -> int:
    """The width of a character, in thousandths of the font size. An accent adds nothing to its letter."""
    if (width := _WIDTHS.get(char)) is not None:
        return width
    if unicodedata.east_asian_width(char) in "WF":
        return _WIDE
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    letter = unicodedata.normalize("NFD", char)[0]
    return _WIDTHS.get(letter, _OTHER)
