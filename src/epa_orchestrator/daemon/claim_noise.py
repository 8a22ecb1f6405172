# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claim noise: from which reading on the noise of each claim counts, and how much came since then and lately."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.facts import Facts, go_on
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.noise import Noise, noise_between, noise_so_far
from epa_orchestrator.isolation.task_facts import Task
from epa_orchestrator.names import PoolName


class Baseline(NamedTuple):
    """The counters of a claim's CPUs at the time `since` (seconds since 1970), from which its noise counts.

    `asked_at` is when the service got its newest CPUs; a later time is that of another claim with the same CPUs.
    """

    pool: PoolName
    cpus: CpuSet
    asked_at: float | None
    since: float
    noise: Noise


@dataclass
class Baselines:
    """The baselines by service; their counters began at the boot that `boot_id` names."""

    boot_id: str | None = None
    of: dict[str, Baseline] = field(default_factory=dict[str, Baseline])


class Listened(NamedTuple):
    """A claim, the threads of its owner, and when it got its newest CPUs (seconds since 1970).

    Threads and time are None where they are not known.
    """

    service: str
    pool: PoolName
    cpus: CpuSet
    tasks: tuple[Task, ...] | None
    asked_at: float | None


class Heard(NamedTuple):
    """The noise of a claim since a time, and between the last two readings; `problem` says why it is not known."""

    since: float | None = None
    total: Noise | None = None
    now: Noise | None = None
    problem: str | None = None


class ClaimNoise:
    """Keeps the baselines and the last counters of all claims.

    `changed` says whether the baselines have changed since it was last set to False.
    """

    def __init__(self, baselines: Baselines | None = None) -> None:
        self.baselines = baselines or Baselines()
        self.changed = False
        self._last: dict[str, tuple[CpuSet, Noise]] = {}

    def listen(self, facts: Facts, claims: Iterable[Listened], rest: Callable[[], None] = go_on) -> Mapping[str, Heard]:
        """The noise of each claim, by service; claims that are not among these are forgotten."""
        boot_id = None if isinstance(facts.boot_id, Unread) else facts.boot_id
        before = self.baselines
        self.baselines = Baselines(boot_id)
        last, self._last = self._last, {}
        heard: dict[str, Heard] = {}
        for claim in claims:
            rest()
            so_far = _so_far(facts, claim)
            if isinstance(so_far, Unread):
                heard[claim.service] = Heard(problem=f"The noise is not known: it needs {so_far.needs}")
                continue
            baseline = _baseline(facts, claim, so_far, before)
            self.baselines.of[claim.service] = baseline
            cpus, earlier = last.get(claim.service, (None, so_far))
            self._last[claim.service] = claim.cpus, so_far
            heard[claim.service] = Heard(
                baseline.since,
                _between(baseline.noise, so_far),
                _between(earlier, so_far) if cpus == claim.cpus and boot_id == before.boot_id else None,
            )
        self.changed |= self.baselines != before
        return heard


def _so_far(facts: Facts, claim: Listened) -> Noise | Unread:
    so_far = noise_so_far(facts, claim.cpus, claim.tasks or ())
    return replace(so_far, involuntary=None) if isinstance(so_far, Noise) and claim.tasks is None else so_far


def _baseline(facts: Facts, claim: Listened, so_far: Noise, before: Baselines) -> Baseline:
    """The earlier baseline of the claim while it counts, or else a new one."""
    kept = before.of.get(claim.service)
    same = kept is not None and _is_of(kept, claim)
    if kept is not None and same and before.boot_id == facts.boot_id:
        return kept
    boot = facts.at - so_far.seconds
    if same or (claim.asked_at is not None and claim.asked_at < boot):
        return Baseline(claim.pool, claim.cpus, claim.asked_at, boot, _nothing(so_far))
    return Baseline(claim.pool, claim.cpus, claim.asked_at, facts.at, so_far)


def _is_of(baseline: Baseline, claim: Listened) -> bool:
    return (baseline.pool, baseline.cpus) == (claim.pool, claim.cpus) and (
        claim.asked_at is None or claim.asked_at == baseline.asked_at
    )


def _nothing(so_far: Noise) -> Noise:
    """The counters of these CPUs at the boot."""
    waited_ns = None if so_far.waited_ns is None else 0
    involuntary = None if so_far.involuntary is None else 0
    return Noise(0.0, 0, {}, 0, 0, waited_ns, involuntary, so_far.cpus)


def _between(before: Noise, after: Noise) -> Noise | None:
    """What came between two readings; None where no time has passed, as on a recorded host."""
    return noise_between(before, after) if after.seconds > before.seconds else None
