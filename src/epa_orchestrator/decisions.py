"""Decisions: what each mutating request makes of the ledger, and the answer that it gets."""

from __future__ import annotations

from typing import NamedTuple

from epa_orchestrator import ledger as rules
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.host import Host
from epa_orchestrator.ledger import Change, Ledger, Refused
from epa_orchestrator.machine import Hugepages
from epa_orchestrator.pools import NO_GENERAL_CPUS, Pool, PoolName, Pools
from epa_orchestrator.protocol import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Answer,
    CoresAnswer,
    HugepagesAnswer,
    Mutation,
    NumaCoresAnswer,
    PercentAnswer,
)


class Decision(NamedTuple):
    """What a granted request changes, the ledger after that, and the answer."""

    change: Change
    ledger: Ledger
    answer: Answer


def named_pool(ledger: Ledger, pools: Pools, name: PoolName) -> Pool:
    """The pool that a request names. An unconfigured one exists as long as claims in it do, to be listed and released.

    Raises Refused.
    """
    pool = pools.get(name)
    if pool is not None:
        return pool
    if not ledger.owned[name]:
        raise Refused("Pool general is not configured: set cpu-pool to the CPUs that it shall have")
    return Pool(name, "configured", EMPTY, EMPTY, f"{NO_GENERAL_CPUS}: cpu-pool is not configured")


def decide(ledger: Ledger, host: Host, pools: Pools, request: Mutation) -> Decision:
    """Decide a request on a ledger, for the host's pools as they are now.

    Raises Refused.
    """
    match request:
        case AllocateCores():
            return _cores(ledger, pools, request)
        case AllocateCoresPercent():
            return _percent(ledger, pools, request)
        case AllocateNumaCores():
            return _numa_cores(ledger, host, pools, request)
        case AllocateHugepages():
            return _hugepages(ledger, host, pools, request)


def _cores(ledger: Ledger, pools: Pools, request: AllocateCores) -> Decision:
    pool = named_pool(ledger, pools, request.pool)
    if request.num_of_cores < 0:
        grant = rules.release(ledger, pool.name, request.service_name)
    else:
        grant = rules.allocate(
            ledger, pools, pool, request.service_name, request.num_of_cores, request.preemption_policy
        )
    after = ledger.apply(grant.change)
    free = after.free(pool)
    return Decision(
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


def _percent(ledger: Ledger, pools: Pools, request: AllocateCoresPercent) -> Decision:
    pool = named_pool(ledger, pools, request.pool)
    if request.percent <= 0:
        grant = rules.release(ledger, pool.name, request.service_name)
    else:
        grant = rules.allocate_percent(
            ledger, pools, pool, request.service_name, request.percent, request.preemption_policy
        )
    after = ledger.apply(grant.change)
    return Decision(
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


def _numa_cores(ledger: Ledger, host: Host, pools: Pools, request: AllocateNumaCores) -> Decision:
    pool = named_pool(ledger, pools, request.pool)
    node_cpus = _node_cpus(host, pools, request)
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
    return Decision(
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


def _node_cpus(host: Host, pools: Pools, request: AllocateNumaCores) -> CpuSet:
    """The CPUs of the request's node. A release may name a node that is gone, or any when sysfs is unreadable."""
    releasing = request.num_of_cores < 0
    machine = pools.machine
    if machine is None:
        if not releasing:
            raise Refused(str(pools.isolated.problem))
        return host.nodes.get(request.numa_node, EMPTY)
    known = host.nodes.get(request.numa_node)
    if known is None or (machine.node(request.numa_node) is None and not releasing):
        raise Refused(f"NUMA node {request.numa_node} does not exist")
    return known


def _hugepages(ledger: Ledger, host: Host, pools: Pools, request: AllocateHugepages) -> Decision:
    kind = request.node_id, request.size_kb
    if request.hugepages_requested < 0:
        change = rules.drop_pages(ledger, request.service_name, kind)
        message = "Removed recorded hugepage allocation" if change else "No existing record to remove"
    else:
        count = request.hugepages_requested
        kernel = _kernel_pages(host, pools, request)
        change = rules.set_pages(ledger, kernel, pools.settings, request.service_name, request.node_id, count)
        message = f"Successfully set allocation request to {count} hugepages"
    return Decision(
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


def _kernel_pages(host: Host, pools: Pools, request: AllocateHugepages) -> Hugepages:
    if pools.machine is None or pools.machine.node(request.node_id) is None:
        raise Refused(f"NUMA node {request.node_id} not found")
    pages = host.hugepages_of(request.node_id, request.size_kb)
    if pages is None:
        raise Refused(f"Hugepage size {request.size_kb} KB not found on node {request.node_id}")
    return pages
