# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Palette: the colours of owners."""

from __future__ import annotations

from typing import Final, NamedTuple


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
