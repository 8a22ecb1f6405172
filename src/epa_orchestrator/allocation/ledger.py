"""Ledger: who owns which CPUs and hugepages, and what a request makes of it.

Pure state transitions. A `Ledger` never changes: a function that decides a request returns a `Grant`, whose `Change`
yields the next ledger, or raises `Refused`, and then nothing has happened. The rules are those of "Ownership" and
"Actions" in the protocol.

- A CPU has at most one owner, in whatever pool it was claimed.
- A service's claim lives in one pool. `explicit` CPUs were asked for by NUMA node and are never taken from it.
- A claim placed with one thread per core (`isolate`) withholds the other threads of its cores from everybody else.
  Which those are follows from the claim and the machine's cores, and is derived, never stored.
- free = eligible in the pool, minus claimed or withheld by anybody.

Every change is checked against these rules when it is applied, so a bug elsewhere ends in a `LedgerError`, never in a
ledger that the next start would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from epa_orchestrator.allocation.pools import Pool, Pools
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet, iter_bits
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Cores
from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.minimum import free_cores, whole_core_sizes
from epa_orchestrator.placement.policy import (
    DEFAULT_POLICY,
    NO_WISHES,
    ContradictionError,
    PlacementPolicy,
    Wishes,
    with_wishes,
)
from epa_orchestrator.placement.rules import Unplaceable, broken_rule
from epa_orchestrator.placement.search import place
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import Topology

#: A node id and a hugepage size in KiB.
PageKind = tuple[int, int]

_NO_PAGES: Final[Mapping[PageKind, int]] = MappingProxyType({})
_NO_CORES: Final[Cores] = MappingProxyType({})


class LedgerError(ValueError):
    """Claims that break a rule: a CPU with two owners, an empty claim, explicit CPUs that are not owned."""


class Refused(EpaError):
    """A request that is not granted; `unplaceable` has the details when a rule of placement refused it."""

    def __init__(self, sentence: str, unplaceable: Unplaceable | None = None) -> None:
        super().__init__(sentence)
        self.unplaceable = unplaceable


@dataclass(frozen=True, slots=True)
class Claim:
    """The CPUs that one service owns in one pool.

    `alone` are those that have their core to themselves, and `withheld` the other threads of these cores, which nobody
    else may have: the ledger derives them. `placed_by` is the policy that the CPUs were chosen by, `wishes` what the
    request asked for itself.
    """

    service: str
    pool: PoolName
    cpus: CpuSet
    explicit: CpuSet
    preemption_policy: PreemptionPolicy
    withheld: CpuSet = EMPTY
    placed_by: PlacementPolicy = DEFAULT_POLICY
    wishes: Wishes = NO_WISHES
    alone: CpuSet = EMPTY

    def without(self, cpus: CpuSet) -> Claim | None:
        """The claim after losing some CPUs, None when none are left."""
        left = self.cpus - cpus
        if not left:
            return None
        withheld = EMPTY if self.alone else self.withheld
        return replace(self, cpus=left, explicit=self.explicit - cpus, alone=self.alone - cpus, withheld=withheld)


class ClaimChange(NamedTuple):
    """One service's claim before and after; None for no claim."""

    before: Claim | None
    after: Claim | None

    @property
    def service(self) -> str:
        """The service whose claim changes."""
        claim = self.after or self.before
        assert claim is not None
        return claim.service


class PagesChange(NamedTuple):
    """One service's hugepage count for a node and size before and after; 0 for no record."""

    service: str
    kind: PageKind
    before: int
    after: int


class Change(NamedTuple):
    """What a granted request changes; nothing when it asked for what was so already."""

    claims: tuple[ClaimChange, ...] = ()
    pages: PagesChange | None = None

    def __bool__(self) -> bool:
        return bool(self.claims) or self.pages is not None


class Grant(NamedTuple):
    """A decision: what changes, the ledger after it, the CPUs that the answer names, and the service's claim then.

    `candidates` are the choices that were compared, best first; `task` is how it was placed, None for a release.
    """

    change: Change
    ledger: Ledger
    cpus: CpuSet
    claim: Claim | None
    task: Task | None = None
    candidates: tuple[CpuSet, ...] = ()


