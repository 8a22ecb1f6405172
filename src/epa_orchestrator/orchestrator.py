"""Orchestrator: takes one request from its model to its committed answer.

Readings are answered at once, from what is committed. Mutations that wait together are decided one after the other,
each on the ledger that the one before leaves, and committed together with one sync in another thread; no answer leaves
before its commit. While a commit is under way the next mutations gather. A failed commit undoes every decision in it,
in memory as on disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from epa_orchestrator import ledger as rules
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.host import Host
from epa_orchestrator.ledger import Change, Claim, Ledger, Refused
from epa_orchestrator.machine import Hugepages
from epa_orchestrator.pools import NO_GENERAL_CPUS, Pool, PoolName, Pools
from epa_orchestrator.protocol import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Allocation,
    Answer,
    CoresAnswer,
    ErrorAnswer,
    GetMemoryInfo,
    HugepagesAnswer,
    ListingHead,
    MemoryAnswer,
    Mutation,
    NodeHugepages,
    NumaCoresAnswer,
    PageCapacity,
    PercentAnswer,
    PoolSummary,
    Reading,
    Request,
)
from epa_orchestrator.settings import Settings
from epa_orchestrator.store import CommitError, Origin, Store
from epa_orchestrator.worker import Worker

log = logging.getLogger(__name__)

#: After this time (seconds) without a mutation the store tidies up.
_IDLE = 1.0

Reply = Callable[[bytes], None]


class State(NamedTuple):
    """What the daemon starts from: an open store, or else the problem that keeps it read-only.

    `ledger` is None when the claims are not known.
    """

    ledger: Ledger | None
    store: Store | None
    problem: str | None


class _Waiting(NamedTuple):
    request: Mutation
    origin: Origin
    reply: Reply


class _Decided(NamedTuple):
    """`tentative`: the answer rests on a change that is not committed yet."""

    waiting: _Waiting
    answer: bytes
    tentative: bool


class Orchestrator:
    """Serves requests on one event loop; call everything in the loop's thread."""

    def __init__(self, host: Host, settings: Settings, state: State) -> None:
        self._host = host
        self.settings = settings
        self._ledger = state.ledger or Ledger()
        self._ledger_known = state.ledger is not None
        self._store = state.store
        self._problem = state.problem
        self._listings = _Listings()
        self._waiting: list[_Waiting] = []
        self._committing = False
        self._worker = Worker()
        self._idle: asyncio.TimerHandle | None = None
        self._stored_nodes = dict(host.nodes)

    def use(self, settings: Settings) -> None:
        """Serve by other settings from now on. No claim moves."""
        self.settings = settings
        self._host.use(settings)

    def submit(self, request: Request, origin: Origin, reply: Reply) -> None:
        """Serve a request; `reply` is called once, at once or when the request's change is durable."""
        if isinstance(request, Reading):
            reply(self._read(request))
            _log_served(origin, request.service_name or "", None)
        elif self._store is None:
            reply(_error(f"{self._problem}; until then only list_allocations and get_memory_info are served"))
            _log_served(origin, request.service_name, self._problem)
        else:
            self._waiting.append(_Waiting(request, origin, reply))
            self._schedule()

    @property
    def busy(self) -> bool:
        """Whether mutations wait for their commit."""
        return self._committing or bool(self._waiting)

    def close(self) -> None:
        """Let the commit under way end, and close the store."""
        if self._idle is not None:
            self._idle.cancel()
        self._worker.close()
        if self._store is not None:
            self._store.close()

    # --- mutations: decided together, committed together ---

    def _schedule(self) -> None:
        if not self._committing:
            self._committing = True
            asyncio.get_running_loop().call_soon(self._decide_batch)

    def _decide_batch(self) -> None:
        batch, self._waiting = self._waiting, []
        assert self._store is not None
        pools = self._host.pools()
        decided: list[_Decided] = []
        ledger = self._ledger
        now = time.time()
        try:
            for waiting in batch:
                change, ledger, answer = self._decide(ledger, pools, waiting)
                if change:
                    self._store.stage(change, waiting.origin, now)
                decided.append(_Decided(waiting, answer, ledger is not self._ledger))
            if ledger is not self._ledger and self._host.nodes != self._stored_nodes:
                self._store.stage_nodes(self._host.nodes)
        except CommitError as error:
            undecided = [_Decided(waiting, b"", tentative=True) for waiting in batch[len(decided) :]]
            self._finish([*decided, *undecided], ledger, error)
            return
        if ledger is self._ledger:
            self._finish(decided, ledger, None)
            return
        nodes = dict(self._host.nodes)

        def committed(error: Exception | None) -> None:
            if error is None:
                self._stored_nodes = nodes
            elif not isinstance(error, CommitError):
                log.error("commit failed unexpectedly", exc_info=error)
            self._finish(decided, ledger, error)

        self._worker.run(self._store.commit, committed)

    def _finish(self, decided: list[_Decided], ledger: Ledger, error: Exception | None) -> None:
        """Send the answers of a batch, and go on with what has gathered meanwhile."""
        if error is None:
            self._ledger = ledger
        else:
            log.error("nothing was changed because the state could not be stored: %s", error)
        for waiting, answer, tentative in decided:
            if error is not None and tentative:
                answer = _error(f"Nothing was changed because the state could not be stored: {error}")
            waiting.reply(answer)
        self._committing = False
        if self._waiting:
            self._schedule()
        else:
            self._tidy_later()

    def _decide(self, ledger: Ledger, pools: Pools, waiting: _Waiting) -> tuple[Change, Ledger, bytes]:
        """What a mutation changes, the ledger after it, and its answer; a refusal changes nothing."""
        try:
            change, after, answer = self._grant(ledger, pools, waiting.request)
        except Refused as refusal:
            _log_served(waiting.origin, waiting.request.service_name, str(refusal))
            return Change(), ledger, _error(str(refusal))
        except Exception:
            log.exception("%s of service %r failed", waiting.origin.action, waiting.request.service_name)
            return (
                Change(),
                ledger,
                _error("Internal error: nothing was changed; please report it with the daemon's log"),
            )
        _log_served(waiting.origin, waiting.request.service_name, None)
        return change, after, answer.encode()

    def _grant(self, ledger: Ledger, pools: Pools, request: Mutation) -> tuple[Change, Ledger, Answer]:
        match request:
            case AllocateCores():
                return self._cores(ledger, pools, request)
            case AllocateCoresPercent():
                return self._percent(ledger, pools, request)
            case AllocateNumaCores():
                return self._numa_cores(ledger, pools, request)
            case AllocateHugepages():
                return self._hugepages(ledger, pools, request)

    def _cores(self, ledger: Ledger, pools: Pools, request: AllocateCores) -> tuple[Change, Ledger, Answer]:
        pool = _pool(ledger, pools, request.pool)
        if request.num_of_cores < 0:
            grant = rules.release(ledger, pool.name, request.service_name)
        else:
            grant = rules.allocate(
                ledger, pools, pool, request.service_name, request.num_of_cores, request.preemption_policy
            )
        after = ledger.apply(grant.change)
        free = after.free(pool)
        return (
            grant.change,
            after,
            CoresAnswer(
                service_name=request.service_name,
                num_of_cores=max(request.num_of_cores, 0),
                cores_allocated=len(grant.cpus),
                allocated_cores=str(grant.cpus),
                shared_cpus=str(free),
                total_available_cpus=len(pool.eligible),
                remaining_available_cpus=len(free),
                pool=pool.name,
                preemption_policy=grant.claim.policy if grant.claim else None,
            ),
        )

    def _percent(self, ledger: Ledger, pools: Pools, request: AllocateCoresPercent) -> tuple[Change, Ledger, Answer]:
        pool = _pool(ledger, pools, request.pool)
        if request.percent <= 0:
            grant = rules.release(ledger, pool.name, request.service_name)
        else:
            grant = rules.allocate_percent(
                ledger, pools, pool, request.service_name, request.percent, request.preemption_policy
            )
        after = ledger.apply(grant.change)
        return (
            grant.change,
            after,
            PercentAnswer(
                service_name=request.service_name,
                cores_allocated_count=len(grant.cpus),
                allocated_cores=str(grant.cpus),
                total_available_cpus=len(pool.eligible),
                remaining_available_cpus=len(after.free(pool)),
                pool=pool.name,
                preemption_policy=grant.claim.policy if grant.claim else None,
            ),
        )

    def _numa_cores(self, ledger: Ledger, pools: Pools, request: AllocateNumaCores) -> tuple[Change, Ledger, Answer]:
        pool = _pool(ledger, pools, request.pool)
        node_cpus = self._node_cpus(pools, request)
        if request.num_of_cores < 0:
            grant = rules.release_in_node(ledger, pool.name, request.service_name, node_cpus, request.preemption_policy)
        else:
            grant = rules.allocate_in_node(
                ledger,
                pools,
                pool,
                request.service_name,
                request.numa_node,
                node_cpus,
                request.num_of_cores,
                request.preemption_policy,
            )
        after = ledger.apply(grant.change)
        return (
            grant.change,
            after,
            NumaCoresAnswer(
                service_name=request.service_name,
                numa_node=request.numa_node,
                num_of_cores=request.num_of_cores,
                cores_allocated=str(grant.cpus),
                total_available_cpus=len(pool.eligible),
                remaining_available_cpus=len(after.free(pool)),
                pool=pool.name,
                preemption_policy=grant.claim.policy if grant.claim else None,
            ),
        )

    def _node_cpus(self, pools: Pools, request: AllocateNumaCores) -> CpuSet:
        """The CPUs of the request's node. A release may name a node that is gone, or any when sysfs is unreadable."""
        releasing = request.num_of_cores < 0
        machine = pools.machine
        if machine is None:
            if not releasing:
                raise Refused(str(pools.isolated.problem))
            return self._host.nodes.get(request.numa_node, EMPTY)
        known = self._host.nodes.get(request.numa_node)
        if known is None or (machine.node(request.numa_node) is None and not releasing):
            raise Refused(f"NUMA node {request.numa_node} does not exist")
        return known

    def _hugepages(self, ledger: Ledger, pools: Pools, request: AllocateHugepages) -> tuple[Change, Ledger, Answer]:
        kind = request.node_id, request.size_kb
        if request.hugepages_requested < 0:
            change = rules.drop_pages(ledger, request.service_name, kind)
            message = "Removed recorded hugepage allocation" if change else "No existing record to remove"
        else:
            count = request.hugepages_requested
            kernel = self._kernel_pages(pools, request)
            change = rules.set_pages(ledger, kernel, self.settings, request.service_name, request.node_id, count)
            message = f"Successfully set allocation request to {count} hugepages"
        return (
            change,
            ledger.apply(change),
            HugepagesAnswer(
                service_name=request.service_name,
                hugepages_requested=request.hugepages_requested,
                allocation_successful=True,
                message=message,
                node_id=request.node_id,
                size_kb=request.size_kb,
            ),
        )

    def _kernel_pages(self, pools: Pools, request: AllocateHugepages) -> Hugepages:
        if pools.machine is None or pools.machine.node(request.node_id) is None:
            raise Refused(f"NUMA node {request.node_id} not found")
        pages = self._host.hugepages_of(request.node_id, request.size_kb)
        if pages is None:
            raise Refused(f"Hugepage size {request.size_kb} KB not found on node {request.node_id}")
        return pages

    # --- readings ---

    def _read(self, request: Reading) -> bytes:
        pools = self._host.pools()
        if isinstance(request, GetMemoryInfo):
            return self._memory_info(pools, request).encode()
        try:
            pool = _pool(self._ledger, pools, request.pool)
        except Refused as refusal:
            return _error(str(refusal))
        return self._listings.get(self._ledger, pool, self._ledger_known, self._problem)

    def _memory_info(self, pools: Pools, request: GetMemoryInfo) -> MemoryAnswer:
        records: dict[int, dict[str, dict[str, int]]] = {}
        for service, counts in sorted(self._ledger.pages.items()):
            for (node_id, size_kb), count in sorted(counts.items()):
                records.setdefault(node_id, {}).setdefault(service, {})[str(size_kb)] = count
        present = pools.machine.node_ids if pools.machine else ()
        return MemoryAnswer(
            service_name=request.service_name or "",
            numa_hugepages={
                f"node{node_id}": NodeHugepages(
                    capacity=[self._capacity(node_id, pages) for pages in self._host.hugepages(node_id)],
                    allocations=records.get(node_id, {}),
                )
                for node_id in sorted({*present, *records})
            },
            state_error=self._problem,
        )

    def _capacity(self, node_id: int, pages: Hugepages) -> PageCapacity:
        free = rules.free_pages(self._ledger, pages, node_id, self.settings)
        return PageCapacity(total=pages.total, free=free, size=pages.size_kb)

    # --- idle ---

    def _tidy_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE, self._tidy)

    def _tidy(self) -> None:
        """Let the store tidy up in the commit thread; mutations that come meanwhile wait for it as for a commit."""
        self._idle = None
        if self._committing or self._store is None:
            return
        self._committing = True
        self._worker.run(self._store.tidy, self._tidied)

    def _tidied(self, _: Exception | None) -> None:
        self._committing = False
        if self._waiting:
            self._schedule()


