# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CpuSet: an immutable set of CPU ids, with the kernel's two notations in and out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

#: The highest id that is accepted: far over the kernel's own limit (NR_CPUS is at most 8192 on x86), yet small enough
#: that a typing error cannot cause a huge bit mask.
MAX_CPU_ID: Final = 65_535

_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", re.ASCII)
_HEX_WORD = re.compile(r"[0-9a-fA-F]{1,16}", re.ASCII)


class CpuSet:
    """A set of CPU ids (or of other small ids, such as node ids), kept as one bit mask.

    Bit n of `mask` stands for CPU n: the mask of CPUs 0 and 3 is 0b1001. Union, intersection and counting cost a few
    machine words, however many CPUs the set has.
    """

    __slots__ = ("_text", "mask")

    mask: int
    _text: str | None

    def __init__(self, cpus: Iterable[int] = ()) -> None:
        mask = 0
        for cpu in cpus:
            mask |= 1 << cpu
        self.mask = mask
        self._text = None

    @classmethod
    def from_mask(cls, mask: int) -> CpuSet:
        """The set whose bit mask is `mask`."""
        self = object.__new__(cls)
        self.mask = mask
        self._text = None
        return self

    @classmethod
    def parse(cls, text: str) -> CpuSet:
        """Read the kernel's list format, such as `0-3,8,10-11`; blank text is the empty set.

        Source: "Command-line parameters and CPU lists", Documentation/admin-guide/kernel-parameters.rst. Raises
        ValueError with a sentence for anything else: reversed ranges, empty items, signs, ids over MAX_CPU_ID.
        """
        mask = 0
        text = text.strip()
        for item in text.split(",") if text else ():
            match = _RANGE.fullmatch(item.strip())
            if match is None:
                raise ValueError(f"'{item[:40]}' is not a CPU or a range of CPUs such as 4-7")
            first = int(match[1])
            last = int(match[2]) if match[2] else first
            if last < first:
                raise ValueError(f"the CPU range '{item}' runs backwards")
            if last > MAX_CPU_ID:
                raise ValueError(f"CPU {last} is over the highest possible id, {MAX_CPU_ID}")
            mask |= (1 << (last + 1)) - (1 << first)
        return cls.from_mask(mask)

    @classmethod
    def parse_mask(cls, text: str) -> CpuSet:
        """Read the kernel's mask format: hexadecimal words, highest first, such as `000000ff,00000000`.

        Each word but the first holds 32 bits (lib/bitmap.c, `%*pb`). Raises ValueError for anything else.
        """
        mask = 0
        for index, word in enumerate(text.strip().split(",")):
            if _HEX_WORD.fullmatch(word) is None or (index and len(word) > 8):
                raise ValueError(f"'{word[:40]}' is not a word of a CPU mask")
            mask = mask << 32 | int(word, 16)
        return cls.from_mask(mask)

    def __str__(self) -> str:
        """The kernel's list format, `""` for the empty set."""
        if self._text is None:
            self._text = ",".join(
                str(first) if first == last else f"{first}-{last}" for first, last in _runs(self.mask)
            )
        return self._text

    def __repr__(self) -> str:
        return f"CpuSet({str(self)!r})"

    def __iter__(self) -> Iterator[int]:
        """The ids in ascending order."""
        return iter_bits(self.mask)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        return self.mask != 0

    def __contains__(self, cpu: object) -> bool:
        return isinstance(cpu, int) and cpu >= 0 and bool(self.mask >> cpu & 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CpuSet) and self.mask == other.mask

    def __hash__(self) -> int:
        return hash(self.mask)

    def __or__(self, other: CpuSet) -> CpuSet:
        return CpuSet.from_mask(self.mask | other.mask)

    def __and__(self, other: CpuSet) -> CpuSet:
        return CpuSet.from_mask(self.mask & other.mask)

    def __sub__(self, other: CpuSet) -> CpuSet:
        return CpuSet.from_mask(self.mask & ~other.mask)

    def __le__(self, other: CpuSet) -> bool:
        return not self.mask & ~other.mask


EMPTY: Final = CpuSet()


def union(masks: Iterable[int]) -> int:
    """The union of masks."""
    result = 0
    for mask in masks:
        result |= mask
    return result


def iter_bits(mask: int) -> Iterator[int]:
    """The positions of the bits set in `mask`, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def lowest(mask: int) -> int:
    """The lowest CPU in a mask, -1 for the empty one."""
    return (mask & -mask).bit_length() - 1


def lowest_bits(mask: int, count: int) -> int:
    """The `count` lowest CPUs of a mask, all of them if it has no more."""
    taken = 0
    for _ in range(min(count, mask.bit_count())):
        low = mask & -mask
        taken |= low
        mask ^= low
    return taken


def _runs(mask: int) -> Iterator[tuple[int, int]]:
    """The runs of adjacent bits in `mask` as (first, last), lowest first."""
    base = 0
    while mask:
        gap = (mask & -mask).bit_length() - 1
        mask >>= gap
        length = (~mask & (mask + 1)).bit_length() - 1
        yield base + gap, base + gap + length - 1
        mask >>= length
        base += gap + length
