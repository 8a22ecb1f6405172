# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hugepages: the kernel's counts, by NUMA node and page size.

Source: Documentation/admin-guide/mm/hugetlbpage.rst of the Linux kernel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.sysfs import (
    CONNECT_NODE_PLUG,
    MOST_DIGITS,
    NODE_DIR,
    Sysfs,
    count_in,
    is_number,
    number,
)

_ALL_NODES: Final = "kernel/mm/hugepages"
_SIZE = re.compile(rf"hugepages-([0-9]{{1,{MOST_DIGITS}}})kB", re.ASCII)


@dataclass(frozen=True)
class Hugepages:
    """The hugepages of one size (KiB) on one node, as the kernel counts them.

    `promised` are those of the free ones that the kernel has promised to processes, and can only hand out here.
    """

    size_kb: int
    total: int
    free: int
    promised: int = 0


class HiddenPagesError(EpaError):
    """This process may not read the hugepages of a node."""


def read_hugepages(sysfs: Sysfs, node_id: int) -> tuple[Hugepages, ...]:
    """The current counts on a node, by size; () where it has no hugepages, or where `are_hidden`."""
    directory = _directory(sysfs, node_id)
    pages = (_read_size(sysfs, directory, size) for size in _sizes_in(sysfs, directory))
    return tuple(size for size in pages if size is not None)


def read_hugepages_of(sysfs: Sysfs, node_id: int, size_kb: int) -> Hugepages | None:
    """The current counts for one size (KiB) on a node, None where it has no such size.

    Raises HiddenPagesError.
    """
    directory = _directory(sysfs, node_id)
    found = _read_size(sysfs, directory, size_kb)
    if found is None and sysfs.exists(f"{directory}/hugepages-{size_kb}kB/nr_hugepages") is not False:
        raise HiddenPagesError(f"The hugepages of NUMA node {node_id} cannot be read: {CONNECT_NODE_PLUG}")
    return found


def page_sizes(sysfs: Sysfs) -> list[int]:
    """The sizes (KiB) of hugepages that the kernel has, ascending; [] where this process may not list them."""
    return _sizes_in(sysfs, _ALL_NODES)


def are_hidden(sysfs: Sysfs, node_id: int) -> bool:
    """Whether this process may not see which hugepages a node has.

    snapd lets a strict snap list all directories of /sys/devices, but not read the counts in these.
    """
    directory = _directory(sysfs, node_id)
    names = sysfs.names(directory)
    if names is None:
        return True
    return any(sysfs.read(f"{directory}/{name}/nr_hugepages") is None for name in names if _SIZE.fullmatch(name))


def read_promised(sysfs: Sysfs, size_kb: int) -> int | None:
    """The pages of one size (KiB) that the kernel has promised to processes and not handed out yet, on all nodes.

    The kernel keeps this count (`resv_hugepages`) for the whole host only, and a confined snap may be unable to read
    it: None then.
    """
    text = sysfs.read(f"{_ALL_NODES}/hugepages-{size_kb}kB/resv_hugepages")
    return int(text) if text is not None and is_number(text) else None


def read_free(sysfs: Sysfs, node_id: int, size_kb: int) -> int:
    """The free pages of one size (KiB) on a node that has a directory of its own."""
    return count_in(sysfs, f"{NODE_DIR}/node{node_id}/hugepages/hugepages-{size_kb}kB/free_hugepages")


def _sizes_in(sysfs: Sysfs, directory: str) -> list[int]:
    return sorted(int(match[1]) for match in map(_SIZE.fullmatch, sysfs.names(directory) or ()) if match)


def _read_size(sysfs: Sysfs, directory: str, size_kb: int) -> Hugepages | None:
    total = sysfs.read(f"{directory}/hugepages-{size_kb}kB/nr_hugepages")
    if total is None:
        return None
    return Hugepages(size_kb, number(total), count_in(sysfs, f"{directory}/hugepages-{size_kb}kB/free_hugepages"))


def _directory(sysfs: Sysfs, node_id: int) -> str:
    """The directory with a node's hugepages. On a kernel without NUMA, node 0 stands for the whole machine."""
    if node_id == 0 and sysfs.exists(NODE_DIR) is False:
        return _ALL_NODES
    return f"{NODE_DIR}/node{node_id}/hugepages"
