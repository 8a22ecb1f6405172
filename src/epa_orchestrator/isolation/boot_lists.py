# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Boot lists: CPU lists on the kernel line, in the kernel's full grammar, and what is wrong with one.

Source: bitmap_parselist in lib/bitmap-str.c of Linux 6.12. The files in sysfs hold a simpler grammar (`cpuset`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.cpuset import MAX_CPU_ID, CpuSet, union

_SEPARATORS: Final = re.compile(r"[,\s]+")
_NUMBER: Final = r"([0-9]{1,10}|N)"
_REGION: Final = re.compile(rf"(?:all|{_NUMBER}(?:-{_NUMBER})?)(?::{_NUMBER}/{_NUMBER})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class BootList:
    """A list as it was read.

    `cpus` are the CPUs that it names, as far as it can be understood, also those that do not exist. `mistake` says why
    the kernel takes none of it, empty where the kernel takes it.
    """

    cpus: CpuSet
    mistake: str = ""


def read_boot_list(text: str, cpu_count: int | None) -> BootList:
    """Read a list for a kernel with `cpu_count` CPU ids (nr_cpu_ids), None where that is not known.

    Without a count, `N` and `all` name no CPU, and no CPU is too high.
    """
    masks: list[int] = []
    mistake = ""
    for region in filter(None, _SEPARATORS.split(text)):
        mask, wrong = _read_region(region, cpu_count)
        masks.append(mask)
        mistake = mistake or wrong
    return BootList(CpuSet.from_mask(union(masks)), mistake)


def _read_region(text: str, cpu_count: int | None) -> tuple[int, str]:
    """The mask of `4`, `0-15`, `all` or `0-15:1/2`, and what is wrong with it."""
    match = _REGION.fullmatch(text)
    if match is None or "n" in text or (match[1] and match[3] and not match[2]):
        return 0, f"'{text[:40]}' is not a CPU or a range of CPUs such as 4-7"
    if cpu_count is None and (match[1] is None or "N" in text):
        return 0, ""
    last_id = 0 if cpu_count is None else cpu_count - 1
    first, last, used, group = (last_id if number == "N" else int(number or 0) for number in match.groups())
    if match[1] is None:
        last = last_id
    elif match[2] is None:
        last = first
    wrong = _mistake(text, first, last, cpu_count)
    low, high = sorted((first, last))
    if match[3] is None:
        return _bits(low, high), wrong
    if group == 0 or used > group:
        return _bits(low, high), f"'{text[:40]}' takes {used} CPUs of each {group}"
    return _strided(low, high, used, group), wrong


def _mistake(text: str, first: int, last: int, cpu_count: int | None) -> str:
    if last < first:
        return f"the range '{text[:40]}' runs backwards"
    if cpu_count is not None and last >= cpu_count:
        return f"this host has no CPU {last}"
    return ""


def _bits(low: int, high: int) -> int:
    """The mask of the ids from `low` to `high`, those over MAX_CPU_ID left out."""
    high = min(high, MAX_CPU_ID)
    return (1 << high + 1) - (1 << low) if low <= high else 0


def _strided(low: int, high: int, used: int, group: int) -> int:
    """The mask of the first `used` ids of each group of `group` ids from `low` to `high`."""
    high = min(high, MAX_CPU_ID)
    if low > high:
        return 0
    group = min(group, MAX_CPU_ID + 1)
    used = min(used, group)
    groups = (high - low) // group + 1
    group_starts = ((1 << group * groups) - 1) // ((1 << group) - 1)
    return group_starts * ((1 << used) - 1) << low & _bits(low, high)
