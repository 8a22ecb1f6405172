"""Ledger: who owns which CPUs and hugepages, and what a request makes of it.

Pure state transitions. A `Ledger` never changes: a function that decides a request returns a `Grant`, whose `Change`
yields the next ledger, or raises `Refused`, and then nothing has happened. The rules are those of "Ownership" and
"Actions" in the protocol.

- A CPU has at most one owner, in whatever pool it was claimed.
- A service's claim lives in one pool. `explicit` CPUs were asked for by NUMA node and are never taken from it.
- A claim placed with one thread per core (`isolate`) withholds the other threads of its cores from everybody else.
- free = eligible in the pool, minus claimed or withheld by anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.machine import Hugepages
from epa_orchestrator.needs import free_cores, whole_core_sizes
from epa_orchestrator.placement import DEFAULT_POLICY, Task, Unplaceable, broken_rule, place, withheld
from epa_orchestrator.policy import NO_WISHES, ContradictionError, PlacementPolicy, Wishes, with_wishes
from epa_orchestrator.pools import Pool, PoolName, Pools
from epa_orchestrator.settings import Policy, Settings

#: A node id and a hugepage size in KiB.
PageKind = tuple[int, int]

_NO_PAGES: Final[Mapping[PageKind, int]] = MappingProxyType({})


class Refused(EpaError):
    """A request that is not granted; `unplaceable` has the details when a rule of placement refused it."""

    def __init__(self, sentence: str, unplaceable: Unplaceable | None = None) -> None:
        super().__init__(sentence)
        self.unplaceable = unplaceable


@dataclass(frozen=True, slots=True)
class Claim:
    """The CPUs that one service owns in one pool.

    `withheld` are other threads of its cores that nobody else may have. `placed_by` is the policy that the CPUs were
    chosen by, `wishes` what the request asked for itself.
    """

    service: str
    pool: PoolName
    cpus: CpuSet
    explicit: CpuSet
    policy: Policy
    withheld: CpuSet = EMPTY
    placed_by: PlacementPolicy = DEFAULT_POLICY
    wishes: Wishes = NO_WISHES

    def without(self, cpus: CpuSet) -> Claim | None:
        """The claim after losing some CPUs, and what it withheld of them, None when none are left."""
        left = self.cpus - cpus
        kept = self.withheld - cpus
        return replace(self, cpus=left, explicit=self.explicit - cpus, withheld=kept) if left else None


@dataclass(frozen=True, slots=True)
class ClaimChange:
    """One service's claim before and after; None for no claim."""

    before: Claim | None
    after: Claim | None

    @property
    def service(self) -> str:
        """The service whose claim changes."""
        claim = self.after or self.before
        assert claim is not None
        return claim.service


