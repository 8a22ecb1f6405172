# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU files: sets of CPUs from the kernel's lists and masks, and never a part of a set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from epa_orchestrator.cpuset import MAX_CPU_ID, CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.sysfs import MOST_DIGITS, CutShortError, Sysfs

CPU_DIR: Final = "devices/system/cpu"

#: The kernel prints this for a list that it has not allocated, because no CPU is in it.
_NO_LIST: Final = "(null)"

_NUMBER: Final = re.compile(rf"[0-9]{{1,{MOST_DIGITS}}}", re.ASCII)


class MachineError(EpaError):
    """The sysfs tree does not describe a machine, or not all of it."""


def read_whole(sysfs: Sysfs, path: str) -> str | None:
    """The text of a list file, None where it is missing or cannot be read.

    Raises MachineError when it is cut short.
    """
    try:
        return sysfs.read_list(path)
    except CutShortError as error:
        raise MachineError(str(error)) from None


def read_decisive(sysfs: Sysfs, path: str, remedy: str = "in a snap, connect its plugs") -> CpuSet | None:
    """The set in a list file that decides which CPUs may be granted; None where there is no such file.

    Raises MachineError when the file cannot be read (then `remedy` says what to do), is cut short, or holds no list.
    """
    text = read_whole(sysfs, path)
    if text is None:
        if sysfs.exists(path) is not False:
            raise MachineError(f"sysfs {path} is there but cannot be read; {remedy}")
        return None
    try:
        return CpuSet.parse("" if text == _NO_LIST else text)
    except ValueError as error:
        raise MachineError(f"sysfs {path} is not a CPU list: {error}") from None


def read_cpus(sysfs: Sysfs, list_path: str, mask_path: str) -> CpuSet | None:
    """A set of CPUs from its list file, or else from its mask file; None when neither can be read.

    Raises MachineError when one of them is cut short or holds something else, and the other does not have all CPUs.
    """
    problem: str | None = None
    for path, parse in ((list_path, CpuSet.parse), (mask_path, CpuSet.parse_mask)):
        try:
            text = sysfs.read_list(path)
            if text:
                return parse(text)
        except CutShortError as error:
            problem = problem or str(error)
        except ValueError as error:
            problem = problem or f"sysfs {path} is not a set of CPUs: {error}"
    if problem is not None:
        raise MachineError(problem)
    return None


def read_topology(sysfs: Sysfs, list_path: str, mask_path: str) -> CpuSet | None:
    """A set of CPUs as `read_cpus` gives it; None only where the kernel has no such files.

    Raises MachineError also when they are there and cannot be read.
    """
    cpus = read_cpus(sysfs, list_path, mask_path)
    if cpus is None and sysfs.read(list_path) is None and sysfs.exists(list_path) is not False:
        raise MachineError(f"sysfs {list_path} is there but cannot be read; in a snap, connect its plugs")
    return cpus


def numbers(names: Iterable[str], prefix: str) -> list[int]:
    """The n of the names `<prefix><n>`, ascending; impossibly high ones are left out."""
    ends = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return sorted(n for end in ends if _NUMBER.fullmatch(end) and (n := int(end)) <= MAX_CPU_ID)
