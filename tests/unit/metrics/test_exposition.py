# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Exposition: every metric of the catalogue in Prometheus' text format."""

from __future__ import annotations

import time
import timeit

from prometheus_client.parser import text_string_to_metric_families

from epa_orchestrator import __version__
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.metrics.catalogue import CATALOGUE
from epa_orchestrator.metrics.counts import Counts
from epa_orchestrator.metrics.exposition import CONTENT_TYPE, Exposition
from epa_orchestrator.metrics.figures import View
from tools.synthetic import Shape, build


def parsed(text: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """By the samples' names: the values by the values of their labels, sorted by the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def exposition(counts: Counts, *claims: Claim) -> Exposition:
    return Exposition(lambda: View(Ledger.of(claims, {}), None, {}, True, 2, 3, 4), counts)


def test_text_has_every_metric_with_help_and_type() -> None:
    lines = exposition(Counts()).render().decode().splitlines()
    for metric in CATALOGUE:
        assert f"# HELP {metric.shown} {metric.help}" in lines
        assert f"# TYPE {metric.shown} {metric.type}" in lines


def test_content_type_names_the_text_format() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_view_and_counts_have_their_values() -> None:
    counts = Counts()
    counts.refused("allocate_cores", "limit")
    counts.committed(3, 0.002, failed=False)
    found = parsed(exposition(counts).render())
    assert found["epa_build_info"] == {(__version__,): 1}
    assert found["epa_read_only"] == {(): 1}
    assert found["epa_warnings"] == {(): 2}
    assert found["epa_outdated_placements"] == {(): 3}
    assert found["epa_connections"] == {(): 4}
    assert not_0(found["epa_requests_total"]) == {("allocate_cores", "refused"): 1}
    assert not_0(found["epa_refusals_total"]) == {("limit",): 1}
    assert found["epa_commit_requests_sum"] == {(): 3}
    assert found["epa_commit_duration_seconds_bucket"][("0.0025",)] == 1


def not_0(found: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {labels: value for labels, value in found.items() if value}


def test_counters_begin_at_0() -> None:
    found = parsed(exposition(Counts()).render())
    requests, refusals = found["epa_requests_total"], found["epa_refusals_total"]
    assert {("allocate_hugepages", "failed"), ("get_claim", "refused"), ("none", "denied")} <= set(requests)
    assert {("insufficient",), ("quota",), ("storage",)} <= set(refusals)
    assert set(requests.values()) == set(refusals.values()) == {0}


def test_latency_has_its_action() -> None:
    counts = Counts()
    counts.timed("get_memory_info", 0.0, lambda _: None)(b"")
    assert parsed(exposition(counts).render())["epa_request_duration_seconds_count"] == {("get_memory_info",): 1}


def test_name_of_a_service_is_escaped() -> None:
    name = 'a"} 1\\ x'
    claim = Claim(name, "isolated", CpuSet([1]), EMPTY, "legacy")
    assert parsed(exposition(Counts(), claim).render())["epa_service_cpus"] == {("isolated", name): 1}


def test_process_is_shown() -> None:
    assert b"process_resident_memory_bytes" in exposition(Counts()).render()


def test_scrape_of_many_services_is_short_and_quick() -> None:
    """A thread works for it while requests want the interpreter: 2 ms where this was measured, after the first one."""
    pools = Host(RecordedSysfs(build(Shape(packages=2, nodes_per_package=4, cores_per_l3=64))), Settings()).pools()
    claims = [Claim(f"s{number}", "isolated", CpuSet([number]), EMPTY, "legacy") for number in range(512)]
    records = {f"s{number}": {(number % 8, 2048): number} for number in range(2000)}
    view = View(Ledger.of(claims, records, pools.cores), pools, {}, False, 0, 0, 0)
    found = Exposition(lambda: view, Counts())
    assert len(found.render().splitlines()) < 600
    assert min(timeit.repeat(found.render, number=1, repeat=20, timer=time.thread_time)) < 0.02
