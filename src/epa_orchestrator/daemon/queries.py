# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Queries: the answers to requests that change nothing, from parts that are encoded once per change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from epa_orchestrator import __version__
from epa_orchestrator.allocation.allocate import find_pool
from epa_orchestrator.allocation.cpu_states import cpu_states
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.hugepages import free_pages
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.outdated import Review
from epa_orchestrator.allocation.pools import Pool, Pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.encoded import ClaimParts, PageParts, RecordParts
from epa_orchestrator.daemon.encoded_machine import EncodedMachine
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.names import PoolName
from epa_orchestrator.protocol.answers import ListingHead, PageCapacity, PoolSummary, add_warnings
from epa_orchestrator.protocol.memory import NodePart, encode_memory
from epa_orchestrator.protocol.readings import GetMachine, GetMemoryInfo, PresentReading, Watch
from epa_orchestrator.protocol.watching import encode_state

if TYPE_CHECKING:
    from epa_orchestrator.protocol.machine import MachineHead

#: How many services are encoded at a stretch: 2,000 claims take 22 ms, the hugepage records of 7,000 services 39 ms.
_ENCODED_AT_ONCE: Final = 100
#: How many cores are: 4 ms for 2,000.
_CORES_AT_ONCE: Final = 500


class _Prepared(NamedTuple):
    """A whole listing, with and without its warnings, and what it was made of."""

    ledger: Ledger
    pool: Pool
    revision: int
    warnings: tuple[str, ...]
    plain: bytes
    answer: bytes


class _PreparedHead(NamedTuple):
    """The states and pools of an answer to get_machine, and what they were made of."""

    ledger: Ledger
    pools: Pools
    head: MachineHead


