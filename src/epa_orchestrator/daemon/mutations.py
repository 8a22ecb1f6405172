# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Mutations: from one request that changes something to its decision and its answer.

What a decision needs is found here: the service, the pool, the wishes, and what has to be read from the host (the NUMA
node of a device, the kernel's hugepages). The decision itself is made in `allocation`, from plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypedDict, TypeVar

from epa_orchestrator.allocation import allocate, hugepages, service_names
from epa_orchestrator.allocation.allocate import Grant, Terms, find_pool
from epa_orchestrator.allocation.claims import Change
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger, LedgerError
from epa_orchestrator.allocation.pools import NOTHING_TO_SHARE, NodeCpus, Pool, Pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.allocation.sizes import percent_of
from epa_orchestrator.allocation.taken import Taken, taken_by
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import explanation, sentences, summary
from epa_orchestrator.daemon.terms import terms_of, with_remedy
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.names import PoolName, PreemptionPolicy
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

if TYPE_CHECKING:
    from epa_orchestrator.allocation.make_room import Wanted

_MUTATION = TypeVar("_MUTATION", bound=Mutation)


class Decision(NamedTuple):
    """What a granted request changes, the ledger after that, the answer, and the outcome for the log.

    `request` is the request as it was decided, and `reasons` make the sentences for the history when they are needed.
    """

    request: Mutation
    change: Change
    ledger: Ledger
    answer: Answer
    reasons: Callable[[], sentences.Reasons]
    outcome: str = "served"


def decide(ledger: Ledger, host: Host, pools: Pools, request: Mutation) -> Decision:
    """Decide a request on a ledger, for the host's pools as they are now. A dry run changes nothing.

    Raises Refused.
    """
    request = _with_service(ledger, request)
    if isinstance(request, AllocateHugepages):
        decision = _decide_hugepages(ledger, host, pools, request)
    else:
        decision = _decide_cpus(ledger, host, pools, request)
    _require_room(ledger, decision, pools.settings, request.service_name)
    dry_run = not isinstance(request, AllocateHugepages) and request.dry_run
    return decision._replace(change=Change(), ledger=ledger) if dry_run else decision


def refusal(request: Mutation, refused: Refused) -> ErrorAnswer:
    """The answer to a request that is refused, with the reasons if it asked for them."""
    explain = not isinstance(request, AllocateHugepages) and request.explain
    unplaceable = refused.unplaceable if explain else None
    return ErrorAnswer(error=str(refused), explanation=unplaceable and explanation.of_refusal(unplaceable))


# --- the service -------------------------------------------------------------------------------------------------


def _with_service(ledger: Ledger, request: _MUTATION) -> _MUTATION:
    """The request with the name of the service that it means; a new service must have a readable name."""
    if _holds_something(ledger, request.service_name):
        return request
    name = service_names.resolve(request.service_name, lambda each: _holds_something(ledger, each))
    if not (_holds_something(ledger, name) or request.is_release) and (problem := service_names.problem(name)):
        raise Refused(f"Field 'service_name' {problem}: choose another name for this service", rule="name")
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
        raise Refused(_no_room("services", "max-services", most), rule="limit")
    if pages is not None and not pages.before and pages.after:
        most = settings.max_hugepage_records
        if len(after.pages) * len(after.recorded) > most and sum(map(len, after.pages.values())) > most:
            raise Refused(_no_room("hugepage records", "max-hugepage-records", most), rule="limit")


def _no_room(things: str, option: str, most: int) -> str:
    return (
        f"There are as many {things} as {option}={most} allows: release some that are not needed, or set {option}"
        " higher"
    )


# --- CPUs --------------------------------------------------------------------------------------------------------


def _decide_cpus(ledger: Ledger, host: Host, pools: Pools, request: Allocating) -> Decision:
    pool = find_pool(ledger, pools, request.pool)
    terms = terms_of(ledger, host, pools, request)
    try:
        grant, taken = _grant(ledger, pool, terms, _node(host, request), request)
    except Refused as refused:
        raise with_remedy(refused, terms, host, request) from None
    answer = _answer(pools.configured, pool, request, terms, grant, taken)
    reasons = partial(sentences.reasons, request, grant, taken)
    return Decision(request, grant.change, grant.ledger, answer, reasons, _outcome(request, taken))


def wanted(ledger: Ledger, host: Host, pools: Pools, request: Allocating) -> Wanted:
    """A refused request, to be decided again on other ledgers. Raises Refused where these make no difference."""
    from epa_orchestrator.allocation.make_room import Wanted

    request = _with_service(ledger, request)
    pool = find_pool(ledger, pools, request.pool)
    terms, node = terms_of(ledger, host, pools, request)._replace(choices=1), _node(host, request)
    count = percent_of(pool.eligible, request.percent) if isinstance(request, AllocateCoresPercent) else request.count
    return Wanted(terms, pool, count, node, lambda ledger: _grant(ledger, pool, terms, node, request)[0])


def _node(host: Host, request: Allocating) -> NodeCpus | None:
    """The NUMA node that a request names."""
    if not isinstance(request, AllocateNumaCores):
        return None
    return NodeCpus(request.numa_node, host.seen.nodes.get(request.numa_node, EMPTY))


def _grant(ledger: Ledger, pool: Pool, terms: Terms, node: NodeCpus | None, request: Allocating) -> tuple[Grant, Taken]:
    """What the request is granted, and what it takes from others."""
    if isinstance(request, AllocateNumaCores):
        assert node is not None
        grant = _grant_in_node(ledger, pool, terms, node, request)
    else:
        grant = _grant_in_pool(ledger, pool, terms, request)
    _check_pool(grant, pool)
    taken = taken_by(grant.change)
    if taken and request.may_take is not None:
        _require_agreement(taken, request.may_take)
    return grant, taken


def _grant_in_pool(ledger: Ledger, pool: Pool, terms: Terms, request: AllocateCores | AllocateCoresPercent) -> Grant:
    if request.is_release:
        return allocate.release(ledger, pool.name, terms.service)
    if isinstance(request, AllocateCoresPercent):
        return allocate.allocate_percent(ledger, pool, terms, request.percent)
    return allocate.allocate(ledger, pool, terms, request.count)


def _grant_in_node(ledger: Ledger, pool: Pool, terms: Terms, node: NodeCpus, request: AllocateNumaCores) -> Grant:
    if request.is_release:
        return allocate.release_in_node(ledger, pool.name, terms, node)
    return allocate.allocate_in_node(ledger, pool, terms, node, request.count)


def _check_pool(grant: Grant, pool: Pool) -> None:
    """Check that the CPUs that a claim gains are eligible in the claim's pool, whichever way they were chosen.

    Raises LedgerError.
    """
    for change in grant.change.claims:
        if change.after is None:
            continue
        gained = change.after.cpus - change.before.cpus if change.before else change.after.cpus
        if change.after.pool != pool.name or not gained <= pool.eligible:
            raise LedgerError(f"CPUs {gained} of service '{change.service}' are not eligible in pool {pool.name}")


def _require_agreement(taken: Taken, agreed: dict[str, str]) -> None:
    """Refuse to take other CPUs than the request agrees to."""
    more = {service: cpus for service, cpus in taken.services.items() if agreed.get(service) != cpus}
    if more or taken.others:
        raise Refused(
            f"The request would take {taken._replace(services=more)}, which its may_take does not allow: repeat it with"
            " what a dry run takes now, or without may_take",
            rule="may-take",
        )


def _outcome(request: Allocating, taken: Taken) -> str:
    """The outcome for the log, which names every service that loses CPUs."""
    if request.dry_run:
        return f"dry run, nothing changed, would take {taken}" if taken else "dry run, nothing changed"
    return f"served, took {taken}" if taken else "served"


# --- the answer about CPUs ---------------------------------------------------------------------------------------


class _Common(TypedDict):
    """The fields that the three answers have in common."""

    service_name: str
    total_available_cpus: int
    remaining_available_cpus: int
    pool: PoolName
    preemption_policy: PreemptionPolicy | None
    placement: Placement | None
    dry_run: bool | None
    taken: dict[str, str]
    explanation: Explanation | None
    warnings: tuple[str, ...]


def _answer(configured: CpuSet, pool: Pool, request: Allocating, terms: Terms, grant: Grant, taken: Taken) -> Answer:
    free = grant.ledger.free(pool)
    common = _Common(
        service_name=request.service_name,
        total_available_cpus=len(pool.eligible),
        remaining_available_cpus=len(free),
        pool=pool.name,
        preemption_policy=grant.claim.preemption_policy if grant.claim else None,
        placement=summary.of_grant(grant, free, configured),
        dry_run=request.dry_run or None,
        taken=taken.services,
        explanation=explanation.of_grant(grant, taken, request.near) if request.explain else None,
        warnings=_warnings(request, terms, pool, free, taken) + request.warnings,
    )
    match request:
        case AllocateCores():
            return CoresAnswer(
                **common,
                num_of_cores=0 if request.is_release else request.num_of_cores,
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


def _warnings(request: Allocating, terms: Terms, pool: Pool, free: CpuSet, taken: Taken) -> tuple[str, ...]:
    """The warnings about what was granted; `free` is free after the request."""
    if terms.unknown is not None:
        return (f"{terms.unknown}. The service keeps the CPUs that it holds",)
    if taken.others:
        return (f"'taken' does not name all services: the request takes {taken.words_about_others()}",)
    if isinstance(request, AllocateCores) and not request.is_release and request.count is None and not free:
        return (f"No CPU of pool {pool.name} is free after this request: {NOTHING_TO_SHARE}",)
    return ()


# --- hugepages ---------------------------------------------------------------------------------------------------


def _decide_hugepages(ledger: Ledger, host: Host, pools: Pools, request: AllocateHugepages) -> Decision:
    kind = request.node_id, request.size_kb
    if request.is_release:
        free = 0
        change = hugepages.remove_record(ledger, request.service_name, kind)
        message = "Removed recorded hugepage allocation" if change else "No existing record to remove"
    else:
        kernel = _kernel_pages(host, pools, request)
        reserved = pools.settings.reserved_pages(*kind)
        count = request.hugepages_requested
        held = ledger.pages.get(request.service_name, {}).get(kind, 0)
        free = held + hugepages.free_pages(ledger, kernel, reserved, request.node_id)
        try:
            change = hugepages.record(ledger, kernel, reserved, request.service_name, request.node_id, count)
        except Refused as refusal:
            reason = pools.settings.unusable.get("reserved-hugepages")
            raise Refused(f"{refusal}: {reason}" if reason else str(refusal), rule=refusal.rule) from None
        message = f"Successfully set allocation request to {count} hugepages"
    answer = HugepagesAnswer(
        service_name=request.service_name,
        hugepages_requested=request.hugepages_requested,
        allocation_successful=True,
        message=message,
        node_id=request.node_id,
        size_kb=request.size_kb,
        warnings=request.warnings,
    )
    return Decision(request, change, ledger.apply(change), answer, partial(sentences.hugepage_reasons, request, free))


def _kernel_pages(host: Host, pools: Pools, request: AllocateHugepages) -> Hugepages:
    if pools.machine is None or pools.machine.node(request.node_id) is None:
        raise Refused(f"NUMA node {request.node_id} not found", rule="not-found")
    pages = host.hugepages_of(request.node_id, request.size_kb)
    if pages is None:
        raise Refused(f"Hugepage size {request.size_kb} KB not found on node {request.node_id}", rule="not-found")
    return pages
