# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The name that was probably meant, for a misspelt service or value."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

#: Comparing two names takes time that grows with the square of their length, and a server may send many long ones: so
#: many names are compared, by so many of their characters, of which this part must be the same.
_MOST_COMPARED: Final = 50
_COMPARED_LENGTH: Final = 64
_SIMILAR: Final = 0.6
#: A name may also be cut short: so much of the beginning of a longer one must be the same.
_SHORTEST_BEGINNING: Final = 3
_SIMILAR_BEGINNING: Final = 0.75


def did_you_mean(name: str, others: Iterable[str]) -> str | None:
    """The question after the name that was probably meant, as the end of a sentence; None when none is similar."""
    nearest = nearest_name(name, others)
    return None if nearest is None else f"; did you mean '{nearest}'?"


def nearest_name(name: str, others: Iterable[str]) -> str | None:
    """The name that is most like this one, or that begins most like it; None when none is similar."""
    others = list(others)
    nearest = _nearest(name, others, _COMPARED_LENGTH, _SIMILAR)
    if nearest is None and len(name) >= _SHORTEST_BEGINNING:
        nearest = _nearest(name, others, min(len(name) + 1, _COMPARED_LENGTH), _SIMILAR_BEGINNING)
    return nearest


def _nearest(name: str, others: list[str], length: int, least: float) -> str | None:
    """The name whose first characters are most like all of this one; None when the similarity is under `least`."""
    import difflib

    def compared(text: str) -> str:
        return text[:length].casefold()

    matcher = difflib.SequenceMatcher(autojunk=False, b=compared(name))

    def similarity(other: str, *, exact: bool) -> float:
        matcher.set_seq1(compared(other))
        return matcher.ratio() if exact else matcher.quick_ratio()

    likely = heapq.nlargest(_MOST_COMPARED, others, key=lambda other: similarity(other, exact=False))
    nearest = max(likely, key=lambda other: similarity(other, exact=True), default=None)
    return nearest if nearest is not None and similarity(nearest, exact=True) >= least else None
