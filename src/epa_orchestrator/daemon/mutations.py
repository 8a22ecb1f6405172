"""Decisions: what each mutating request makes of the ledger, and the answer that it gets."""

from __future__ import annotations

from typing import Final, NamedTuple, TypedDict

from epa_orchestrator.allocation import ledger as rules
from epa_orchestrator.allocation import service_names as names
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ask, Change, Grant, Ledger, LedgerError, Refused
from epa_orchestrator.allocation.pools import NO_GENERAL_CPUS, Pool, Pools
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import explanation
from epa_orchestrator.hardware.devices import DeviceError
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import Wishes
from epa_orchestrator.placement.search import EXPLAINED_CANDIDATES
from epa_orchestrator.placement.summary import summarize
from epa_orchestrator.protocol.answers import (
    Answer,
    CoresAnswer,
    ErrorAnswer,
    Explanation,
    HugepagesAnswer,
    NumaCoresAnswer,
    PercentAnswer,
    Placement,
)
from epa_orchestrator.protocol.requests import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Allocating,
    Mutation,
)

#: A CPU list of so many characters leaves room for the others in an answer that is read with one recv(4096).
_LONG: Final = 1024


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
    """Decide a request on a ledger, for the host's pools as they are now. A dry run changes nothing.

    Raises Refused.
    """
    request = _by_the_right_name(ledger, request)
    if isinstance(request, AllocateHugepages):
        decision = _hugepages(ledger, host, pools, request)
    else:
        decision = _allocation(ledger, host, pools, request)
    _require_room(ledger, decision, pools.settings, request.service_name)
    dry_run = not isinstance(request, AllocateHugepages) and request.dry_run
    return Decision(Change(), ledger, decision.answer) if dry_run else decision


def refusal(request: Mutation, refused: Refused) -> ErrorAnswer:
    """The answer to a request that is refused, with the reasons if it asked for them."""
    explain = not isinstance(request, AllocateHugepages) and request.explain
    unplaceable = refused.unplaceable if explain else None
    return ErrorAnswer(error=str(refused), explanation=unplaceable and explanation.of_refusal(unplaceable))


def _by_the_right_name(ledger: Ledger, request: Mutation) -> Mutation:
    """The request with the name of the service that it means; a new service must have a readable name."""
    if _holds_something(ledger, request.service_name):
        return request
    name = names.resolve(request.service_name, lambda each: _holds_something(ledger, each))
    if not (_holds_something(ledger, name) or request.is_release) and (problem := names.problem(name)):
        raise Refused(f"Field 'service_name' {problem}: choose another name for this service")
    return request if name == request.service_name else request.model_copy(update={"service_name": name})


def _holds_something(ledger: Ledger, service: str) -> bool:
    return service in ledger.claims or service in ledger.pages


def _require_room(before: Ledger, decision: Decision, settings: Settings, service: str) -> None:
    """Refuse a new service or hugepage record beyond the limits; existing ones stay usable, however many there are."""
    after, pages = decision.ledger, decision.change.pages
    most = settings.max_services
    # Usually the quick sum is enough; it counts services that hold both CPUs and hugepages twice.
    if (
        len(after.claims) + len(after.pages) > most
        and (_holds_something(after, service) and not _holds_something(before, service))
        and len(after.claims.keys() | after.pages.keys()) > most
    ):
        raise Refused(_no_room("services", "max-services", most))
    if pages is not None and not pages.before and pages.after:
        most = settings.max_hugepage_records
        if len(after.pages) * len(after.recorded) > most and sum(map(len, after.pages.values())) > most:
            raise Refused(_no_room("hugepage records", "max-hugepage-records", most))


def _no_room(what: str, option: str, most: int) -> str:
    return (
        f"There are as many {what} as {option}={most} allows: release some that are not needed, or set {option} higher"
    )


def _allocation(ledger: Ledger, host: Host, pools: Pools, request: Allocating) -> Decision:
    pool = named_pool(ledger, pools, request.pool)
    match request:
        case AllocateCores():
            grant = _cores(ledger, host, pools, pool, request)
        case AllocateCoresPercent():
            grant = _percent(ledger, host, pools, pool, request)
        case AllocateNumaCores():
            grant = _numa_cores(ledger, host, pools, pool, request)
    _check_pool(grant, pool)
    return Decision(grant.change, grant.ledger, _answer(pools.granted, pool, request, grant))


def _check_pool(grant: Grant, pool: Pool) -> None:
    """Check that the CPUs which a claim gains are eligible in the claim's pool, however they were chosen.

    Raises LedgerError.
    """
    for change in grant.change.claims:
        if change.after is None:
            continue
        gained = change.after.cpus - change.before.cpus if change.before else change.after.cpus
        if change.after.pool != pool.name or not gained <= pool.eligible:
            raise LedgerError(f"CPUs {gained} of service '{change.service}' are not eligible in pool {pool.name}")


