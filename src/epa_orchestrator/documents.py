# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Documents: parses JSON from files that may hold anything."""

from __future__ import annotations

import json
from typing import Any

#: How many characters of a key an error repeats.
_ECHO = 60


class DuplicateKeyError(ValueError):
    """An object has a key twice, and readers differ in which value they keep; the message begins with "it"."""


def parse_document(text: bytes) -> object:
    """The JSON value in `text`.

    Raises ValueError for text that is not JSON, is nested too deeply, or holds a number of thousands of digits.
    Raises DuplicateKeyError.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("the nesting is too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise DuplicateKeyError(f"it has the key '{twice[:_ECHO]}' twice in one object")
    return members
