# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Figures: what the ledger, the pools and the kernel's hugepage counts say, as numbers with labels.

Ledger and pools never change, so any thread may read them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from epa_orchestrator.allocation.cpu_states import CpuState, cpu_states
from epa_orchestrator.allocation.hugepages import free_pages
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pool, Pools
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.metrics import catalogue
from epa_orchestrator.metrics.catalogue import MOST_SERVICES, NONE, OTHER_SERVICES, Metric
from epa_orchestrator.names import PoolName
from epa_orchestrator.units import format_size

if TYPE_CHECKING:
    from epa_orchestrator.protocol.isolation import CheckResult, ClaimIsolation

_KIB: Final = 1024

#: The states that a CPU of no pool can have. The others are those of a pool.
_WITHOUT_POOL: Final[tuple[CpuState, ...]] = ("reserved", "unavailable", "offline", "not-isolated")
_IN_POOL: Final[tuple[CpuState, ...]] = ("claimed", "free", "withheld", "reserved", "unavailable", "offline")


class Audited(Protocol):
    """The last audit of the host's isolation: when it was made, and what it found."""

    @property
    def read_at(self) -> float:
        """When the host was read, in seconds since 1970."""
        ...

    @property
    def checks(self) -> Sequence[CheckResult]:
        """The results of all checks."""
        ...

    @property
    def claims(self) -> Mapping[str, ClaimIsolation]:
        """The claims of then with their noise, by service."""
        ...


class View(NamedTuple):
    """All that the daemon knows at one moment.

    `pools` is None while the host cannot be read. `pages` are the kernel's counts by NUMA node. `warnings` and
    `outdated` are numbers of warnings and of claims, `connections` is the number of clients. `audit` is None before the
    first audit.
    """

    ledger: Ledger
    pools: Pools | None
    pages: Mapping[int, tuple[Hugepages, ...]]
    read_only: bool
    warnings: int
    outdated: int
    connections: int
    audit: Audited | None = None


