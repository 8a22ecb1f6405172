"""Readings: the answers that show the state; costly parts are prepared once and kept as long as they do not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from pydantic_core import to_json

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Claim, Ledger, PageKind, free_pages
from epa_orchestrator.allocation.outdated import Pending, Review
from epa_orchestrator.allocation.pools import Pool, Pools
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.mutations import named_pool
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.names import PoolName
from epa_orchestrator.protocol.answers import Allocation, ListingHead, PageCapacity, PoolSummary, encode_memory
from epa_orchestrator.protocol.requests import GetMemoryInfo, Reading

#: A review of this size (claims times CPUs) takes 5 ms at most, so a listing finishes it, and is complete on a small
#: host.
_SMALL_REVIEW: Final = 256
#: How many claims are judged in another thread at a time, at most.
_JUDGED_AT_ONCE: Final = 64
#: How many services are encoded at a stretch: 2,000 claims take 22 ms, the hugepage records of 7,000 services 39 ms.
_ENCODED_AT_ONCE: Final = 100


_T = TypeVar("_T")


class _Prepared(NamedTuple):
    """A whole listing, and what it was made of."""

    ledger: Ledger
    pool: Pool
    revision: int
    answer: bytes


class Readings:
    """Answers readings from a ledger.

    `problem` is why the daemon serves nothing else, None when all is well; with `ledger_known` false the claims are not
    known either, and no CPU counts as free. `ledger` is the first one to be asked about, probably with `granted` as the
    CPUs of the pools: its parts are encoded ahead.
    """

    def __init__(
        self,
        host: Host,
        problem: str | None,
        *,
        ledger_known: bool,
        ledger: Ledger | None = None,
        granted: CpuSet = EMPTY,
    ) -> None:
        self._host = host
        self._problem = problem
        self._ledger_known = ledger_known
        self._prepared: dict[PoolName, _Prepared] = {}
        self._claims = _ClaimParts()
        self._pages = _PageParts()
        self._review = Review()
        if ledger is not None:
            self._claims.use(ledger.claims, granted)
            self._pages.use(ledger.pages)

    def fail(self, problem: str) -> None:
        """Say in every answer from now on why only readings are served."""
        self._problem = problem
        self._prepared.clear()

    def prepare(self, ledger: Ledger, pools: Pools, request: Reading) -> bool:
        """Encode some of what has changed since the last answer; whether that is all, so that `answer` is quick."""
        if isinstance(request, GetMemoryInfo):
            return self._pages.use(ledger.pages, _ENCODED_AT_ONCE)
        return self._claims.use(ledger.claims, pools.granted, _ENCODED_AT_ONCE)

    def answer(self, ledger: Ledger, pools: Pools, request: Reading) -> bytes:
        """The answer to a reading, for the host as it is now.

        Raises Refused.
        """
        if isinstance(request, GetMemoryInfo):
            return self._memory_info(ledger, pools, request)
        pool = named_pool(ledger, pools, request.pool)
        self._finish_small_review(ledger, pools)
        return self._listing(ledger, pools, pool)

    def pending_review(self, ledger: Ledger, pools: Pools) -> Pending | None:
        """The next claims to judge in another thread, for `take_verdicts`; None when all are judged."""
        self._review.look_at(ledger, pools)
        return self._review.pending(_JUDGED_AT_ONCE)

    def take_verdicts(self, pending: Pending, verdicts: Sequence[tuple[Claim, bool]]) -> None:
        """Show from now on what another thread has found about claims, except those that have changed since."""
        self._review.take(pending, verdicts)

    def _finish_small_review(self, ledger: Ledger, pools: Pools) -> None:
        self._review.look_at(ledger, pools)
        if self._review.size <= _SMALL_REVIEW and (pending := self._review.pending(_SMALL_REVIEW)) is not None:
            self._review.take(pending, pending.judge(lambda: False))

    def _memory_info(self, ledger: Ledger, pools: Pools, request: GetMemoryInfo) -> bytes:
        self._pages.use(ledger.pages)
        present = pools.machine.node_ids if pools.machine else ()
        nodes = (
            (node_id, self._capacity(ledger, pools, node_id), self._pages.of_node(node_id))
            for node_id in sorted({*present, *self._pages.nodes})
        )
        return encode_memory(request.service_name or "", nodes, self._problem)

    def _capacity(self, ledger: Ledger, pools: Pools, node_id: int) -> list[PageCapacity]:
        """The kernel's present counts."""

        def capacity(pages: Hugepages) -> PageCapacity:
            free = free_pages(ledger, pages, node_id, pools.settings)
            return PageCapacity(total=pages.total, free=free, size=pages.size_kb)

        return [capacity(pages) for pages in self._host.hugepages(node_id)]

    def _listing(self, ledger: Ledger, pools: Pools, pool: Pool) -> bytes:
        found = self._prepared.get(pool.name)
        revision = self._review.revision
        if found is None or found.ledger is not ledger or found.pool is not pool or found.revision != revision:
            found = _Prepared(ledger, pool, revision, self._build(ledger, pools, pool))
            self._prepared[pool.name] = found
        return found.answer

    def _build(self, ledger: Ledger, pools: Pools, pool: Pool) -> bytes:
        self._claims.use(ledger.claims, pools.granted)
        parts = self._claims.of_pool(pool.name)
        services = parts.services()
        owned = ledger.owned[pool.name]
        outdated = self._review.outdated
        head = ListingHead(
            pool=pool.name,
            total_allocations=len(services),
            total_allocated_cpus=len(owned),
            total_available_cpus=len(pool.eligible),
            remaining_available_cpus=len(ledger.free(pool)) if self._ledger_known else 0,
            cpu_pool=PoolSummary(
                source=pool.source,
                configured_cpus=str(pool.configured),
                eligible_cpus=str(pool.eligible),
                unavailable_allocated_cpus=str(owned - pool.eligible),
            ),
            outdated_placements=tuple([service for service in services if service in outdated]) if outdated else (),
            state_error=self._problem,
        )
        return head.encode_with(parts.in_order())


