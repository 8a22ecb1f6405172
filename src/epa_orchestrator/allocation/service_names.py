# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Service names: which service a name means, and which names a new service may not have. Pure.

Two spellings of one name are one service, and a name with invisible parts is an error, so that nobody releases the
wrong claim by mistake. A name that already holds something is used as it is, so that its owner can release it.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from epa_orchestrator.names import MAX_NAME_LENGTH

#: The code points that are invisible by default, as (first, last).
#: Source: property Default_Ignorable_Code_Point, DerivedCoreProperties.txt of Unicode 14 and 15.
DEFAULT_IGNORABLE: Final = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors and vowel separator
    (0x200B, 0x200F),  # zero width space to right-to-left mark
    (0x202A, 0x202E),  # directional embeddings and overrides
    (0x2060, 0x206F),  # word joiner to nominal digit shapes
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # zero width no-break space
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0xFFF0, 0xFFF8),  # reserved
    (0x1BCA0, 0x1BCA3),  # shorthand format controls
    (0x1D173, 0x1D17A),  # musical symbol format controls
    (0xE0000, 0xE0FFF),  # tags, more variation selectors, reserved
)
_FIRSTS: Final = [first for first, _ in DEFAULT_IGNORABLE]

#: Printable, and yet blank on a screen: the space (no other white space is printable), the Braille pattern without
#: dots, and the null notehead of musical notation.
_BLANKS: Final = " \u2800\U0001d159"


def resolve(name: str, holds_something: Callable[[str], bool]) -> str:
    """The service that a name means: the one with exactly this name, or else the one with its NFC form."""
    if name.isascii() or holds_something(name):
        return name
    return unicodedata.normalize("NFC", name)


def problem(name: str) -> str | None:
    """Why a new service may not have this name (in NFC), as the end of a sentence; None when it may."""
    if name.strip(_BLANKS) != name:
        return "must not begin or end with a blank"
    if name.isascii():
        return None
    if len(name) > MAX_NAME_LENGTH:
        return f"must have at most {MAX_NAME_LENGTH} characters in Unicode's form NFC, not {len(name)}"
    invisible = next((char for char in name if is_default_ignorable(ord(char))), None)
    return None if invisible is None else f"must not hold the invisible character U+{ord(invisible):04X}"


def is_default_ignorable(code_point: int) -> bool:
    """Whether a code point is in DEFAULT_IGNORABLE."""
    place = bisect_right(_FIRSTS, code_point) - 1
    return place >= 0 and code_point <= DEFAULT_IGNORABLE[place][1]
