# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Ledger: who owns which CPUs and hugepages at one moment.

A `Ledger` never changes: a decision yields a `Change`, and applying that yields the next ledger.

- A CPU has at most one owner, whatever the pool.
- A service's claim lives in one pool. `explicit` CPUs were requested by NUMA node and are never reclaimed.
- A claim placed with one thread per core (`isolate`) withholds the other threads of its cores from all other services.
  These follow from the claim and the machine's cores: they are derived, and stored only where that fails (see `rows`).
- free = eligible in the pool, minus the claimed and the withheld CPUs.

Every change is checked against these rules when it is applied, so a bug elsewhere ends in a `LedgerError`, never in a
ledger that the next start would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PageKind, PagesChange
from epa_orchestrator.allocation.pools import Pool
from epa_orchestrator.cpuset import EMPTY, CpuSet, iter_bits
from epa_orchestrator.hardware.machine import Cores
from epa_orchestrator.names import PoolName

_NO_CORES: Final[Cores] = MappingProxyType({})


class _Kept(NamedTuple):
    """The cores that a claim has to itself, as masks: all threads, and the siblings of the CPUs that have them."""

    threads: int
    siblings: int


class _Guarded(NamedTuple):
    """Siblings of CPUs that have a core to themselves, as masks: of CPUs of any claim, and of several claims."""

    by_any: int = 0
    by_several: int = 0


class LedgerError(ValueError):
    """Claims that break a rule: a CPU with two owners, an empty claim, explicit CPUs that are not owned."""


class Ledger:
    """All claims and hugepage records at one moment, on a machine with these `cores`.

    The unions that requests need are kept too: the CPUs `claimed` or `withheld` by any claim, those `owned` in each
    pool, and the `reclaimable` ones, which a legacy NUMA request of another service may take. So are the `recorded`
    hugepages. `_kept` is by service, for claims that have cores to themselves. Two claims may have been promised one
    core, as the machine had other cores then: `_contested` are the free threads of such cores, and `_guarded` the
    siblings that any claim keeps, and those that several do.
    """

    __slots__ = (
        "_contested",
        "_guarded",
        "_kept",
        "claimed",
        "claims",
        "cores",
        "owned",
        "pages",
        "reclaimable",
        "recorded",
        "withheld",
    )

    def __init__(self, cores: Cores = _NO_CORES) -> None:
        self.cores = cores
        self.claims: Mapping[str, Claim] = {}
        self.pages: Mapping[str, Mapping[PageKind, int]] = {}
        self.claimed = EMPTY
        self.withheld = EMPTY
        self.owned: Mapping[PoolName, CpuSet] = {"isolated": EMPTY, "general": EMPTY}
        self.reclaimable: Mapping[PoolName, CpuSet] = self.owned
        self.recorded: Mapping[PageKind, int] = {}
        self._kept: Mapping[str, _Kept] = {}
        self._contested = 0
        self._guarded = _Guarded()

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

    def changes_since(self, before: Ledger, change: Change) -> tuple[ClaimChange, ...]:
        """Every claim that differs from the ledger on which the change was decided.

        These are the claims of the change, and others that withhold other CPUs now.
        """
        services = dict.fromkeys((*[each.service for each in change.claims], *self._kept))
        pairs = [ClaimChange(before.claims.get(service), self.claims.get(service)) for service in services]
        return tuple([pair for pair in pairs if pair.before is not pair.after])

    def _copy(self) -> Ledger:
        after = object.__new__(Ledger)  # copy.copy takes ten times as long
        after.cores, after.claims, after.claimed, after.withheld = self.cores, self.claims, self.claimed, self.withheld
        after.owned, after.reclaimable = self.owned, self.reclaimable
        after._kept, after._contested, after._guarded = self._kept, self._contested, self._guarded
        after.pages, after.recorded = self.pages, self.recorded
        return after

    def _use_cores(self, cores: Cores) -> None:
        self.cores = cores
        claims = [_with_alone(claim, cores) for claim in self.claims.values()]
        self._kept = {claim.service: kept for claim in claims if (kept := self._kept_by(claim)).threads}
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
            if (keeps := self._kept_by(after)).threads:
                kept[after.service] = keeps
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

    def _withhold(self) -> None:
        """Derive what each claim withholds: the threads of its cores that no service owns.

        When two claims would withhold one thread, because they came to share a core while a thread of it was offline,
        the first one by name does; neither may take it.
        """
        free, withheld = ~self.claimed.mask, 0
        changed: dict[str, Claim] = {}
        self._guarded = _Guarded(*_in_any_and_several([kept.siblings for kept in self._kept.values()]))
        _, self._contested = _in_any_and_several([kept.threads & free for kept in self._kept.values()])
        for service in sorted(self._kept) if self._contested else self._kept:
            mask = self._kept[service].threads & free & ~withheld
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

    def threads_of(self, claim: Claim) -> int:
        """The threads of the cores that a claim was promised for itself, its own ones too, as a mask."""
        return _threads(self.cores, claim.alone) if claim.alone else claim.withheld.mask

    def _kept_by(self, claim: Claim) -> _Kept:
        threads = self.threads_of(claim)
        if not claim.alone:
            return _Kept(threads, threads)
        siblings = 0
        for cpu in iter_bits(claim.alone.mask):
            siblings |= self.cores.get(cpu, 0) & ~(1 << cpu)
        return _Kept(threads, siblings)

    def free(self, pool: Pool) -> CpuSet:
        """The CPUs of a pool that no service owns or withholds."""
        return pool.eligible - self.claimed - self.withheld

    def free_for(self, pool: Pool, claim: Claim | None) -> CpuSet:
        """The CPUs of a pool that are free for the service with this claim, those that only its claim withholds too."""
        free = self.free(pool)
        if claim is None or not claim.withheld:
            return free
        return free | CpuSet.from_mask(claim.withheld.mask & pool.eligible.mask & ~self._contested)

    def reclaimable_for(self, pool: Pool, service: str, held: CpuSet) -> CpuSet:
        """The CPUs of others that a legacy NUMA request of the service, which has `held`, may take.

        None is a thread of a core that another claim has to itself for another CPU: a new owner would share that core.
        """
        own = self._kept.get(service)
        guarded = self._guarded.by_any & ~own.siblings | self._guarded.by_several if own else self._guarded.by_any
        return CpuSet.from_mask(self.reclaimable[pool.name].mask & ~held.mask & ~guarded)


def _with_alone(claim: Claim, cores: Cores) -> Claim:
    """The claim with `alone` derived from `withheld`, if it is from a database that had no `alone`.

    This takes the cores of all withheld threads, and the kernel shows no core for a thread that is offline. Where the
    cores have other threads by now than those that were withheld, the policy of the claim says what it was promised.
    """
    if claim.alone or not claim.withheld or not all(cpu in cores for cpu in claim.withheld):
        return claim
    alone = CpuSet(cpu for cpu in claim.cpus if cores.get(cpu, 0) & claim.withheld.mask)
    if claim.placed_by.cpu_thread_policy == "isolate" and claim.withheld.mask & ~_threads(cores, alone):
        alone = claim.cpus
    return replace(claim, alone=alone)


def _threads(cores: Cores, cpus: CpuSet) -> int:
    """All threads of the cores of these CPUs, as a mask."""
    threads = 0
    for cpu in iter_bits(cpus.mask):
        threads |= cores.get(cpu, 0)
    return threads


def _in_any_and_several(masks: Iterable[int]) -> tuple[int, int]:
    """The CPUs that are in any of the masks, and those that are in two or more."""
    union = several = 0
    for mask in masks:
        several |= union & mask
        union |= mask
    return union, several