class _Parts:
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


class _ClaimParts:
    """Each claim as listings show it, encoded once for as long as the claim does not change."""

    def __init__(self) -> None:
        self._claims: Mapping[str, Claim] = {}
        self._granted = EMPTY
        self._pools: dict[PoolName, _Parts] = {"isolated": _Parts(), "general": _Parts()}

    def use(self, claims: Mapping[str, Claim], granted: CpuSet, most: int | None = None) -> bool:
        """Make these the present claims, and `granted` the CPUs of all pools; whether that is done.

        With `most` only so many claims are encoded; call it again for the others.
        """
        if granted is not self._granted and granted != self._granted:
            self._forget_withheld(granted.mask ^ self._granted.mask)
            self._granted = granted
        changes = _changes(self._claims, claims)
        now = changes[:most]
        for service, claim in now:
            for pool, parts in self._pools.items():
                parts.put(service, _encode(claim, granted) if claim is not None and claim.pool == pool else None)
        self._claims = claims if len(now) == len(changes) else _with(self._claims, now)
        return self._claims is claims

    def _forget_withheld(self, cpus: int) -> None:
        """Forget the claims that withhold some of these CPUs."""
        stale = [service for service, claim in self._claims.items() if claim.withheld.mask & cpus]
        for service in stale:
            for parts in self._pools.values():
                parts.put(service, None)
        self._claims = _with(self._claims, [(service, None) for service in stale])

    def of_pool(self, pool: PoolName) -> _Parts:
        """The parts of the claims in a pool."""
        return self._pools[pool]


def _encode(claim: Claim, granted: CpuSet) -> bytes:
    allocation = Allocation(
        service_name=claim.service,
        pool=claim.pool,
        allocated_cores=str(claim.cpus),
        cores_count=len(claim.cpus),
        is_explicit=bool(claim.explicit),
        preemption_policy=claim.preemption_policy,
        withheld_cpus=str(claim.withheld & granted) or None,
    )
    return allocation.model_dump_json(exclude_none=True).encode()


class _PageParts:
    """The hugepage records of each node, encoded once: each service's part for as long as its records do not change."""

    def __init__(self) -> None:
        self._pages: Mapping[str, Mapping[PageKind, int]] = {}
        self._parts: dict[int, _Parts] = {}
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
        """Make these the present records; whether that is done. With `most` only so many services are encoded."""
        changes = _changes(self._pages, pages)
        now = changes[:most]
        for service, counts in now:
            parts = _encode_pages(service, counts or {})
            earlier = {node_id for node_id, _ in self._pages.get(service, ())}
            for node_id in earlier.union(parts):
                self._parts.setdefault(node_id, _Parts()).put(service, parts.get(node_id))
                self._touched.add(node_id)
        if len(now) < len(changes):
            self._pages = _with(self._pages, now)
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


def _encode_pages(service: str, counts: Mapping[PageKind, int]) -> dict[int, bytes]:
    """A service's member of each node's object."""
    by_node: dict[int, dict[str, int]] = {}
    for (node_id, size_kb), count in sorted(counts.items()):
        by_node.setdefault(node_id, {})[str(size_kb)] = count
    return {node_id: to_json({service: sizes})[1:-1] for node_id, sizes in by_node.items()}


def _changes(before: Mapping[str, _T], after: Mapping[str, _T]) -> list[tuple[str, _T | None]]:
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