@dataclass(frozen=True, slots=True)
class PagesChange:
    """One service's hugepage count for a node and size before and after; 0 for no record."""

    service: str
    kind: PageKind
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a granted request changes; nothing when it asked for what was so already."""

    claims: tuple[ClaimChange, ...] = ()
    pages: PagesChange | None = None

    def __bool__(self) -> bool:
        return bool(self.claims) or self.pages is not None


@dataclass(frozen=True, slots=True)
class Grant:
    """A decision: what changes, the CPUs that the answer names, the service's claim afterwards, and how it was placed.

    `candidates` are the choices that were compared, best first; `task` is None for a release.
    """

    change: Change
    cpus: CpuSet
    claim: Claim | None
    task: Task | None = None
    candidates: tuple[CpuSet, ...] = ()


class Ledger:
    """All claims and hugepage records at one moment.

    The unions that requests ask for are kept along: the CPUs `claimed` or `withheld` by anybody, those `owned` in each
    pool, and the `reclaimable` ones, which a legacy NUMA request of another service may take. So are the `recorded`
    hugepages.
    """

    __slots__ = ("claimed", "claims", "owned", "pages", "reclaimable", "recorded", "withheld")

    def __init__(self) -> None:
        self.claims: Mapping[str, Claim] = {}
        self.pages: Mapping[str, Mapping[PageKind, int]] = {}
        self.claimed = EMPTY
        self.withheld = EMPTY
        self.owned: Mapping[PoolName, CpuSet] = {"isolated": EMPTY, "general": EMPTY}
        self.reclaimable: Mapping[PoolName, CpuSet] = self.owned
        self.recorded: Mapping[PageKind, int] = {}

    @classmethod
    def of(cls, claims: Iterable[Claim], pages: Mapping[str, Mapping[PageKind, int]]) -> Ledger:
        """The ledger that holds these claims and hugepage records.

        Raises ValueError when they contradict each other: a CPU or a service twice, an empty claim.
        """
        ledger = cls()
        changes: list[ClaimChange] = []
        taken = EMPTY
        for claim in claims:
            if both := (claim.cpus | claim.withheld) & taken or claim.cpus & claim.withheld:
                raise ValueError(f"CPUs {both} of service '{claim.service}' are owned by another service as well")
            if not claim.cpus or not claim.explicit <= claim.cpus:
                raise ValueError(
                    f"the claim of service '{claim.service}' holds no CPUs, or explicit ones it does not own"
                )
            taken |= claim.cpus | claim.withheld
            changes.append(ClaimChange(None, claim))
        if len({change.service for change in changes}) < len(changes):
            raise ValueError("a service has two claims")
        ledger = ledger.apply(Change(tuple(changes)))
        for service, counts in pages.items():
            for kind, count in counts.items():
                ledger = ledger.apply(Change(pages=PagesChange(service, kind, 0, count)))
        return ledger

    def apply(self, change: Change) -> Ledger:
        """The ledger after a change that was decided on this one; this one itself when nothing changes."""
        if not change:
            return self
        after = Ledger()
        after.claims, after.claimed, after.withheld = self.claims, self.claimed, self.withheld
        after.owned, after.reclaimable = self.owned, self.reclaimable
        after.pages, after.recorded = self.pages, self.recorded
        if change.claims:
            after._apply_claims(change.claims)
        if change.pages is not None:
            after._apply_pages(change.pages)
        return after

    def _apply_claims(self, changes: tuple[ClaimChange, ...]) -> None:
        claims, owned, reclaimable = dict(self.claims), dict(self.owned), dict(self.reclaimable)
        # All CPUs leave before any arrive: a CPU may pass from one service to another within one change.
        for change in changes:
            if change.before is not None:
                del claims[change.service]
                self.claimed -= change.before.cpus
                self.withheld -= change.before.withheld
                owned[change.before.pool] -= change.before.cpus
                reclaimable[change.before.pool] -= change.before.cpus
        for change in changes:
            if change.after is not None:
                claims[change.service] = change.after
                self.claimed |= change.after.cpus
                self.withheld |= change.after.withheld
                owned[change.after.pool] |= change.after.cpus
                if change.after.policy == "legacy":
                    reclaimable[change.after.pool] |= change.after.cpus - change.after.explicit
        self.claims, self.owned, self.reclaimable = claims, owned, reclaimable

    def _apply_pages(self, change: PagesChange) -> None:
        pages, recorded = dict(self.pages), dict(self.recorded)
        counts = dict(pages.pop(change.service, {}))
        counts.pop(change.kind, None)
        if change.after:
            counts[change.kind] = change.after
        if counts:
            pages[change.service] = counts
        recorded[change.kind] = recorded.get(change.kind, 0) + change.after - change.before
        if not recorded[change.kind]:
            del recorded[change.kind]
        self.pages, self.recorded = pages, recorded

    def free(self, pool: Pool) -> CpuSet:
        """The CPUs of a pool that nobody owns or withholds."""
        return pool.eligible - self.claimed - self.withheld


@dataclass(frozen=True, slots=True)
class Ask:
    """What every allocation asks for: for whom, from which pool, under which policies (None: as it is)."""

    service: str
    pool: Pool
    policy: Policy | None = None
    wishes: Wishes = NO_WISHES


def allocate(ledger: Ledger, pools: Pools, ask: Ask, count: int) -> Grant:
    """Give the service `count` CPUs in all, 0 meaning the default size, in place of what it holds."""
    pool = ask.pool
    claim = _claim_in(ledger, pool.name, ask.service)
    _require_capacity(pool)
    own = claim.cpus if claim else EMPTY
    _require_available(ask.service, own, pool)
    free = _free_for(ledger, pool, claim)
    available = len(free) + len(own)
    placing = _placing(pools, ask)
    wanted = count or _default_size(pools, pool, free | own, placing)
    if not count and claim and not _new_wishes(claim, ask):
        # A repeated request for the default size stays one when the operator has changed the thread policy meanwhile.
        wanted = len(own) if len(own) == _default_size(pools, pool, free | own, claim.placed_by) else wanted
    if wanted > available:
        raise Refused(f"Insufficient CPUs available. Requested: {wanted}, Available: {available}")
    policy = _policy(claim, ask.policy, pools.settings)
    task = _task(pools, pool, free, own, wanted, placing)
    candidates = _place(task, _new_wishes(claim, ask))
    chosen = candidates[0]
    after = _placed(Claim(ask.service, pool.name, chosen, EMPTY, policy), claim, task, chosen, ask)
    return _grant(claim, after, chosen, (), task, candidates)


def allocate_percent(ledger: Ledger, pools: Pools, ask: Ask, percent: int) -> Grant:
    """Give the service `percent` (1 to 100) of the pool's eligible CPUs, rounded up."""
    return allocate(ledger, pools, ask, max(-(-len(ask.pool.eligible) * percent // 100), 1))


def allocate_in_node(ledger: Ledger, pools: Pools, ask: Ask, node_id: int, node_cpus: CpuSet, count: int) -> Grant:
    """Give the service exactly `count` CPUs of a node, in place of what it holds in that node.

    Takes free CPUs first; what is missing, under `legacy` and as the setting `numa-reclaim` allows, from the
    non-explicit legacy claims of others in the pool.
    """
    pool = ask.pool
    claim = _claim_in(ledger, pool.name, ask.service)
    _require_capacity(pool)
    eligible = pool.eligible & node_cpus
    if not eligible:
        raise Refused(f"No eligible CPUs available in NUMA node {node_id}")
    if count > len(eligible):
        raise Refused(f"NUMA node {node_id} only has {len(eligible)} eligible CPUs, but {count} were requested")
    held = claim.cpus if claim else EMPTY
    own = held & node_cpus
    _require_available(ask.service, own, pool)
    policy = _policy(claim, ask.policy, pools.settings)
    free = _free_for(ledger, pool, claim) & node_cpus
    takeable = EMPTY
    if policy == "legacy" and pools.settings.numa_reclaim != "never":
        takeable = (ledger.reclaimable[pool.name] - held) & eligible
    if count > len(free) + len(own) + len(takeable):
        others = eligible - free - own - takeable
        raise Refused(
            f"NUMA node {node_id} has {len(free) + len(own) + len(takeable)} CPUs that can be given to this service,"
            f" but {count} were requested: CPUs {others} are held by other services"
        )
    task = _task(pools, pool, free | takeable, own, count, _placing(pools, ask), takeable, node_id)
    candidates = _place(task, _new_wishes(claim, ask))
    chosen = candidates[0]
    explicit = (claim.explicit if claim else EMPTY) - own | chosen
    claimed = Claim(ask.service, pool.name, held - own | chosen, explicit, policy)
    after = _placed(claimed, claim, task, chosen, ask)
    losses = _losses(ledger, task, chosen & takeable)
    return _grant(claim, after, chosen, losses, task, candidates)


def release(ledger: Ledger, pool: PoolName, service: str) -> Grant:
    """Take from the service all that it holds; nothing to do when it holds nothing."""
    claim = _claim_in(ledger, pool, service)
    return _grant(claim, None, EMPTY)


def release_in_node(ledger: Ledger, pool: PoolName, service: str, node_cpus: CpuSet, policy: Policy | None) -> Grant:
    """Take from the service what it holds in a node. `policy` can protect what is left, never unprotect it."""
    claim = _claim_in(ledger, pool, service)
    after = claim.without(node_cpus) if claim else None
    if after and policy == "non-preemptive":
        after = replace(after, policy=policy)
    return _grant(claim, after, EMPTY)


def free_pages(ledger: Ledger, kernel: Hugepages, node_id: int, settings: Settings) -> int:
    """How many hugepages are left: the kernel's free ones minus those recorded here but not in use yet."""
    recorded = ledger.recorded.get((node_id, kernel.size_kb), 0)
    not_in_use = max(recorded - (kernel.total - kernel.free), 0)
    return max(kernel.free - not_in_use - settings.reserved_pages(node_id, kernel.size_kb), 0)


def set_pages(ledger: Ledger, kernel: Hugepages, settings: Settings, service: str, node_id: int, count: int) -> Change:
    """Record that the service has `count` hugepages of the kind that `kernel` counts, in place of its earlier count."""
    kind = (node_id, kernel.size_kb)
    before = ledger.pages.get(service, _NO_PAGES).get(kind, 0)
    free = free_pages(ledger, kernel, node_id, settings)
    if count - before > free:
        raise Refused(
            f"NUMA node {node_id} size {kernel.size_kb} KB only has {free} free hugepages,"
            f" requested additional {count - before}"
        )
    return Change(pages=PagesChange(service, kind, before, count)) if count != before else Change()


def drop_pages(ledger: Ledger, service: str, kind: PageKind) -> Change:
    """Remove the service's record for a node and size, if there is one."""
    before = ledger.pages.get(service, _NO_PAGES).get(kind, 0)
    return Change(pages=PagesChange(service, kind, before, 0)) if before else Change()


def _claim_in(ledger: Ledger, pool: PoolName, service: str) -> Claim | None:
    """The service's claim, which must be in this pool."""
    claim = ledger.claims.get(service)
    if claim is not None and claim.pool != pool:
        raise Refused(
            f"Service '{service}' holds CPUs in pool {claim.pool}: release that allocation in its pool,"
            f" with pool {claim.pool}, before it uses pool {pool}"
        )
    return claim


def _require_capacity(pool: Pool) -> None:
    if pool.problem is not None:
        raise Refused(pool.problem)


def _require_available(service: str, own: CpuSet, pool: Pool) -> None:
    """Refuse to replace a claim on CPUs that are offline or have left the pool: its owner may be running on them."""
    if unavailable := own - pool.eligible:
        raise Refused(
            f"Service '{service}' holds CPUs {unavailable}, which are offline or no longer in pool {pool.name}:"
            " release it first"
        )


def _policy(claim: Claim | None, requested: Policy | None, settings: Settings) -> Policy:
    """The policy of the claim after the request."""
    if claim is None:
        return requested or settings.default_preemption_policy
    if requested == "legacy" and claim.policy == "non-preemptive":
        raise Refused(f"Service '{claim.service}' is non-preemptive: release its CPUs before it goes back to legacy")
    return requested or claim.policy


def _free_for(ledger: Ledger, pool: Pool, claim: Claim | None) -> CpuSet:
    """The CPUs that are free for a service: those that only its own claim withholds, too."""
    free = ledger.free(pool)
    return free | (claim.withheld & pool.eligible) if claim else free


def _placing(pools: Pools, ask: Ask) -> PlacementPolicy:
    """The policy that the request is placed by."""
    try:
        return with_wishes(pools.settings.placement, ask.wishes)
    except ContradictionError as error:
        raise Refused(str(error)) from None


def _default_size(pools: Pools, pool: Pool, available: CpuSet, placing: PlacementPolicy) -> int:
    """The default size, of CPUs that the thread policy can grant."""
    top = pools.topologies.get(pool.name)
    if top is not None and placing.cpu_thread_policy == "isolate":
        return pools.settings.default_size(free_cores(top, available.mask))
    size = pools.settings.default_size(len(available))
    if top is not None and placing.cpu_thread_policy == "require":
        possible = whole_core_sizes(top, available.mask) & (1 << size + 1) - 1
        return (possible.bit_length() - 1) or size
    return size


def _task(
    pools: Pools,
    pool: Pool,
    free: CpuSet,
    own: CpuSet,
    count: int,
    placing: PlacementPolicy,
    others: CpuSet = EMPTY,
    node_id: int | None = None,
) -> Task:
    if pools.settings.resize_policy == "reallocate":
        free, own = free | own, EMPTY
    sparing = pools.settings.numa_reclaim != "always"
    return Task(pools.topologies[pool.name], free, own, count, placing, others, node_id, sparing)


def _new_wishes(claim: Claim | None, ask: Ask) -> bool:
    """Whether the request asks for something itself that the claim was not placed with."""
    return ask.wishes not in (NO_WISHES, claim.wishes if claim else NO_WISHES)


def _place(task: Task, new_wishes: bool) -> tuple[CpuSet, ...]:
    """The choices for a task, best first. A request that keeps what is held has its new wishes granted, or none."""
    try:
        candidates = place(task)
    except Unplaceable as error:
        raise Refused(str(error), error) from None
    chosen = candidates[0]
    if new_wishes and (rule := broken_rule(task, chosen)) is not None:
        error = Unplaceable(task, chosen, rule)
        raise Refused(str(error), error)
    return tuple(candidates)


def _placed(after: Claim, before: Claim | None, task: Task, chosen: CpuSet, ask: Ask) -> Claim:
    """The claim with how it was placed.

    One that keeps its CPUs stays as it was, unless the request has new wishes; one that only grows or shrinks was still
    placed by the policy that it was placed by first. What it withholds of CPUs that are offline now it keeps.
    """
    if before is not None and before.cpus == after.cpus and not _new_wishes(before, ask):
        return replace(after, withheld=before.withheld, placed_by=before.placed_by, wishes=before.wishes)
    isolated = task.policy.cpu_thread_policy == "isolate"
    kept = withheld(task.top, chosen) if isolated else EMPTY
    if before is not None:
        in_node = task.top.nodes.get(task.node) if task.node is not None else None
        within = CpuSet.from_mask(in_node.cpus) if in_node else (ask.pool.eligible if isolated else before.withheld)
        kept |= before.withheld - within
    resized = before is not None and (before.cpus <= after.cpus or after.cpus <= before.cpus)
    placed_by = before.placed_by if before is not None and resized else task.policy
    return replace(after, withheld=kept, placed_by=placed_by, wishes=ask.wishes)


def _losses(ledger: Ledger, task: Task, taken: CpuSet) -> tuple[ClaimChange, ...]:
    """What the owners of `taken` lose. Looks through all claims, but only when something is taken at all."""
    if not taken:
        return ()
    return tuple(
        ClaimChange(claim, _without(task, claim, taken)) for claim in ledger.claims.values() if claim.cpus & taken
    )


def _without(task: Task, claim: Claim, taken: CpuSet) -> Claim | None:
    """The claim after losing CPUs to another service; it withholds no thread of a core that it has left."""
    left = claim.without(taken)
    given_up = withheld(task.top, taken) - withheld(task.top, left.cpus) if left else EMPTY
    return replace(left, withheld=left.withheld - given_up) if left else None


def _grant(
    before: Claim | None,
    after: Claim | None,
    cpus: CpuSet,
    losses: tuple[ClaimChange, ...] = (),
    task: Task | None = None,
    candidates: tuple[CpuSet, ...] = (),
) -> Grant:
    own = (ClaimChange(before, after),) if before != after else ()
    return Grant(Change((*own, *losses)), cpus, after, task, candidates)