class Ledger:
    """All claims and hugepage records at one moment, on a machine with these `cores`.

    The unions that requests need are kept too: the CPUs `claimed` or `withheld` by anybody, those `owned` in each
    pool, and the `reclaimable` ones, which a legacy NUMA request of another service may take. So are the `recorded`
    hugepages. `_kept` has the threads of the cores that each claim has to itself, as a mask by service.
    """

    __slots__ = ("_kept", "claimed", "claims", "cores", "owned", "pages", "reclaimable", "recorded", "withheld")

    def __init__(self, cores: Cores = _NO_CORES) -> None:
        self.cores = cores
        self.claims: Mapping[str, Claim] = {}
        self.pages: Mapping[str, Mapping[PageKind, int]] = {}
        self.claimed = EMPTY
        self.withheld = EMPTY
        self.owned: Mapping[PoolName, CpuSet] = {"isolated": EMPTY, "general": EMPTY}
        self.reclaimable: Mapping[PoolName, CpuSet] = self.owned
        self.recorded: Mapping[PageKind, int] = {}
        self._kept: Mapping[str, int] = {}

    @classmethod
    def of(
        cls, claims: Iterable[Claim], pages: Mapping[str, Mapping[PageKind, int]], cores: Cores = _NO_CORES
    ) -> Ledger:
        """The ledger that holds these claims and hugepage records.

        Raises LedgerError when they contradict each other.
        """
        settled = [_with_alone(claim, cores) for claim in claims]
        ledger = cls(cores).apply(Change(tuple([ClaimChange(None, claim) for claim in settled])))
        ledger.pages = {service: dict(counts) for service, counts in pages.items() if counts}
        recorded: dict[PageKind, int] = {}
        for counts in pages.values():
            for kind, count in counts.items():
                recorded[kind] = recorded.get(kind, 0) + count
        ledger.recorded = recorded
        return ledger

    def on(self, cores: Cores) -> Ledger:
        """The same claims and records on a machine with these cores: only what is withheld may differ."""
        if cores is self.cores or cores == self.cores:
            return self
        after = self._copy()
        after._use_cores(cores)  # noqa: SLF001
        return after

    def apply(self, change: Change) -> Ledger:
        """The ledger after a change that was decided on this one; this one itself when nothing changes.

        Raises LedgerError for a change that breaks a rule of the ledger; it has no effect then.
        """
        if not change:
            return self
        after = self._copy()
        after._make(change)
        return after

    def _copy(self) -> Ledger:
        after = object.__new__(Ledger)  # copy.copy takes ten times as long
        after.cores, after.claims, after.claimed, after.withheld = self.cores, self.claims, self.claimed, self.withheld
        after.owned, after.reclaimable, after._kept = self.owned, self.reclaimable, self._kept
        after.pages, after.recorded = self.pages, self.recorded
        return after

    def _use_cores(self, cores: Cores) -> None:
        self.cores = cores
        claims = [_with_alone(claim, cores) for claim in self.claims.values()]
        self._kept = {claim.service: kept for claim in claims if (kept := self._cores_of(claim))}
        # What is known of a core may be lost, and then nothing of it is withheld any more.
        self.claims = {
            claim.service: claim
            if claim.service in self._kept or not claim.withheld
            else replace(claim, withheld=EMPTY)
            for claim in claims
        }
        self._withhold()

    def _make(self, change: Change) -> None:
        if change.claims:
            self._apply_claims(change.claims)
        if change.pages is not None:
            self._apply_pages(change.pages)

    def _apply_claims(self, changes: tuple[ClaimChange, ...]) -> None:
        claims, owned, reclaimable = dict(self.claims), dict(self.owned), dict(self.reclaimable)
        kept = dict(self._kept)
        # All CPUs leave before any arrive: a CPU may pass from one service to another within one change.
        for before in [change.before for change in changes if change.before is not None]:
            held = claims.pop(before.service, None)
            if held is not before and held != before:
                raise LedgerError(f"service '{before.service}' does not hold what a change takes from it")
            kept.pop(before.service, None)
            self.claimed -= before.cpus
            owned[before.pool] -= before.cpus
            reclaimable[before.pool] -= before.cpus
        for after in [change.after for change in changes if change.after is not None]:
            self._check(claims, after)
            claims[after.service] = after
            if threads := self._cores_of(after):
                kept[after.service] = threads
            self.claimed |= after.cpus
            owned[after.pool] |= after.cpus
            if after.preemption_policy == "legacy":
                reclaimable[after.pool] |= after.cpus - after.explicit
        self.claims, self.owned, self.reclaimable, self._kept = claims, owned, reclaimable, kept
        if kept or self.withheld:
            self._withhold()

    def _check(self, claims: Mapping[str, Claim], claim: Claim) -> None:
        """Raises LedgerError where a claim breaks a rule, with the other claims as they are."""
        if claim.service in claims:
            raise LedgerError(f"service '{claim.service}' has two claims")
        if not claim.cpus or not claim.explicit <= claim.cpus or not claim.alone <= claim.cpus:
            raise LedgerError(f"the claim of service '{claim.service}' holds no CPUs, or explicit ones it does not own")
        if claim.pool not in self.owned:
            raise LedgerError(f"the claim of service '{claim.service}' names an unknown pool")
        if both := claim.cpus & self.claimed:
            raise LedgerError(f"CPUs {both} of service '{claim.service}' are owned by another service as well")

    def _cores_of(self, claim: Claim) -> int:
        """The threads of the cores that a claim has to itself, its own ones too."""
        return _threads(self.cores, claim.alone) if claim.alone else claim.withheld.mask

    def _withhold(self) -> None:
        """Derive what each claim withholds: the threads of its cores that nobody owns.

        When two claims would withhold one thread, because they came to share a core while a thread of it was offline,
        the first one by name does.
        """
        free, withheld = ~self.claimed.mask, 0
        changed: dict[str, Claim] = {}
        shared = _overlap([threads & free for threads in self._kept.values()])
        for service in sorted(self._kept) if shared else self._kept:
            mask = self._kept[service] & free & ~withheld
            withheld |= mask
            if self.claims[service].withheld.mask != mask:
                changed[service] = replace(self.claims[service], withheld=CpuSet.from_mask(mask))
        if changed:
            self.claims = {**self.claims, **changed}
        self.withheld = CpuSet.from_mask(withheld)

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


