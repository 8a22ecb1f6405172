# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Feed: finds out what has changed, and tells the watchers.

It remembers what it has told last: the claims, the pools, and the sentences for the operator. A committed batch brings
its steps with it, one for each decision. The feed finds all other changes by comparison with what it has told, so that
the first line and the lines after it never miss a change and never tell one twice. While there are watchers, it looks
at the host once a second, because the kernel tells nobody when CPUs go on- or offline. Pools are told only in the order
in which they were built: a batch may end that was decided on older ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

from epa_orchestrator.allocation.claims import Claim, ClaimChange, PageKind, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.outdated import Review
from epa_orchestrator.allocation.pools import Pool, Pools
from epa_orchestrator.allocation.taken import NOTHING_TAKEN, Taken, gainer, losses, taken_by
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon.batch import Batch, Step
from epa_orchestrator.daemon.current import Current
from epa_orchestrator.daemon.encoded import changes_between, encode_claim_part
from epa_orchestrator.daemon.queries import summary_of
from epa_orchestrator.daemon.watchers import Watchers
from epa_orchestrator.protocol.watching import HugepagesEvent, MachineEvent, PoolState, encode, encode_claim

#: How often (seconds) to look at the host while there are watchers: 20 to 44 µs if it has not changed.
_LOOK_EVERY: Final = 1.0
#: The longest pause (seconds) between two looks while the host cannot be read; each pause is twice the one before.
_LONGEST_PAUSE: Final = 32.0


class _Machine(NamedTuple):
    """What a line about the machine is made of. `outdated` are the services with an outdated placement."""

    pools: Pools
    problem: str | None
    warnings: tuple[str, ...]
    outdated: frozenset[str]


class _Told(NamedTuple):
    """What the watchers know."""

    claims: Mapping[str, Claim]
    pages: Mapping[str, Mapping[PageKind, int]]
    machine: _Machine

    def after(self, ledger: Ledger) -> _Told:
        """The same with the claims and records of a ledger."""
        return self._replace(claims=ledger.claims, pages=ledger.pages)


class _Shown(NamedTuple):
    """A claim as it was told last, for the next change of it."""

    claim: Claim
    withheld: int
    part: bytes


