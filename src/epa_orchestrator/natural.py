# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Natural order: `vm-2` before `vm-10`, as people count."""

from __future__ import annotations

import re
from typing import Final

_DIGITS: Final = re.compile(r"([0-9]+)")


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key for sorting names: runs of digits by their number, everything else by its letters in either case.

    Names that differ only in case, or in zeros before a number, keep a fixed order.
    """
    parts = _DIGITS.split(name)
    return [(0, int(part), "") if index % 2 else (1, 0, part.casefold()) for index, part in enumerate(parts)], name