def _with_alone(claim: Claim, cores: Cores) -> Claim:
    """The claim with `alone` derived from `withheld`, if it is from a database that had no `alone`.

    This takes the cores of all withheld threads, and the kernel shows no core for a thread that is offline.
    """
    if claim.alone or not claim.withheld or not all(cpu in cores for cpu in claim.withheld):
        return claim
    return replace(claim, alone=CpuSet(cpu for cpu in claim.cpus if cores.get(cpu, 0) & claim.withheld.mask))


def _threads(cores: Cores, cpus: CpuSet) -> int:
    """All threads of the cores of these CPUs, as a mask."""
    threads = 0
    for cpu in iter_bits(cpus.mask):
        threads |= cores.get(cpu, 0)
    return threads


def _overlap(masks: Iterable[int]) -> bool:
    """Whether some CPU is in two of the masks."""
    union = 0
    for mask in masks:
        if union & mask:
            return True
        union |= mask
    return False


class Ask(NamedTuple):
    """What every allocation asks for: for whom, from which pool, under which policies (None: as it is).

    `choices` is how many choices to hand back, the best one first, for an explanation.
    """

    service: str
    pool: Pool
    preemption_policy: PreemptionPolicy | None = None
    wishes: Wishes = NO_WISHES
    choices: int = 1


