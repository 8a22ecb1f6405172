# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Encoded: the parts of answers that show claims and hugepage records, as JSON that is encoded once per change.

With 2,000 claims a listing takes 22 ms to encode, so the part of each service is kept until its claim changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic_core import to_json

from epa_orchestrator.allocation.claims import Claim, PageKind
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.names import PoolName

_T = TypeVar("_T")


class Parts:
    """Encoded parts by service, in the order of the services."""

    def __init__(self) -> None:
        self._parts: dict[str, bytes] = {}
        self._services: list[str] = []
        self._in_order = True

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, service: str, part: bytes | None) -> None:
        """Replace or add a service's part; None removes it."""
        if part is None:
            self._in_order = self._parts.pop(service, None) is None and self._in_order
        else:
            self._in_order = service in self._parts and self._in_order
            self._parts[service] = part

    def services(self) -> list[str]:
        """The services in order."""
        if not self._in_order:
            # Sorting a list that is nearly in order takes linear time.
            known = set(self._services)
            self._services = [each for each in self._services if each in self._parts]
            self._services += [each for each in self._parts if each not in known]
            self._services.sort()
            self._in_order = True
        return self._services

    def in_order(self) -> list[bytes]:
        """The parts in order."""
        return [self._parts[service] for service in self.services()]


class ClaimParts:
    """Each claim as listings show it, encoded once for as long as the claim does not change."""

    def __init__(self) -> None:
        self._claims: Mapping[str, Claim] = {}
        self._configured = EMPTY
        self._pools: dict[PoolName, Parts] = {"isolated": Parts(), "general": Parts()}

    def use(self, claims: Mapping[str, Claim], configured: CpuSet, most: int | None = None) -> bool:
        """Use these claims, and `configured` as the CPUs of all pools; returns whether all claims are encoded.

        With `most`, it encodes at most that many claims: call it again for the rest.
        """
        if configured is not self._configured and configured != self._configured:
            self._forget_withheld(configured.mask ^ self._configured.mask)
            self._configured = configured
        changes = changes_between(self._claims, claims)
        due = changes[:most]
        for service, claim in due:
            for pool, parts in self._pools.items():
                parts.put(
                    service, encode_claim_part(claim, configured) if claim is not None and claim.pool == pool else None
                )
        self._claims = claims if len(due) == len(changes) else _with(self._claims, due)
        return self._claims is claims

    def _forget_withheld(self, cpus: int) -> None:
        """Forget the claims that withhold some of these CPUs."""
        stale = [service for service, claim in self._claims.items() if claim.withheld.mask & cpus]
        for service in stale:
            for parts in self._pools.values():
                parts.put(service, None)
        self._claims = _with(self._claims, [(service, None) for service in stale])

    def of_pool(self, pool: PoolName) -> Parts:
        """The parts of the claims in a pool."""
        return self._pools[pool]


def encode_claim_part(claim: Claim, configured: CpuSet) -> bytes:
    """A claim as listings show it; `configured` are the CPUs of all pools."""
    # An `Allocation` would take four times as long; a test compares both.
    fields: dict[str, str | int] = {
        "service_name": claim.service,
        "pool": claim.pool,
        "allocated_cores": str(claim.cpus),
        "cores_count": len(claim.cpus),
        "is_explicit": bool(claim.explicit),
        "preemption_policy": claim.preemption_policy,
    }
    if claim.withheld and (withheld := claim.withheld & configured):
        fields["withheld_cpus"] = str(withheld)
    return to_json(fields)


class PageParts:
    """The hugepage records of each node, encoded once: each service's part for as long as its records do not change."""

    def __init__(self) -> None:
        self._pages: Mapping[str, Mapping[PageKind, int]] = {}
        self._parts: dict[int, Parts] = {}
        self._nodes: dict[int, bytes] = {}
        self._touched: set[int] = set()

    @property
    def nodes(self) -> set[int]:
        """The nodes with records."""
        return set(self._nodes)

    def of_node(self, node_id: int) -> bytes:
        """The records of a node by service, as a JSON object."""
        return self._nodes.get(node_id, b"{}")

    def use(self, pages: Mapping[str, Mapping[PageKind, int]], most: int | None = None) -> bool:
        """Use these records; returns whether all are encoded. With `most`, it encodes at most that many services."""
        changes = changes_between(self._pages, pages)
        due = changes[:most]
        for service, counts in due:
            parts = _encode_pages(service, counts or {})
            earlier = {node_id for node_id, _ in self._pages.get(service, ())}
            for node_id in earlier.union(parts):
                self._parts.setdefault(node_id, Parts()).put(service, parts.get(node_id))
                self._touched.add(node_id)
        if len(due) < len(changes):
            self._pages = _with(self._pages, due)
            return False
        self._pages = pages
        self._join_touched()
        return True

    def _join_touched(self) -> None:
        for node_id in self._touched:
            if self._parts[node_id]:
                self._nodes[node_id] = b"{" + b",".join(self._parts[node_id].in_order()) + b"}"
            else:
                del self._parts[node_id]
                self._nodes.pop(node_id, None)
        self._touched.clear()


class RecordParts:
    """The hugepage records of all services, each service's part encoded once per change of them."""

    def __init__(self) -> None:
        self._pages: Mapping[str, Mapping[PageKind, int]] = {}
        self._parts = Parts()
        self._joined: bytes | None = None

    def use(self, pages: Mapping[str, Mapping[PageKind, int]], most: int | None = None) -> bool:
        """Use these records; returns whether all are encoded. With `most`, it encodes at most that many services."""
        changes = changes_between(self._pages, pages)
        due = changes[:most]
        for service, counts in due:
            self._parts.put(service, _encode_records(service, counts) if counts else None)
            self._joined = None
        self._pages = pages if len(due) == len(changes) else _with(self._pages, due)
        return self._pages is pages

    def joined(self) -> bytes:
        """The records by service, as a JSON object."""
        if self._joined is None:
            self._joined = b"{" + b",".join(self._parts.in_order()) + b"}"
        return self._joined


def _encode_records(service: str, counts: Mapping[PageKind, int]) -> bytes:
    """A service's member of the object: a list of `PageRecord`s."""
    records = [
        {"node_id": node_id, "size_kb": size_kb, "hugepages": count}
        for (node_id, size_kb), count in sorted(counts.items())
    ]
    return to_json({service: records})[1:-1]


def _encode_pages(service: str, counts: Mapping[PageKind, int]) -> dict[int, bytes]:
    """A service's member of each node's object."""
    by_node: dict[int, dict[str, int]] = {}
    for (node_id, size_kb), count in sorted(counts.items()):
        by_node.setdefault(node_id, {})[str(size_kb)] = count
    return {node_id: to_json({service: sizes})[1:-1] for node_id, sizes in by_node.items()}


def changes_between(before: Mapping[str, _T], after: Mapping[str, _T]) -> list[tuple[str, _T | None]]:
    """The services whose value is another object than before, each with its value; None for those that are gone."""
    if after is before:
        return []
    changed: list[tuple[str, _T | None]] = [
        (name, value) for name, value in after.items() if before.get(name) is not value
    ]
    added = sum(1 for name, _ in changed if name not in before)
    if len(before) + added > len(after):
        changed += [(name, None) for name in before if name not in after]
    return changed


def _with(before: Mapping[str, _T], changes: Iterable[tuple[str, _T | None]]) -> dict[str, _T]:
    """A copy with other values for some services; None removes one."""
    after = dict(before)
    for name, value in changes:
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    return after
