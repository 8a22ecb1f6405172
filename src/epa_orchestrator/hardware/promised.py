# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Promised: the hugepage counts of nodes, with the free pages that the kernel has promised to processes.

The kernel counts promised pages (`resv_hugepages`) for the host as a whole. On one node lie at least those that the
other nodes have no free pages for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from epa_orchestrator.hardware.hugepages import (
    Hugepages,
    page_sizes,
    read_free,
    read_hugepages,
    read_hugepages_of,
    read_promised,
)
from epa_orchestrator.hardware.sysfs import Sysfs


def count_by_node(sysfs: Sysfs, node_ids: Iterable[int]) -> dict[int, tuple[Hugepages, ...]]:
    """The current counts on all nodes of the host, by node and size."""
    # Promised pages first: one that is handed out in between counts twice then, where the other order would show it as
    # free.
    promised = {size: read_promised(sysfs, size) or 0 for size in page_sizes(sysfs)}
    counts = {node_id: read_hugepages(sysfs, node_id) for node_id in node_ids}
    if not any(promised.values()):
        return counts
    free = Counter[int]()
    for pages in chain.from_iterable(counts.values()):
        free[pages.size_kb] += pages.free
    return {
        node_id: tuple([_with_promised(each, promised.get(each.size_kb, 0), free[each.size_kb]) for each in pages])
        for node_id, pages in counts.items()
    }


def count_on_node(sysfs: Sysfs, node_id: int, node_ids: Iterable[int]) -> tuple[Hugepages, ...]:
    """The current counts on one of the host's nodes, by size."""
    sizes = [pages.size_kb for pages in read_hugepages(sysfs, node_id)]
    counts = [count_of_size(sysfs, node_id, size, node_ids) for size in sizes]
    return tuple([pages for pages in counts if pages is not None])


def count_of_size(sysfs: Sysfs, node_id: int, size_kb: int, node_ids: Iterable[int]) -> Hugepages | None:
    """The current counts for one size (KiB) on one of the host's nodes, None where it has no such size.

    Raises HiddenPagesError.
    """
    promised = read_promised(sysfs, size_kb) or 0
    pages = read_hugepages_of(sysfs, node_id, size_kb)
    if pages is None or not promised:
        return pages
    free = pages.free
    for other in node_ids:
        if free - pages.free >= promised:
            break
        free += read_free(sysfs, other, size_kb) if other != node_id else 0
    return _with_promised(pages, promised, free)


def find_unreadable(sysfs: Sysfs, node_ids: Iterable[int]) -> list[int]:
    """The sizes (KiB) that the host has pages of, and whose promised pages this process cannot read."""
    counts = [pages for node_id in node_ids for pages in read_hugepages(sysfs, node_id)]
    sizes = sorted({pages.size_kb for pages in counts if pages.total})
    return [size for size in sizes if read_promised(sysfs, size) is None]


def _with_promised(pages: Hugepages, promised: int, free: int) -> Hugepages:
    """The counts of a node, with those `promised` pages that only it can provide; both numbers are of all nodes."""
    return replace(pages, promised=max(promised - (free - pages.free), 0))