class Figure(NamedTuple):
    """One number of a metric, with the values of its labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


class Figures:
    """Works out the figures of one view after the other.

    The figures of services are kept until claims or hugepage records change: 2,000 of each take 3 ms.
    """

    def __init__(self) -> None:
        self._claims: tuple[object, object, list[Figure]] = (None, None, [])
        self._pages: tuple[object, list[Figure]] = (None, [])

    def of(self, view: View) -> Iterator[Figure]:
        """All figures of a view."""
        ledger, pools = view.ledger, view.pools
        yield Figure(catalogue.READ_ONLY, (), int(view.read_only))
        yield Figure(catalogue.WARNINGS, (), view.warnings)
        yield Figure(catalogue.OUTDATED_PLACEMENTS, (), view.outdated)
        yield Figure(catalogue.CONNECTIONS, (), view.connections)
        if pools is not None:
            on_host = ledger.on(pools.cores)
            yield from _cpus(on_host, pools)
            for pool in pools.existing:
                yield from _pool(on_host, pool)
            yield from _pages(ledger, pools, view.pages)
        if self._claims[0] is not ledger.claims or self._claims[1] is not pools:
            self._claims = ledger.claims, pools, list(_claims(ledger, pools))
        if self._pages[0] is not ledger.pages:
            self._pages = ledger.pages, list(_service_pages(ledger))
        yield from self._claims[-1]
        yield from self._pages[-1]


# --- CPUs ---------------------------------------------------------------------------------------------------------


def _cpus(ledger: Ledger, pools: Pools) -> Iterator[Figure]:
    """The CPUs of each pool, NUMA node and state. Zeros too, so that no series ends when a state is empty.

    Reserved CPUs count in the pool in which they would be otherwise.
    """
    owned_in_general = ledger.owned["general"].mask
    kernel_isolated = pools.machine.isolated.mask if pools.machine is not None else 0
    isolated = kernel_isolated & ~owned_in_general | ledger.owned["isolated"].mask
    general = (pools.settings.cpu_pool.mask | owned_in_general) & ~isolated
    by_state = cpu_states(ledger, pools)
    for node, cpus in _nodes(pools):
        places = [("isolated", cpus & isolated, _IN_POOL), (NONE, cpus & ~isolated & ~general, _WITHOUT_POOL)]
        if general:
            places.append(("general", cpus & general, _IN_POOL))
        for pool, mask, states in places:
            for state, in_state in by_state.items():
                count = (in_state.mask & mask).bit_count()
                if count or (state in states and node != NONE):
                    yield Figure(catalogue.CPUS, (pool, node, state), count)


def _nodes(pools: Pools) -> Iterator[tuple[str, int]]:
    """Each NUMA node with its CPUs, and the CPUs that are in none."""
    rest = -1  # all CPUs, also those that only a claim names
    for node in pools.machine.nodes if pools.machine is not None else ():
        yield str(node.id), node.cpus.mask & rest
        rest &= ~node.cpus.mask
    yield NONE, rest


def _pool(ledger: Ledger, pool: Pool) -> Iterator[Figure]:
    """What is left of a pool."""
    machine, free = pool.machine, ledger.free(pool).mask
    nodes = machine.nodes if machine is not None else ()
    l3_domains = [cpus.mask & pool.eligible.mask for cpus in machine.l3_domains] if machine is not None else []
    largest = max([(node.cpus.mask & free).bit_count() for node in nodes], default=free.bit_count())
    yield Figure(catalogue.LARGEST_FREE_NODE, (pool.name,), largest)
    whole = sum([bool(cpus) and not cpus & ~free for cpus in l3_domains])
    yield Figure(catalogue.FREE_L3_DOMAINS, (pool.name,), whole)


def _claims(ledger: Ledger, pools: Pools | None) -> Iterator[Figure]:
    """The claims of each pool, and the CPUs of the largest ones."""
    by_pool: dict[PoolName, dict[str, int]] = {"isolated": {}}
    if ledger.owned["general"] or (pools is not None and pools.general is not None):
        by_pool["general"] = {}
    outside = dict.fromkeys(by_pool, 0)
    stray = _stray_cpus(pools, by_pool)
    for service, claim in ledger.claims.items():
        by_pool[claim.pool][service] = claim.cpus.mask.bit_count()
        outside[claim.pool] += claim.cpus.mask & stray[claim.pool] != 0
    for pool, cpus in by_pool.items():
        yield Figure(catalogue.CLAIMS, (pool,), len(cpus))
        yield Figure(catalogue.CLAIMS_OUTSIDE_POOL, (pool,), outside[pool])
        for service, count in largest_services(cpus):
            yield Figure(catalogue.SERVICE_CPUS, (pool, service), count)


def _stray_cpus(pools: Pools | None, names: Iterable[PoolName]) -> dict[PoolName, int]:
    """By pool: the online CPUs that are not in it, as masks."""
    online = pools.machine.online.mask if pools is not None and pools.machine is not None else 0
    stray: dict[PoolName, int] = {}
    for name in names:
        pool = pools.get(name) if pools is not None else None
        stray[name] = online & ~pool.configured.mask if pool is not None else online
    return stray


def largest_services(values: Mapping[str, int]) -> list[tuple[str, int]]:
    """The services with the largest values, by name, and the sum of all others."""
    rest = values.get(OTHER_SERVICES, 0)
    if len(values) <= MOST_SERVICES and not rest:
        return sorted(values.items())
    named = [(service, value) for service, value in values.items() if service != OTHER_SERVICES]
    largest = heapq.nlargest(MOST_SERVICES, named, key=itemgetter(1, 0))
    rest = sum(values.values()) - sum([value for _, value in largest])
    return [*sorted(largest), (OTHER_SERVICES, rest)]


# --- hugepages ----------------------------------------------------------------------------------------------------


def _pages(ledger: Ledger, pools: Pools, counts: Mapping[int, tuple[Hugepages, ...]]) -> Iterator[Figure]:
    """The hugepages of each NUMA node and size."""
    for node, sizes in counts.items():
        for pages in sizes:
            labels, size = (str(node), format_size(pages.size_kb)), pages.size_kb * _KIB
            reserved = pools.settings.reserved_pages(node, pages.size_kb)
            free = free_pages(ledger, pages, reserved, node)
            yield Figure(catalogue.HUGEPAGES, labels, pages.total * size)
            yield Figure(catalogue.HUGEPAGES_FREE, labels, free * size)
            recorded = ledger.recorded.get((node, pages.size_kb), 0)
            yield Figure(catalogue.HUGEPAGES_RECORDED, labels, recorded * size)


def _service_pages(ledger: Ledger) -> Iterator[Figure]:
    totals = {
        service: sum([size_kb * count for (_, size_kb), count in records.items()]) * _KIB
        for service, records in ledger.pages.items()
    }
    for service, size in largest_services(totals):
        yield Figure(catalogue.SERVICE_HUGEPAGES, (service,), size)
