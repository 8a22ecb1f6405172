# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Option values: the types of options that are more than a number or a word, read as people and snapd write them."""

from __future__ import annotations

import re
from typing import Annotated, Final, NamedTuple, cast

from pydantic import BeforeValidator, Field

from epa_orchestrator.cpuset import EMPTY, CpuSet

#: The value of `cpu-pool` that means no general pool: the name of the default in the older snap.
_NO_GENERAL_POOL: Final = "isolated"

#: Blanks next to a dash or a comma, which people write in CPU lists and the kernel does not.
_BLANKS: Final = re.compile(r"\s*([-,])\s*", re.ASCII)


class ReservedHugepages(NamedTuple):
    """The number of hugepages of `size_kb` KiB on a node that are never granted."""

    node_id: int
    size_kb: int
    pages: int


def _cpu_list(value: object) -> CpuSet:
    """A CPU list; a lone CPU may come as a number, which is what `snap set cpu-pool=4` stores."""
    if isinstance(value, CpuSet):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("give a CPU list such as 2-5,8")
    return CpuSet.parse(_BLANKS.sub(r"\1", value))


def _cpu_pool(value: object) -> CpuSet:
    return EMPTY if isinstance(value, str) and value.strip() == _NO_GENERAL_POOL else _cpu_list(value)


def _reserved_hugepages(value: object) -> tuple[ReservedHugepages, ...]:
    if isinstance(value, tuple):
        return cast("tuple[ReservedHugepages, ...]", value)
    if not isinstance(value, str):
        raise ValueError("give node:size_kb:count, separated by commas, such as 0:2048:16")
    entries: list[ReservedHugepages] = []
    for item in value.split(",") if value.strip() else ():
        words = [word.strip() for word in item.split(":")]
        if len(words) != 3 or not all(word.isascii() and word.isdecimal() and len(word) < 12 for word in words):
            raise ValueError(f"'{item[:40]}' is not node:size_kb:count, such as 0:2048:16")
        entries.append(ReservedHugepages(*map(int, words)))
    if len({(entry.node_id, entry.size_kb) for entry in entries}) < len(entries):
        raise ValueError("a node and size is named twice")
    return tuple(entries)


def _ids(value: object) -> tuple[object, ...]:
    """Ids as a JSON list; a lone one may come as a number and several as text, which is what `snap set` stores."""
    if isinstance(value, str):
        value = [int(word) if word.strip().isdecimal() else word for word in value.split(",") if word.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError("give a list of numeric ids such as [1000, 1001]")
    return tuple(cast("list[object]", value))


CpuList = Annotated[CpuSet, BeforeValidator(_cpu_list)]
CpuPool = Annotated[CpuSet, BeforeValidator(_cpu_pool)]
Ids = Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], BeforeValidator(_ids)]
ReservedPages = Annotated[tuple[ReservedHugepages, ...], BeforeValidator(_reserved_hugepages)]