class _Listings:
    """Prepared listings: the whole answer while nothing changes, and each claim's part of it while that claim does."""

    def __init__(self) -> None:
        self._answers: dict[PoolName, tuple[Ledger, Pool, bytes]] = {}
        self._parts: dict[str, tuple[Claim, bytes]] = {}

    def get(self, ledger: Ledger, pool: Pool, ledger_known: bool, problem: str | None) -> bytes:
        """The answer to list_allocations."""
        prepared = self._answers.get(pool.name)
        if prepared is None or prepared[0] is not ledger or prepared[1] is not pool:
            prepared = ledger, pool, self._build(ledger, pool, ledger_known, problem)
            self._answers[pool.name] = prepared
        return prepared[2]

    def _build(self, ledger: Ledger, pool: Pool, ledger_known: bool, problem: str | None) -> bytes:
        self._parts = {service: part for service, part in self._parts.items() if service in ledger.claims}
        claims = [claim for _, claim in sorted(ledger.claims.items()) if claim.pool == pool.name]
        owned = ledger.owned[pool.name]
        head = ListingHead(
            pool=pool.name,
            total_allocations=len(claims),
            total_allocated_cpus=len(owned),
            total_available_cpus=len(pool.eligible),
            remaining_available_cpus=len(ledger.free(pool)) if ledger_known else 0,
            cpu_pool=PoolSummary(
                source=pool.source,
                configured_cpus=str(pool.configured),
                eligible_cpus=str(pool.eligible),
                unavailable_allocated_cpus=str(owned - pool.eligible),
            ),
            state_error=problem,
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
            )
            known = claim, allocation.model_dump_json().encode()
            self._parts[claim.service] = known
        return known[1]


def _pool(ledger: Ledger, pools: Pools, name: PoolName) -> Pool:
    """The pool that a request names. An unconfigured one exists as long as claims in it do, to be listed and released.

    Raises Refused.
    """
    pool = pools.get(name)
    if pool is not None:
        return pool
    if not ledger.owned[name]:
        raise Refused("Pool general is not configured: set cpu-pool to the CPUs that it shall have")
    return Pool(name, "configured", EMPTY, EMPTY, f"{NO_GENERAL_CPUS}: cpu-pool is not configured")


def _error(sentence: str) -> bytes:
    return ErrorAnswer(error=sentence).encode()


def _log_served(origin: Origin, service: str, refusal: str | None) -> None:
    log.info(
        "pid=%d uid=%d gid=%d %s %r: %s",
        origin.pid,
        origin.uid,
        origin.gid,
        origin.action,
        service,
        refusal or "served",
    )