def allocate(ledger: Ledger, pools: Pools, ask: Ask, count: int | None) -> Grant:
    """Give the service `count` CPUs in all, or the default size when None, in place of what it holds."""
    ledger, pool = ledger.on(pools.cores), ask.pool
    claim = _claim_in(ledger, pool.name, ask.service)
    _require_capacity(pool)
    own = claim.cpus if claim else EMPTY
    _require_available(ask.service, own, pool)
    free = _free_for(ledger, pool, claim)
    available = len(free) + len(own)
    placing = _placing(pools, ask)
    top = _topology(ledger, pools, pool, own)
    wanted = count or _default_size(top, pools, free | own, placing)
    if not count and claim and not _new_wishes(claim, ask):
        # A repeated request for the default size stays one when the operator has changed the thread policy meanwhile.
        wanted = len(own) if len(own) == _default_size(top, pools, free | own, claim.placed_by) else wanted
    if wanted > available:
        raise Refused(f"Insufficient CPUs available. Requested: {wanted}, Available: {available}")
    policy = _policy(claim, ask.preemption_policy, pools.settings)
    assert top is not None
    task = _task(pools.settings, top, free, own, wanted, placing)
    candidates = _place(task, ask.choices, new_wishes=_new_wishes(claim, ask))
    chosen = candidates[0]
    after = _placed(Claim(ask.service, pool.name, chosen, EMPTY, policy), claim, task, chosen, ask)
    return _grant(ledger, claim, after, chosen, (), task, candidates)


