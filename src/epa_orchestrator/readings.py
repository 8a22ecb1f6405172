"""Readings: the answers that show the state; a listing is prepared once for as long as nothing changes."""

from __future__ import annotations

from epa_orchestrator.decisions import named_pool
from epa_orchestrator.host import Host
from epa_orchestrator.ledger import Claim, Ledger, free_pages
from epa_orchestrator.machine import Hugepages
from epa_orchestrator.pools import Pool, PoolName, Pools
from epa_orchestrator.protocol import (
    Allocation,
    GetMemoryInfo,
    ListingHead,
    MemoryAnswer,
    NodeHugepages,
    PageCapacity,
    PoolSummary,
    Reading,
)
from epa_orchestrator.review import outdated


class Readings:
    """Answers readings from a ledger.

    `problem` is why the daemon serves nothing else, None when all is well; with `ledger_known` false the claims are not
    known either, and no CPU counts as free. Of a listing the whole answer is kept while nothing changes, and each
    claim's part of it while that claim does not.
    """

    def __init__(self, host: Host, problem: str | None, *, ledger_known: bool) -> None:
        self._host = host
        self._problem = problem
        self._ledger_known = ledger_known
        self._prepared: dict[PoolName, tuple[Ledger, Pool, bytes]] = {}
        self._parts: dict[str, tuple[Claim, bytes]] = {}

    def fail(self, problem: str) -> None:
        """From now on nothing but readings is served, and they say why."""
        self._problem = problem
        self._prepared.clear()

    def answer(self, ledger: Ledger, pools: Pools, request: Reading) -> bytes:
        """The answer to a reading, for the host as it is now.

        Raises Refused.
        """
        if isinstance(request, GetMemoryInfo):
            return self._memory_info(ledger, pools, request).encode()
        return self._listing(ledger, pools, named_pool(ledger, pools, request.pool))

    def _memory_info(self, ledger: Ledger, pools: Pools, request: GetMemoryInfo) -> MemoryAnswer:
        records: dict[int, dict[str, dict[str, int]]] = {}
        for service, counts in sorted(ledger.pages.items()):
            for (node_id, size_kb), count in sorted(counts.items()):
                records.setdefault(node_id, {}).setdefault(service, {})[str(size_kb)] = count
        present = pools.machine.node_ids if pools.machine else ()
        return MemoryAnswer(
            service_name=request.service_name or "",
            numa_hugepages={
                f"node{node_id}": NodeHugepages(
                    capacity=[self._capacity(ledger, pools, node_id, pages) for pages in self._host.hugepages(node_id)],
                    allocations=records.get(node_id, {}),
                )
                for node_id in sorted({*present, *records})
            },
            state_error=self._problem,
        )

    def _capacity(self, ledger: Ledger, pools: Pools, node_id: int, pages: Hugepages) -> PageCapacity:
        free = free_pages(ledger, pages, node_id, pools.settings)
        return PageCapacity(total=pages.total, free=free, size=pages.size_kb)

    def _listing(self, ledger: Ledger, pools: Pools, pool: Pool) -> bytes:
        prepared = self._prepared.get(pool.name)
        if prepared is None or prepared[0] is not ledger or prepared[1] is not pool:
            prepared = ledger, pool, self._build(ledger, pools, pool)
            self._prepared[pool.name] = prepared
        return prepared[2]

    def _build(self, ledger: Ledger, pools: Pools, pool: Pool) -> bytes:
        self._parts = {service: part for service, part in self._parts.items() if service in ledger.claims}
        claims = [claim for _, claim in sorted(ledger.claims.items()) if claim.pool == pool.name]
        owned = ledger.owned[pool.name]
        head = ListingHead(
            pool=pool.name,
            total_allocations=len(claims),
            total_allocated_cpus=len(owned),
            total_available_cpus=len(pool.eligible),
            remaining_available_cpus=len(ledger.free(pool)) if self._ledger_known else 0,
            cpu_pool=PoolSummary(
                source=pool.source,
                configured_cpus=str(pool.configured),
                eligible_cpus=str(pool.eligible),
                unavailable_allocated_cpus=str(owned - pool.eligible),
            ),
            outdated_placements=tuple([each.service for each in claims if outdated(ledger, pools, pool, each)]),
            state_error=self._problem,
        )
        return head.encode_with([self._part(claim) for claim in claims])

    def _part(self, claim: Claim) -> bytes:
        known = self._parts.get(claim.service)
        if known is None or known[0] is not claim:
            allocation = Allocation(
                service_name=claim.service,
                pool=claim.pool,
                allocated_cores=str(claim.cpus),
                cores_count=len(claim.cpus),
                is_explicit=bool(claim.explicit),
                preemption_policy=claim.policy,
                withheld_cpus=str(claim.withheld) or None,
            )
            known = claim, allocation.model_dump_json(exclude_none=True).encode()
            self._parts[claim.service] = known
        return known[1]
