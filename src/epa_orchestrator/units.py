# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Units: sizes of memory as people write them, such as 2M and 1G, in and out; numbers with their nouns; times."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Final

#: The KiB in each unit; a size without a unit is in KiB, as on the wire.
_UNITS: Final = {"T": 1024**3, "G": 1024**2, "M": 1024, "K": 1}
_SIZE: Final = re.compile(r"([0-9]{1,12}) ?([KMGT]?)(?:i?B|i)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """A size in KiB: `2M`, `1G`, `2Mi`, `64KiB`, `2 MB`; a number alone is in KiB, the unit of the wire.

    Raises ValueError with a sentence.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (text.strip()[-1:] in "bBiI" and not match[2]):
        raise ValueError(f"'{text[:40]}' is not a size such as 2M or 1G")
    size = int(match[1]) * _UNITS[match[2].upper() or "K"]
    if size == 0:
        raise ValueError("a page cannot have the size 0")
    return size


def format_size(size_kb: int) -> str:
    """A size in KiB, in the largest unit in which it is a whole number."""
    if size_kb == 0:
        return "0"
    unit = next(unit for unit, factor in _UNITS.items() if size_kb % factor == 0)
    return f"{size_kb // _UNITS[unit]}{unit}"


def format_memory(size_kb: int) -> str:
    """A size in KiB, rounded to a tenth of the unit that people would use."""
    unit = next((unit for unit, factor in _UNITS.items() if size_kb >= factor), "K")
    return f"{size_kb / _UNITS[unit]:.1f}".removesuffix(".0") + unit


def joined(words: Sequence[str]) -> str:
    """Words as a part of a sentence: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def count_of(count: int, noun: str) -> str:
    """A number with its noun: `1 CPU`, `2 CPUs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def named_cpus(cpus: str) -> str:
    """A CPU list with its noun: `CPU 2`, `CPUs 2-3`."""
    return f"CPU {cpus}" if cpus.isdecimal() else f"CPUs {cpus}"


def named_nodes(nodes: str) -> str:
    """A list of ids with its noun: `NUMA node 0`, `NUMA nodes 0-1`."""
    return f"NUMA node {nodes}" if nodes.isdecimal() else f"NUMA nodes {nodes}"


def cpus_are(cpus: str) -> str:
    """A CPU list as the subject of a sentence with its verb: `CPU 2 is`, `CPUs 2-3 are`."""
    return f"{named_cpus(cpus)} {'is' if cpus.isdecimal() else 'are'}"


def utc(at: float) -> str:
    """A time in seconds since 1970 as text in UTC, by ISO 8601: `2026-11-27T20:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