class Queries:
    """Answers readings from a ledger.

    `problem` says why nothing else is served, None when all is well; with `ledger_known` false the claims are not known
    either, and no CPU counts as free. The first answer will probably be about `ledger`, whose pools have the
    CPUs `configured`: its parts are encoded ahead. `review` knows the outdated placements. Listings show `warnings`,
    and those of the host.
    """

    def __init__(
        self,
        host: Host,
        problem: str | None,
        *,
        ledger_known: bool,
        ledger: Ledger | None = None,
        configured: CpuSet = EMPTY,
        review: Review | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._host = host
        self._problem = problem
        self._ledger_known = ledger_known
        self._prepared: dict[PoolName, _Prepared] = {}
        #: The last first line for watchers, and what it was made of.
        self._last_line: tuple[tuple[bytes, bytes | None, bytes, tuple[str, ...]], bytes] | None = None
        self._claims = ClaimParts()
        self._pages = PageParts()
        self._records = RecordParts()
        self._machine = EncodedMachine()
        self._head: _PreparedHead | None = None
        self._review = review or Review()
        self._warnings = warnings
        if ledger is not None:
            self._claims.use(ledger.claims, configured)
            self._pages.use(ledger.pages)

    def fail(self, problem: str) -> None:
        """Say in every answer from now on why only readings are served."""
        self._problem = problem
        self._prepared.clear()
        self._head = None

    def warn(self, warnings: tuple[str, ...]) -> None:
        """Show these warnings in every listing from now on, in place of the earlier ones."""
        self._warnings = warnings

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings in every listing."""
        return self._warnings + self._host.warnings()

    def prepare(self, ledger: Ledger, pools: Pools, request: PresentReading) -> bool:
        """Encode some of the parts that changed; returns whether all are encoded, so that `answer` is quick."""
        if isinstance(request, GetMemoryInfo):
            return self._pages.use(ledger.pages, _ENCODED_AT_ONCE)
        if isinstance(request, GetMachine):
            return self._machine.use(pools.machine, _CORES_AT_ONCE)
        if isinstance(request, Watch) and not self._records.use(ledger.pages, _ENCODED_AT_ONCE):
            return False
        return self._claims.use(ledger.claims, pools.configured, _ENCODED_AT_ONCE)

    def answer(self, ledger: Ledger, pools: Pools, request: PresentReading) -> bytes:
        """The answer to a reading, for the host as it is now.

        Raises Refused.
        """
        if isinstance(request, GetMemoryInfo):
            return self._memory_info(ledger, pools, request)
        if isinstance(request, GetMachine):
            return self._describe(ledger, pools, request)
        prepared = self._listing(ledger, pools, find_pool(ledger, pools, request.pool))
        if isinstance(request, Watch):
            return self._state_line(ledger, pools, prepared, request.warnings)
        if warnings := request.warnings:
            return add_warnings(prepared.plain, prepared.warnings + warnings)
        return prepared.answer

    def _memory_info(self, ledger: Ledger, pools: Pools, request: GetMemoryInfo) -> bytes:
        self._pages.use(ledger.pages)
        node_ids = {*(pools.machine.node_ids if pools.machine else ()), *self._pages.nodes}
        if request.node_id is not None:
            if request.node_id not in node_ids:
                raise Refused(f"NUMA node {request.node_id} not found", rule="not-found")
            counts = {request.node_id: self._host.hugepages(request.node_id)}
        else:
            counts = self._host.hugepages_by_node(sorted(node_ids))
        nodes = [
            NodePart(node_id, _capacity(ledger, pools, node_id, pages), self._pages.of_node(node_id))
            for node_id, pages in counts.items()
        ]
        name, warnings = request.service_name or "", request.warnings
        return encode_memory(name, nodes, ledger.recorded, self._problem, warnings)

    def _describe(self, ledger: Ledger, pools: Pools, request: GetMachine) -> bytes:
        machine = pools.machine
        if machine is None:
            raise Refused(pools.isolated.problem or "The machine cannot be read", rule="pool")
        self._machine.use(machine)
        if self._head is None or self._head.ledger is not ledger or self._head.pools is not pools:
            self._head = _PreparedHead(ledger, pools, self._build_head(ledger, pools))
        pages = self._machine.with_pages(self._host.hugepages_by_node(machine.node_ids))
        return add_warnings(self._head.head.encode_with(pages), request.warnings)

    def _build_head(self, ledger: Ledger, pools: Pools) -> MachineHead:
        from epa_orchestrator.protocol.machine import MachineHead  # few daemons need it

        states = cpu_states(ledger, pools)
        if not self._ledger_known:
            states = states | {"unavailable": states["free"], "free": EMPTY}
        return MachineHead(
            daemon_version=__version__,
            states={state: str(cpus) for state, cpus in states.items()},
            pools={pool.name: str(pool.configured) for pool in pools.existing},
            state_error=self._problem,
        )

    def _state_line(self, ledger: Ledger, pools: Pools, asked: _Prepared, warnings: tuple[str, ...]) -> bytes:
        """The first line for a watcher: the listing of the pool that it asked for, the other one's, and all records.

        Many watchers may wait for one at a time, so they share its bytes.
        """
        others = [pool for pool in _listed_pools(ledger, pools) if pool is not asked.pool]
        other_pool = self._listing(ledger, pools, others[0]).plain if others else None
        self._records.use(ledger.pages)
        made_of = asked.plain, other_pool, self._records.joined(), asked.warnings + warnings
        if self._last_line is None or self._last_line[0] != made_of:
            self._last_line = made_of, encode_state(*made_of)
        return self._last_line[1]

    def _listing(self, ledger: Ledger, pools: Pools, pool: Pool) -> _Prepared:
        found = self._prepared.get(pool.name)
        made_of = ledger, pool, self._review.revision, self.warnings
        if found is None or not _is_made_of(found, *made_of):
            plain = self._build(ledger, pools, pool)
            found = _Prepared(*made_of, plain, add_warnings(plain, made_of[-1]))
            self._prepared[pool.name] = found
        return found

    def _build(self, ledger: Ledger, pools: Pools, pool: Pool) -> bytes:
        self._claims.use(ledger.claims, pools.configured)
        parts = self._claims.of_pool(pool.name)
        services = parts.services()
        owned = ledger.owned[pool.name]
        outdated = self._review.services_with_outdated(ledger.claims)
        head = ListingHead(
            pool=pool.name,
            total_allocations=len(services),
            total_allocated_cpus=len(owned),
            total_available_cpus=len(pool.eligible),
            remaining_available_cpus=len(ledger.free(pool)) if self._ledger_known else 0,
            cpu_pool=summary_of(pool, owned),
            outdated_placements=tuple([service for service in services if service in outdated]) if outdated else (),
            state_error=self._problem,
        )
        return head.encode_with(parts.in_order())


def _listed_pools(ledger: Ledger, pools: Pools) -> tuple[Pool, ...]:
    """The pools that can be listed: a general pool that is not configured counts while services hold claims in it."""
    if pools.general is None and ledger.owned["general"]:
        return pools.isolated, pools.unconfigured
    return pools.existing


def summary_of(pool: Pool, owned: CpuSet) -> PoolSummary:
    """The CPUs of a pool of which services own some."""
    return PoolSummary(
        source=pool.source,
        configured_cpus=str(pool.configured),
        eligible_cpus=str(pool.eligible),
        unavailable_allocated_cpus=str(owned - pool.eligible),
    )


def _capacity(ledger: Ledger, pools: Pools, node_id: int, counts: Iterable[Hugepages]) -> list[PageCapacity]:
    """The kernel's counts of a node, with what of the free pages can still be recorded."""
    reserved = pools.settings.reserved_pages
    return [
        PageCapacity(
            total=pages.total,
            free=free_pages(ledger, pages, reserved(node_id, pages.size_kb), node_id),
            size=pages.size_kb,
        )
        for pages in counts
    ]


def _is_made_of(prepared: _Prepared, ledger: Ledger, pool: Pool, revision: int, warnings: tuple[str, ...]) -> bool:
    """Whether a listing that was made earlier is still the one to send."""
    if prepared.ledger is not ledger or prepared.pool is not pool:
        return False
    return prepared.revision == revision and prepared.warnings == warnings
