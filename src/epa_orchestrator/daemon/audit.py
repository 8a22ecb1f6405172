# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Audit: one reading of the host's isolation after the other, judged, and told as clients and the metrics get it.

Only the auditor's thread makes audits and imports this module. An audit never changes, so any thread may read it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon import noise_file
from epa_orchestrator.daemon.askers import UNKNOWN, Asker, Askers, claim_owner
from epa_orchestrator.daemon.claim_noise import ClaimNoise, Heard, Listened
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.case import Case, Owner, Terms
from epa_orchestrator.isolation.claim_troubles import JudgedClaim, Ownership
from epa_orchestrator.isolation.facts import Facts, read_facts
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.judge import judge
from epa_orchestrator.isolation.noise import PIN_EACH, Noise, culprit
from epa_orchestrator.isolation.owner_checks import pinning
from epa_orchestrator.isolation.owners import OwnerIndex, booted_at
from epa_orchestrator.isolation.remedies import housekeeping_list
from epa_orchestrator.isolation.task_facts import Task
from epa_orchestrator.isolation.task_names import moved_away, named
from epa_orchestrator.protocol.isolation import CheckResult, ClaimIsolation, ClaimOwner, NoiseCounts, NoisyThread

log = logging.getLogger(__name__)

#: The most threads of each kind that an answer names, and the most devices.
_MOST_THREADS: Final = 8
_MOST_DEVICES: Final = 16
_OTHER_DEVICES: Final = "(other)"
#: The most characters of a text that local users choose, and of a sentence that quotes such texts.
_MOST_OF_NAME: Final = 64
_MOST_OF_CGROUP: Final = 256
_MOST_OF_SENTENCE: Final = 4096


class Subjects(NamedTuple):
    """What is audited: the claims (None where they are not known), and by which settings.

    `database` has the history, if there is one. `writable` says whether the state directory belongs to this daemon.
    """

    claims: Mapping[str, Claim] | None
    settings: Settings
    database: Path | None
    writable: bool


@dataclass(frozen=True)
class Audit:
    """The results of one reading, which began at `read_at` (seconds since 1970); `claims` are those of then."""

    read_at: float
    checks: tuple[CheckResult, ...]
    claims: Mapping[str, ClaimIsolation]


