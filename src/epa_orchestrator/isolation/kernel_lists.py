# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Kernel lists: CPU lists and masks in files of the kernel, and numbers, each read from one file."""

from __future__ import annotations

from collections.abc import Callable

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.sysfs import MOST_DIGITS, is_number
from epa_orchestrator.isolation.host_files import HostFiles, Unread

#: What the kernel prints for a mask that was never allocated: `nohz_full` without the parameter.
_NULL = "(null)"


def read_cpu_list(files: HostFiles, path: str) -> CpuSet | Unread:
    """The CPUs in a file such as `sys/devices/system/cpu/isolated`; a text that is no list counts as missing."""
    return _parsed(files, path, CpuSet.parse)


def read_cpu_mask(files: HostFiles, path: str) -> CpuSet | Unread:
    """The CPUs in a file with hexadecimal words, such as `proc/irq/default_smp_affinity`."""
    return _parsed(files, path, CpuSet.parse_mask)


def _parsed(files: HostFiles, path: str, parse: Callable[[str], CpuSet]) -> CpuSet | Unread:
    text = files.read(path)
    if isinstance(text, Unread):
        return text
    text = text.strip()
    if text in ("", _NULL):
        return EMPTY
    try:
        return parse(text)
    except ValueError:
        return Unread(path)


def read_word(files: HostFiles, path: str) -> str | Unread:
    """The text of a file without surrounding white space."""
    text = files.read(path)
    return text if isinstance(text, Unread) else text.strip()


def whole_number(text: str) -> int | None:
    """A whole number of at most 64 bits in digits, None for anything else: a text may be cut, or nonsense."""
    return int(text) if is_number(text) and text.isascii() else None


def kernel_number(text: str) -> int:
    """The same number. Raises ValueError for anything else."""
    number = whole_number(text)
    if number is None:
        raise ValueError("not a number of the kernel")
    return number


def read_seconds(files: HostFiles, path: str) -> float | Unread:
    """The first number of a file such as `proc/uptime`; a text that is no time counts as missing."""
    text = files.read(path)
    if isinstance(text, Unread):
        return text
    try:
        seconds = float(text.split()[0])
    except (ValueError, IndexError):
        return Unread(path)
    return seconds if 0 <= seconds < 10.0**MOST_DIGITS else Unread(path)
