# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hugepages: how many a service may have on a NUMA node, and the record of it.

A record counts the pages that a service may use. The kernel only knows how many pages are in use, so pages that are
recorded or reserved, and not in use yet, are subtracted from the kernel's free ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from epa_orchestrator.allocation.claims import Change, PageKind, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.hardware.hugepages import Hugepages

_NO_PAGES: Final[Mapping[PageKind, int]] = MappingProxyType({})


def free_pages(ledger: Ledger, kernel: Hugepages, reserved: int, node_id: int) -> int:
    """How many hugepages of the size that `kernel` counts are left on a node, without the `reserved` ones.

    Pages that the kernel has promised to a process count as in use: the process may take them at any moment.
    """
    recorded = ledger.recorded.get((node_id, kernel.size_kb), 0)
    in_use = kernel.total - kernel.free + kernel.promised
    not_in_use_yet = max(recorded + reserved - in_use, 0)
    return max(kernel.free - kernel.promised - not_in_use_yet, 0)


def record(ledger: Ledger, kernel: Hugepages, reserved: int, service: str, node_id: int, count: int) -> Change:
    """Record that the service has `count` hugepages of the size that `kernel` counts, in place of its earlier count.

    An earlier count can be more than the node has now, because a restart or the operator took pages away. Raises
    Refused.
    """
    kind = (node_id, kernel.size_kb)
    before = ledger.pages.get(service, _NO_PAGES).get(kind, 0)
    free = free_pages(ledger, kernel, reserved, node_id)
    if count - before > free:
        raise Refused(
            f"NUMA node {node_id} size {kernel.size_kb} KB only has {free} free hugepages,"
            f" requested additional {count - before}",
            rule="insufficient",
        )
    if count > kernel.total:
        raise Refused(
            f"NUMA node {node_id} size {kernel.size_kb} KB only has {kernel.total} hugepages in all, requested {count}:"
            " request fewer, or -1 to remove the record",
            rule="insufficient",
        )
    return Change(pages=PagesChange(service, kind, before, count)) if count != before else Change()


def remove_record(ledger: Ledger, service: str, kind: PageKind) -> Change:
    """Remove the service's record for a node and size, if there is one."""
    before = ledger.pages.get(service, _NO_PAGES).get(kind, 0)
    return Change(pages=PagesChange(service, kind, before, 0)) if before else Change()