class Audits:
    """Audits a host again and again, and remembers what the next audit needs.

    `look` returns what is audited now; `rest` is called often. The baselines of noise are in `directory`.
    """

    def __init__(
        self, files: HostFiles, look: Callable[[], Subjects], directory: Path | None, rest: Callable[[], None]
    ) -> None:
        self._files = files
        self._look = look
        self._rest = rest
        self._directory = directory
        self._askers = Askers(rest)
        self._noise = ClaimNoise(noise_file.load(directory, rest) if directory is not None else None)
        #: Whether the last try succeeded, so that a full disk does not fill the log, too.
        self._can_store = True
        self._earlier: Facts | None = None
        self._findings: dict[str, Finding] = {}

    def make(self) -> Audit:
        """Read and judge the host now."""
        subjects = self._look()
        claims = subjects.claims or {}
        facts = read_facts(self._files, time.time(), self._rest)
        askers = self._askers.of(claims, subjects.database)
        owners = {
            service: _owner(claim, askers.get(service, UNKNOWN), subjects.settings) for service, claim in claims.items()
        }
        case = Case(
            facts, self._earlier, tuple(owners.values()) if subjects.claims is not None else None, _terms(subjects)
        )
        checks = tuple(_check(each) for each in self._with_since(judge(case)))
        self._rest()
        judged = {each.owner.service: each for each in Ownership(case).claims}
        self._rest()
        heard = self._noise.listen(facts, _listened(facts, owners.values(), judged), self._rest)
        self._save(subjects)
        self._earlier = facts
        return Audit(
            facts.at,
            checks,
            {
                service: _claim(
                    owner,
                    claim_owner(claims[service], askers.get(service, UNKNOWN), subjects.settings),
                    heard[service],
                    judged.get(service),
                    case,
                )
                for service, owner in owners.items()
            },
        )

    def _with_since(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings, each since the first of the readings in a row that had its result."""
        before, self._findings = self._findings, {}
        for finding in findings:
            earlier = before.get(finding.id)
            if earlier is not None and earlier.result == finding.result:
                finding = replace(finding, since=earlier.since)
            self._findings[finding.id] = finding
        return list(self._findings.values())

    def _save(self, subjects: Subjects) -> None:
        """Keep the baselines for the next start, if they have changed."""
        if self._directory is None or not subjects.writable or not self._noise.changed:
            return
        self._noise.changed = False
        try:
            noise_file.save(self._directory, self._noise.baselines, self._rest)
        except OSError as error:  # the next change tries again
            if self._can_store:
                log.warning("the baselines of the claims' noise could not be stored: %s", error)
            self._can_store = False
        else:
            self._can_store = True


def _terms(subjects: Subjects) -> Terms:
    return Terms(subjects.settings.isolated_cpus_from, subjects.settings.nohz_full)


def _owner(claim: Claim, asker: Asker, settings: Settings) -> Owner:
    return Owner(
        service=claim.service,
        cpus=claim.cpus,
        pool=claim.pool,
        snap=asker.names.snap,
        unit=asker.names.unit,
        pid=asker.pid,
        asked_at=asker.at,
        cgroups=settings.cgroups_of(claim.service),
    )


def _listened(facts: Facts, owners: Iterable[Owner], judged: Mapping[str, JudgedClaim]) -> Iterator[Listened]:
    """Each claim with its owner's threads; None where it is not known whose they are."""
    threads: dict[int, _Threads] = {}
    others = _OtherOwners(facts)
    for owner in owners:
        claim = judged.get(owner.service)
        if claim is None:
            tasks = others.threads_of(owner)
        elif claim.processes is None:
            tasks = None
        else:
            # Many claims may have one owner, whose threads are one list then.
            of_owner = threads.setdefault(id(claim.tasks), _Threads(claim.tasks))
            tasks = of_owner.on(owner.cpus)
        yield Listened(owner.service, owner.pool, owner.cpus, tasks, owner.asked_at)


class _Threads:
    """The threads of one owner, by the CPUs where they may run."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._by_mask: dict[int, list[Task]] = {}
        for task in tasks:
            self._by_mask.setdefault(task.allowed.mask, []).append(task)

    def on(self, cpus: CpuSet) -> tuple[Task, ...]:
        """Those that keep to these CPUs, or if there are none, all that may run there."""
        for stray in (~cpus.mask, 0):
            found = [tasks for mask, tasks in self._by_mask.items() if mask & cpus.mask and not mask & stray]
            if found:
                return tuple(chain.from_iterable(found))
        return ()


class _OtherOwners:
    """Finds the threads of claims that are not judged, such as those of pool general; few hosts have any."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._index: OwnerIndex | None = None

    def threads_of(self, owner: Owner) -> tuple[Task, ...] | None:
        """The owner's threads on its CPUs."""
        tasks = self._facts.tasks
        if isinstance(tasks, Unread):
            return None
        if self._index is None:
            self._index = OwnerIndex(tasks, booted_at(self._facts))
        processes = self._index.processes_of(owner)
        if processes is None:
            return None
        return _Threads(task for task in tasks if task.pid in processes).on(owner.cpus)


# --- what clients get ---


def _check(finding: Finding) -> CheckResult:
    return CheckResult.model_validate(
        {**finding.document(), "seen": _cut(finding.seen), "remedy": _cut(finding.remedy)}
    )


def _claim(owner: Owner, told: ClaimOwner, heard: Heard, judged: JudgedClaim | None, case: Case) -> ClaimIsolation:
    """A claim with its noise and the threads that do not belong where they are, as far as these are known."""
    facts = case.now
    is_known = judged is not None and judged.processes is not None
    found = {
        # Those of an unknown owner may be its own.
        "strangers": judged.strangers if judged is not None and is_known else [],
        "outside": judged.outside if judged is not None else [],
        "stacked": judged.stacked if judged is not None else [],
    }
    noise = heard.now or heard.total
    blamed = culprit(noise, owner.cpus, facts) if noise is not None else None
    if blamed is None or blamed[1] == PIN_EACH:
        # The counters do not tell who takes the CPUs; the threads do.
        threads = _blamed_threads(judged, case) if judged is not None and is_known else None
        blamed = threads if blamed is None or threads is None else (blamed[0], threads[1])
    return ClaimIsolation(
        service_name=owner.service,
        pool=owner.pool,
        allocated_cores=str(owner.cpus),
        owner=told,
        since=heard.since,
        noise=_counts(heard.total),
        now=_counts(heard.now),
        **{name: [_thread(task) for task in tasks[:_MOST_THREADS]] for name, tasks in found.items()},
        more_threads={name: len(tasks) - _MOST_THREADS for name, tasks in found.items() if len(tasks) > _MOST_THREADS},
        culprit=_cut(blamed[0]) if blamed is not None else None,
        remedy=_cut(blamed[1]) if blamed is not None else None,
        problem=heard.problem or _problem(judged, facts),
    )


def _blamed_threads(judged: JudgedClaim, case: Case) -> tuple[str, str] | None:
    """A thread that disturbs the owner, and the remedy."""
    if judged.strangers:
        task = judged.strangers[0]
        remedy = moved_away(task, housekeeping_list(case), by_unit=case.can_limit_units)
        return f"{named(task)} works on CPU {task.cpu}", remedy
    if judged.stacked:
        task = judged.stacked[0]
        return f"{named(task)} shares CPU {task.cpu} with others", pinning(judged)
    return None


def _problem(judged: JudgedClaim | None, facts: Facts) -> str | None:
    """Why the threads of a claim cannot be judged."""
    if isinstance(facts.tasks, Unread):
        return f"The threads are not known: this needs {facts.tasks.needs}"
    if judged is not None and judged.processes is None:
        return (
            "The owner's threads are not known, so they cannot be told from strangers: name its control groups in the"
            " option owner-cgroups"
        )
    return None


def _counts(noise: Noise | None) -> NoiseCounts | None:
    if noise is None:
        return None
    devices = sorted(noise.interrupts.items(), key=lambda each: (-each[1], each[0]))
    interrupts = {_cut(name, _MOST_OF_NAME): count for name, count in devices[:_MOST_DEVICES]}
    if rest := sum(count for _, count in devices[_MOST_DEVICES:]):
        interrupts[_OTHER_DEVICES] = rest
    return NoiseCounts(
        seconds=round(noise.seconds, 3),
        ticks=noise.ticks,
        interrupts=interrupts,
        ipis=noise.ipis,
        other=noise.other,
        waited_seconds=None if noise.waited_ns is None else round(noise.waited_ns / 1e9, 6),
        involuntary_switches=noise.involuntary,
    )


def _thread(task: Task) -> NoisyThread:
    cgroup = None if task.cgroup is None else _cut(task.cgroup, _MOST_OF_CGROUP)
    return NoisyThread(pid=task.pid, tid=task.tid, name=_cut(task.name, _MOST_OF_NAME), cpu=task.cpu, cgroup=cgroup)


def _cut(text: str, most: int = _MOST_OF_SENTENCE) -> str:
    """The text as others may show it: printable, and not too long."""
    return printable(text if len(text) <= most else f"{text[: most - 1]}…")