def allocate_percent(ledger: Ledger, pools: Pools, ask: Ask, percent: int) -> Grant:
    """Give the service `percent` (1 to 100) of the pool's eligible CPUs, rounded up."""
    return allocate(ledger, pools, ask, max(-(-len(ask.pool.eligible) * percent // 100), 1))


def allocate_in_node(ledger: Ledger, pools: Pools, ask: Ask, node_id: int, node_cpus: CpuSet, count: int) -> Grant:
    """Give the service exactly `count` CPUs of a node, in place of what it holds in that node.

    Takes free CPUs first; what is missing, under `legacy` and as the setting `numa-reclaim` allows, from the
    non-explicit legacy claims of others in the pool.
    """
    ledger, pool = ledger.on(pools.cores), ask.pool
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
    policy = _policy(claim, ask.preemption_policy, pools.settings)
    free = _free_for(ledger, pool, claim) & node_cpus
    takeable = EMPTY
    # A request for no more than the service holds in the node takes no CPUs of others.
    if count > len(own) and policy == "legacy" and pools.settings.numa_reclaim != "never":
        takeable = (ledger.reclaimable[pool.name] - held) & eligible
    if count > len(free) + len(own) + len(takeable):
        others = eligible - free - own - takeable
        raise Refused(
            f"NUMA node {node_id} has {len(free) + len(own) + len(takeable)} CPUs that can be given to this service,"
            f" but {count} were requested: CPUs {others} are held by other services"
        )
    top = pools.topology(pool, ledger.claimed - held)
    task = _task(pools.settings, top, free | takeable, own, count, _placing(pools, ask), takeable, node_id)
    candidates = _place(task, ask.choices, new_wishes=_new_wishes(claim, ask))
    chosen = candidates[0]
    explicit = (claim.explicit if claim else EMPTY) - own | chosen
    claimed = Claim(ask.service, pool.name, held - own | chosen, explicit, policy)
    after = _placed(claimed, claim, task, chosen, ask)
    losses = _losses(ledger, chosen & takeable)
    return _grant(ledger, claim, after, chosen, losses, task, candidates)


def release(ledger: Ledger, pool: PoolName, service: str) -> Grant:
    """Take from the service all that it holds; nothing to do when it holds nothing."""
    claim = _claim_in(ledger, pool, service)
    return _grant(ledger, claim, None, EMPTY)


def release_in_node(
    ledger: Ledger, pool: PoolName, service: str, node_cpus: CpuSet, policy: PreemptionPolicy | None
) -> Grant:
    """Take from the service what it holds in a node. `policy` can protect what is left, never unprotect it."""
    claim = _claim_in(ledger, pool, service)
    after = claim.without(node_cpus) if claim else None
    if after and policy == "non-preemptive":
        after = replace(after, preemption_policy=policy)
    return _grant(ledger, claim, after, EMPTY)


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


def _policy(claim: Claim | None, requested: PreemptionPolicy | None, settings: Settings) -> PreemptionPolicy:
    """The policy of the claim after the request."""
    if claim is None:
        return requested or settings.default_preemption_policy
    if requested == "legacy" and claim.preemption_policy == "non-preemptive":
        raise Refused(f"Service '{claim.service}' is non-preemptive: release its CPUs before it goes back to legacy")
    return requested or claim.preemption_policy


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


def _topology(ledger: Ledger, pools: Pools, pool: Pool, own: CpuSet) -> Topology | None:
    """What a service that holds `own` may be placed on; None where the pool has no eligible CPUs."""
    return pools.topology(pool, ledger.claimed - own) if pool.eligible else None


def _default_size(top: Topology | None, pools: Pools, available: CpuSet, placing: PlacementPolicy) -> int:
    """The default size, of CPUs that the thread policy can grant."""
    if top is not None and placing.cpu_thread_policy == "isolate":
        return pools.settings.default_size(free_cores(top, available.mask))
    size = pools.settings.default_size(len(available))
    if top is not None and placing.cpu_thread_policy == "require":
        possible = whole_core_sizes(top, available.mask) & (1 << size + 1) - 1
        return (possible.bit_length() - 1) or size
    return size


def _task(
    settings: Settings,
    top: Topology,
    free: CpuSet,
    own: CpuSet,
    count: int,
    placing: PlacementPolicy,
    others: CpuSet = EMPTY,
    node_id: int | None = None,
) -> Task:
    if settings.resize_policy == "reallocate":
        free, own = free | own, EMPTY
    sparing = settings.numa_reclaim != "always"
    return Task(top, free, own, count, placing, others, node_id, sparing)


def _new_wishes(claim: Claim | None, ask: Ask) -> bool:
    """Whether the request asks for something itself that the claim was not placed with."""
    return ask.wishes not in (NO_WISHES, claim.wishes if claim else NO_WISHES)


def _place(task: Task, choices: int, *, new_wishes: bool) -> tuple[CpuSet, ...]:
    """The choices for a task, best first. A request that keeps what is held has its new wishes granted, or none."""
    try:
        candidates = place(task, choices)
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
    placed by the policy that it was placed by first. With resize-policy=reallocate its CPUs are among the free ones:
    then they are chosen again, even if they are the same in the end.
    """
    again = before is not None and bool(before.cpus & task.free)
    if before is not None and before.cpus == after.cpus and not again and not _new_wishes(before, ask):
        return replace(before, explicit=after.explicit, preemption_policy=after.preemption_policy)
    isolated = task.policy.cpu_thread_policy == "isolate"
    alone = chosen if isolated else EMPTY
    if before is not None:
        alone |= (before.alone - chosen) & after.cpus
    resized = before is not None and (before.cpus <= after.cpus or after.cpus <= before.cpus)
    kept = before is not None and not before.cpus <= task.free
    # Withheld is derived, but a claim that turns out the same must be equal, so that nothing is written.
    withheld = before.withheld if before is not None and again and alone and alone == before.alone else EMPTY
    placed_by = before.placed_by if before is not None and resized and kept else task.policy
    # As replace(after, …), which takes 4 µs longer.
    return Claim(
        after.service,
        after.pool,
        after.cpus,
        after.explicit,
        after.preemption_policy,
        withheld,
        placed_by,
        ask.wishes,
        alone,
    )


def _losses(ledger: Ledger, taken: CpuSet) -> tuple[ClaimChange, ...]:
    """What the owners of `taken` lose. Looks through all claims, but only when something is taken at all."""
    if not taken:
        return ()
    return tuple([ClaimChange(claim, claim.without(taken)) for claim in ledger.claims.values() if claim.cpus & taken])


def _grant(
    ledger: Ledger,
    before: Claim | None,
    after: Claim | None,
    cpus: CpuSet,
    losses: tuple[ClaimChange, ...] = (),
    task: Task | None = None,
    candidates: tuple[CpuSet, ...] = (),
) -> Grant:
    """The decision to change claims in this way, with what they withhold afterwards."""
    changes = (ClaimChange(before, after), *losses) if before != after else losses
    change = Change(changes)
    result = ledger.apply(change)
    claim = result.claims.get(after.service) if after else None
    if result.withheld or ledger.withheld:
        change = Change(tuple([ClaimChange(each.before, result.claims.get(each.service)) for each in changes]))
    return Grant(change, result, cpus, claim, task, candidates)
