# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Palette: the colours of owners, and texts as short as a picture needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from epa_orchestrator.errors import printable
from epa_orchestrator.picture.widths import Measure, columns_of, fitting

#: The mark of what is left out of a text.
CUT: Final = "…"


class Colour(NamedTuple):
    """A background, and the colour of text on it that stands out best."""

    paper: str
    ink: str


#: The colours of Okabe and Ito, which colour-blind readers can distinguish. Services share them in turn.
COLOURS: Final = (
    Colour("#e69f00", "#000000"),
    Colour("#56b4e9", "#000000"),
    Colour("#f0e442", "#000000"),
    Colour("#009e73", "#000000"),
    Colour("#cc79a7", "#000000"),
    Colour("#0072b2", "#ffffff"),
    Colour("#d55e00", "#000000"),
)


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
    return cpus[: cpus.rfind(",", 0, most - 1) + 1] + "…"


def split(width: int, counts: Sequence[int]) -> list[int]:
    """A width divided in proportion to counts; a count over 0 gets 1 at least, if there is room for all."""
    total = sum(counts)
    if total == 0:
        return [0] * len(counts)
    parts = [max(width * count // total, int(count > 0)) for count in counts]
    parts[parts.index(max(parts))] += width - sum(parts)
    return parts