def _answer(granted: CpuSet, pool: Pool, request: Allocating, grant: Grant) -> Answer:
    free = grant.ledger.free(pool)
    common = _Common(
        service_name=request.service_name,
        total_available_cpus=len(pool.eligible),
        remaining_available_cpus=len(free),
        pool=pool.name,
        preemption_policy=grant.claim.preemption_policy if grant.claim else None,
        placement=_placement(granted, free, grant),
        dry_run=request.dry_run or None,
        explanation=explanation.of_grant(grant) if request.explain else None,
    )
    match request:
        case AllocateCores():
            return CoresAnswer(
                **common,
                num_of_cores=max(request.num_of_cores, 0),
                cores_allocated=len(grant.cpus),
                allocated_cores=str(grant.cpus),
                shared_cpus=str(free),
            )
        case AllocateCoresPercent():
            return PercentAnswer(**common, cores_allocated_count=len(grant.cpus), allocated_cores=str(grant.cpus))
        case AllocateNumaCores():
            return NumaCoresAnswer(
                **common,
                numa_node=request.numa_node,
                num_of_cores=request.num_of_cores,
                cores_allocated=str(grant.cpus),
            )


class _Common(TypedDict):
    """What the three answers have in common."""

    service_name: str
    total_available_cpus: int
    remaining_available_cpus: int
    pool: PoolName
    preemption_policy: PreemptionPolicy | None
    placement: Placement | None
    dry_run: bool | None
    explanation: Explanation | None


def _placement(granted: CpuSet, free: CpuSet, grant: Grant) -> Placement | None:
    """Where the granted CPUs are; None for a release."""
    if grant.task is None or grant.claim is None:
        return None
    claim = grant.claim
    withheld = str(claim.withheld & granted)
    found = summarize(grant.task.topology, grant.cpus, free | claim.cpus | claim.withheld)
    return Placement(
        numa_nodes=str(found.numa_nodes),
        packages=found.packages,
        l3_domains=found.l3_domains,
        whole_cores=found.whole_cores,
        shared_cores=found.shared_cores,
        withheld_cpus=withheld if len(withheld) <= _LONG else None,
    )


def _ask(host: Host, pools: Pools, pool: Pool, request: Allocating) -> Ask:
    wishes = Wishes(
        request.numa_policy, request.cpu_thread_policy, request.uncore_cache_alignment, _near(host, pools, request)
    )
    return Ask(
        request.service_name, pool, request.preemption_policy, wishes, EXPLAINED_CANDIDATES if request.explain else 1
    )


def _near(host: Host, pools: Pools, request: Allocating) -> int | None:
    """The NUMA node that the request wants to be near."""
    if request.near is None or pools.machine is None:
        return None
    if isinstance(request.near, str):
        try:
            return host.node_of_device(pools.machine, request.near)
        except DeviceError as error:
            raise Refused(str(error)) from None
    if pools.machine.node(request.near) is None:
        raise Refused(f"near={request.near}: NUMA node {request.near} does not exist")
    return request.near


def _cores(ledger: Ledger, host: Host, pools: Pools, pool: Pool, request: AllocateCores) -> Grant:
    if request.is_release:
        return rules.release(ledger, pool.name, request.service_name)
    return rules.allocate(ledger, pools, _ask(host, pools, pool, request), request.count)


def _percent(ledger: Ledger, host: Host, pools: Pools, pool: Pool, request: AllocateCoresPercent) -> Grant:
    if request.is_release:
        return rules.release(ledger, pool.name, request.service_name)
    return rules.allocate_percent(ledger, pools, _ask(host, pools, pool, request), request.percent)


def _numa_cores(ledger: Ledger, host: Host, pools: Pools, pool: Pool, request: AllocateNumaCores) -> Grant:
    node_cpus = _node_cpus(host, pools, request)
    if request.is_release:
        return rules.release_in_node(ledger, pool.name, request.service_name, node_cpus, request.preemption_policy)
    ask = _ask(host, pools, pool, request)
    return rules.allocate_in_node(ledger, pools, ask, request.numa_node, node_cpus, request.num_of_cores)


def _node_cpus(host: Host, pools: Pools, request: AllocateNumaCores) -> CpuSet:
    """The CPUs of the request's node. A release may name a node that is gone, or any when sysfs is unreadable."""
    releasing = request.is_release
    machine = pools.machine
    if machine is None:
        if not releasing:
            raise Refused(str(pools.isolated.problem))
        return host.seen.nodes.get(request.numa_node, EMPTY)
    known = host.seen.nodes.get(request.numa_node)
    if known is None or (machine.node(request.numa_node) is None and not releasing):
        raise Refused(f"NUMA node {request.numa_node} does not exist")
    return known


def _hugepages(ledger: Ledger, host: Host, pools: Pools, request: AllocateHugepages) -> Decision:
    kind = request.node_id, request.size_kb
    if request.is_release:
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