class Feed:
    """Tells `watchers` what changes.

    `warnings` gives those of a listing; `read_host` starts to read a host that has changed in another thread.
    """

    def __init__(
        self,
        current: Current,
        review: Review,
        watchers: Watchers,
        warnings: Callable[[], tuple[str, ...]],
        read_host: Callable[[], None],
    ) -> None:
        self._current = current
        self._review = review
        self._watchers = watchers
        self._warnings = warnings
        self._read_host = read_host
        self._told: _Told | None = None
        self._shown: dict[str, _Shown] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _LOOK_EVERY

    def begin(self, pools: Pools) -> None:
        """Prepare for a new watcher, which learns the present state from its first line."""
        self.catch_up(pools)
        if not self._watchers:
            ledger = self._current.ledger_on(pools)
            self._told = _Told(ledger.claims, ledger.pages, self._machine(ledger, pools))
        if self._timer is None:
            self._pause = _LOOK_EVERY
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._look_again)

    def catch_up(self, pools: Pools) -> None:
        """Tell what differs from what was told, with these pools as the present ones."""
        if self._watchers:
            with self._dropping_all_after_an_error():
                ledger = self._current.ledger_on(pools)
                self._move_to(ledger, self._machine(ledger, pools))

    def batch_ended(self, batch: Batch) -> None:
        """Tell what a batch has changed; call it when the ledger of the batch is the current one."""
        if self._watchers:
            with self._dropping_all_after_an_error():
                self._tell_batch(batch)

    def look(self) -> bool:
        """Tell what has changed on the host; False if it has to be read again, and is told when that is done."""
        if not self._watchers:
            return True
        pools = self._current.known_pools()
        if pools is None:
            self._read_host()
            return False
        self.catch_up(pools)
        return True

    def close(self) -> None:
        """Look at the host no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_again(self) -> None:
        self._timer = None
        if not self._watchers:
            self._told = None
            self._shown.clear()
            return
        self._pause = _LOOK_EVERY if self.look() else min(2 * self._pause, _LONGEST_PAUSE)
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._look_again)

    @contextmanager
    def _dropping_all_after_an_error(self) -> Generator[None]:
        """A bug here must stop neither changes nor readings."""
        try:
            yield
        except Exception:  # noqa: BLE001  # logged
            self._watchers.drop_all()

    def _tell_batch(self, batch: Batch) -> None:
        assert self._told is not None
        pools = self._told.machine.pools
        if batch.pools is not None and batch.pools is self._current.host.latest_pools is not pools:
            pools = batch.pools
            self._move_to(batch.begun_with, self._machine(batch.begun_with, pools))
        after = batch.ledger.on(pools.cores)
        if batch.steps and after is batch.ledger:  # on other cores the claims of the steps withhold other CPUs
            self._move_to(batch.begun_with)
            for step in batch.steps:
                self._tell_step(step, pools.configured)
            self._told = self._told.after(after)
        self._move_to(after)

    def _move_to(self, ledger: Ledger, machine: _Machine | None = None) -> None:
        """Tell all that differs from what was told last."""
        assert self._told is not None
        before, now = self._told, self._told.after(ledger)
        if machine is not None and machine != before.machine:
            now = now._replace(machine=machine)
            self._tell_machine(ledger, machine)
        self._tell_claims(before, now)
        for service, counts in changes_between(before.pages, now.pages):
            self._tell_counts(service, before.pages.get(service) or {}, counts or {})
        self._told = now

    # --- the machine ---

    def _machine(self, ledger: Ledger, pools: Pools) -> _Machine:
        return _Machine(
            pools,
            self._current.problem,
            self._warnings(),
            frozenset(self._review.services_with_outdated(ledger.claims)),
        )

    def _tell_machine(self, ledger: Ledger, now: _Machine) -> None:
        machine = now.pools.machine
        event = MachineEvent(
            event="machine",
            online_cpus=str(machine.online) if machine else "",
            isolated_cpus=str(machine.isolated) if machine else "",
            pools={pool.name: self._pool_state(ledger, pool, now.outdated) for pool in now.pools.existing},
            state_error=now.problem,
            warnings=now.warnings,
        )
        self._watchers.tell(partial(encode, event))

    def _pool_state(self, ledger: Ledger, pool: Pool, outdated: frozenset[str]) -> PoolState:
        return PoolState(
            total_available_cpus=len(pool.eligible),
            remaining_available_cpus=len(ledger.free(pool)) if self._current.ledger_known else 0,
            cpu_pool=summary_of(pool, ledger.owned[pool.name]),
            outdated_placements=tuple(
                [service for service in sorted(outdated) if ledger.claims[service].pool == pool.name]
            ),
        )

    # --- claims and records ---

    def _tell_claims(self, before: _Told, after: _Told) -> None:
        """Tell which claims differ, and which ones a listing shows differently because the pools differ."""
        configured, was_configured = after.machine.pools.configured, before.machine.pools.configured
        services: dict[str, Claim | None] = dict(changes_between(before.claims, after.claims))
        if configured is not was_configured and (cpus := configured.mask ^ was_configured.mask):
            services |= {name: claim for name, claim in after.claims.items() if claim.withheld.mask & cpus}
        changes = [ClaimChange(before.claims.get(service), claim) for service, claim in services.items()]
        parts = [_losing_first(change) for change in changes]
        for losing, _ in parts:
            if losing is not None:
                self._tell_claim(losing, configured, was_configured=was_configured)
        for losing, gaining in parts:
            if gaining is not None:
                known = was_configured if losing is None else configured
                self._tell_claim(gaining, configured, was_configured=known)

    def _tell_step(self, step: Step, configured: CpuSet) -> None:
        """Tell what one decision has changed: first the claims that lose CPUs, so that no CPU ever has two owners."""
        if len(step.claims) == 1:  # the usual case: nobody loses anything
            self._tell_claim(step.claims[0], configured)
        elif step.claims:
            self._tell_taking(step, configured)
        if step.change.pages is not None:
            self._tell_pages(step.change.pages)

    def _tell_taking(self, step: Step, configured: CpuSet) -> None:
        taker = gainer(step.change)
        lost = losses(step.change)
        for change in sorted(step.claims, key=lambda change: change.service == taker):
            if change.service == taker:
                self._tell_claim(change, configured, taken=taken_by(step.change))
            else:
                self._tell_claim(change, configured, taker=taker if change.service in lost else None)

    def _tell_counts(self, service: str, before: Mapping[PageKind, int], after: Mapping[PageKind, int]) -> None:
        for kind in sorted({*before, *after}):
            if (was := before.get(kind, 0)) != (now := after.get(kind, 0)):
                self._tell_pages(PagesChange(service, kind, was, now))

    def _tell_pages(self, change: PagesChange) -> None:
        node_id, size_kb = change.kind
        event = HugepagesEvent(
            event="hugepages",
            service_name=change.service,
            node_id=node_id,
            size_kb=size_kb,
            before=change.before,
            after=change.after,
        )
        self._watchers.tell(partial(encode, event))

    def _tell_claim(
        self,
        change: ClaimChange,
        configured: CpuSet,
        *,
        was_configured: CpuSet | None = None,
        taken: Taken = NOTHING_TAKEN,
        taker: str | None = None,
    ) -> None:
        was = configured if was_configured is None else was_configured
        self._watchers.tell(partial(self._claim_line, change, was, configured, taken, taker))

    def _claim_line(
        self,
        change: ClaimChange,
        was_configured: CpuSet,
        configured: CpuSet,
        taken: Taken,
        taker: str | None,
    ) -> bytes:
        """The line of a change, in the order in which lines are sent; none if a listing shows no difference."""
        before = self._part(change.before, was_configured)
        after = self._part(change.after, configured)
        if change.after is None:
            self._shown.pop(change.service, None)
        if before == after:
            return b""
        return encode_claim(change.service, before, after, taken.services, others=taken.others, taken_by=taker)

    def _part(self, claim: Claim | None, configured: CpuSet) -> bytes | None:
        """A claim as a listing shows it; the state after one change is the state before the next."""
        if claim is None:
            return None
        withheld = (claim.withheld & configured).mask if claim.withheld else 0
        shown = self._shown.get(claim.service)
        if shown is None or shown.claim is not claim or shown.withheld != withheld:
            shown = _Shown(claim, withheld, encode_claim_part(claim, configured))
            self._shown[claim.service] = shown
        return shown.part


def _losing_first(change: ClaimChange) -> tuple[ClaimChange | None, ClaimChange | None]:
    """A change in two parts: all lose CPUs before any gains some, so that no CPU ever has two owners."""
    before, after = change
    if before is None:
        return None, change
    if after is None or after.cpus <= before.cpus:
        return change, None
    kept = before.without(before.cpus - after.cpus)
    return (None, change) if kept is before else (ClaimChange(before, kept), ClaimChange(kept, after))
