# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Random changes of genuine answers: of their values, their structure and their bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Generator
from typing import Any, Final, cast

from .hostile_behaviours import ESCAPES, HUGE
from .hostile_server import Json

#: The values that a mutation puts in the place of others.
_ODDITIES: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    -1,
    2**31,
    HUGE,
    1.5,
    "",
    "0",
    "node0",
    ESCAPES,
    "\ud800",
    "a" * 300,
    [],
    {},
    [[]],
)


def mutated(genuine: bytes, choose: random.Random) -> bytes:
    """The answer with one to three random changes of its values or structure, or of its bytes."""
    if choose.random() < 0.3:
        changed = bytearray(genuine)
        for _ in range(choose.randint(1, 3)):
            _mutate_bytes(changed, choose)
        return bytes(changed)
    document = copy.deepcopy(json.loads(genuine))
    for _ in range(choose.randint(1, 3)):
        _mutate_value(document, choose)
    return json.dumps(document).encode()


def _mutate_bytes(data: bytearray, choose: random.Random) -> None:
    start = choose.randrange(len(data) + 1)
    end = min(len(data), start + choose.choice((1, 1, 1, 2, 9, 99)))
    match choose.randrange(4):
        case 0:
            data[start:end] = bytes(choose.randrange(256) for _ in range(end - start))
        case 1:
            del data[start:end]
        case 2:
            data[start:start] = data[start:end]
        case _:
            data[start:end] = choose.choice((b"\\u0000", b"\\ud83d", b'"', b"{", b"]", b"1e999", b"-", b"99999999999"))


def _mutate_value(document: Json, choose: random.Random) -> None:
    places = list(_places(document))
    if not places:
        return
    container, key = choose.choice(places)
    match choose.randrange(5):
        case 0:
            del container[key]
        case 1:
            other, other_key = choose.choice(places)
            container[key] = copy.deepcopy(other[other_key])
        case 2 if isinstance(container, dict):
            members = cast("dict[Any, Any]", container)
            members[choose.choice(("", "0", ESCAPES, f"{key}x", "error"))] = members.pop(key)
        case 3 if isinstance(container[key], str):
            text = container[key]
            at = choose.randrange(len(text) + 1)
            container[key] = text[:at] + choose.choice(("-", ",", "9" * 9, ESCAPES, " ", "é", "")) + text[at + 1 :]
        case _:
            container[key] = copy.deepcopy(choose.choice(_ODDITIES))


def _places(value: Any) -> Generator[tuple[Any, Any]]:
    """Every place in a document, as its container and the key or index in it."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(cast("Json", value))
    elif isinstance(value, list):
        keys = list(range(len(cast("list[Any]", value))))
    for key in keys:
        yield value, key
        yield from _places(value[key])
