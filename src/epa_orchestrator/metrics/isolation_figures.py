# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation figures: what the last audit says of the host and of the noise of claims, as numbers with labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.findings import RESULTS
from epa_orchestrator.metrics import catalogue
from epa_orchestrator.metrics.catalogue import OTHER_SERVICES, Metric
from epa_orchestrator.metrics.figures import Audited, Figure, largest_services
from epa_orchestrator.protocol.isolation import ClaimIsolation, NoiseCounts

#: The lists of threads that have a gauge of their own.
_THREADS: Final[Mapping[Metric, str]] = {
    catalogue.CLAIM_STRANGERS: "strangers",
    catalogue.CLAIM_STACKED_THREADS: "stacked",
}


def isolation_figures(audit: Audited | None) -> Iterator[Figure]:
    """All figures of an audit; none before the first one."""
    if audit is None:
        return
    yield Figure(catalogue.ISOLATION_READING, (), audit.read_at)
    for check in audit.checks:
        for result in RESULTS:
            yield Figure(catalogue.ISOLATION_CHECK, (check.id, result), int(check.result == result))
    sums: dict[tuple[Metric, tuple[str, ...]], float] = {}
    for claim, service in _shown(audit.claims):
        for metric, labels, value in _of_claim(claim, service):
            sums[metric, labels] = sums.get((metric, labels), 0) + value
    for (metric, labels), value in sums.items():
        yield Figure(metric, labels, value)


def _shown(claims: Mapping[str, ClaimIsolation]) -> Iterator[tuple[ClaimIsolation, str]]:
    """Each claim with the name that its figures have: those of the services with the most CPUs keep their own."""
    by_pool: dict[str, dict[str, int]] = {}
    for claim in claims.values():
        by_pool.setdefault(claim.pool, {})[claim.service_name] = _cpu_count(claim.allocated_cores)
    named = {pool: {service for service, _ in largest_services(cpus)} for pool, cpus in by_pool.items()}
    for claim in claims.values():
        yield claim, claim.service_name if claim.service_name in named[claim.pool] else OTHER_SERVICES


def _of_claim(claim: ClaimIsolation, service: str) -> Iterator[Figure]:
    labels = (claim.pool, service)
    for metric, name in _THREADS.items():
        yield Figure(metric, labels, len(getattr(claim, name)) + claim.more_threads.get(name, 0))
    if claim.noise is not None:
        yield from _of_noise(claim.noise, labels)


def _of_noise(noise: NoiseCounts, labels: tuple[str, str]) -> Iterator[Figure]:
    kinds = {
        "tick": noise.ticks,
        "device": sum(noise.interrupts.values()),
        "ipi": noise.ipis,
        "other": noise.other,
    }
    for kind, count in kinds.items():
        yield Figure(catalogue.CLAIM_INTERRUPTIONS, (*labels, kind), count)
    if noise.waited_seconds is not None:
        yield Figure(catalogue.CLAIM_WAIT_SECONDS, labels, noise.waited_seconds)
    if noise.involuntary_switches is not None:
        yield Figure(catalogue.CLAIM_INVOLUNTARY_SWITCHES, labels, noise.involuntary_switches)


def _cpu_count(cpus: str) -> int:
    return len(CpuSet.parse(cpus))
