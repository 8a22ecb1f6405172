# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Quoting: a client's own values and field names in sentences, as JSON, printable and cut short."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from epa_orchestrator.errors import printable

#: The most characters of a value that a sentence quotes.
_MAX_VALUE_LENGTH: Final = 80
#: The most characters of a field's name that a warning quotes, and the most bytes of all these warnings.
_MAX_FIELD_LENGTH: Final = 40
_MAX_WARNING_BYTES: Final = 400

#: Infinity in a text of json.dumps; the group is a string, which may contain that word.
_INFINITY: Final = re.compile(r'("(?:[^"\\]|\\.)*+")|Infinity')


def quote(value: object) -> str:
    """A value of a request as JSON: null and true, not None and True; a string with its quotes."""
    value = printable(value) if isinstance(value, str) else value
    # A number such as 1e400 is infinite for Python, but JSON has no word for that.
    return cut(_INFINITY.sub(lambda found: found[1] or "1e999", json.dumps(value, ensure_ascii=False)))


def cut(text: str, most: int = _MAX_VALUE_LENGTH) -> str:
    """A client's text for a sentence, printable, and only the start of a long one."""
    return printable(text if len(text) <= most else text[:most] + "…")


def about_unknown_fields(names: Iterable[str]) -> tuple[str, ...]:
    """The warnings about fields that the daemon does not know: the first few by name, the others counted."""
    every = [*names]
    named: list[str] = []
    size = 0
    for name in every:
        warning = f"unknown field '{cut(name, _MAX_FIELD_LENGTH)}'"
        size += len(json.dumps(warning, ensure_ascii=False).encode()) + 1
        if size > _MAX_WARNING_BYTES:
            break
        named.append(warning)
    others = len(every) - len(named)
    return (*named, f"{others} more unknown field{'s' * (others > 1)}") if others else tuple(named)
