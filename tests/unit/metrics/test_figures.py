# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Figures: CPUs by pool, node and state, what is left, and services up to a bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.metrics import catalogue
from epa_orchestrator.metrics.catalogue import MOST_SERVICES, OTHER_SERVICES, Metric
from epa_orchestrator.metrics.figures import Figures, View, largest_services
from epa_orchestrator.names import PoolName
from tools.synthetic import Shape, build

#: Two nodes with one L3 domain of four CPUs each, and no SMT. CPUs 2 to 7 are isolated.
SHAPE = Shape(packages=2, cores_per_l3=4, isolated="2-7")


def pools_of(shape: Shape = SHAPE, **options: Any) -> Pools:
    settings = parse_settings({name.replace("_", "-"): value for name, value in options.items()})
    return Host(RecordedSysfs(build(shape)), settings).pools()


def claim(service: str, cpus: str, pool: PoolName = "isolated") -> Claim:
    return Claim(service, pool, CpuSet.parse(cpus), EMPTY, "legacy")


def shown(
    metric: Metric,
    *claims: Claim,
    pools: Pools | None = None,
    records: Mapping[str, Mapping[tuple[int, int], int]] | None = None,
    kernel: Mapping[int, tuple[Hugepages, ...]] | None = None,
) -> dict[tuple[str, ...], float]:
    """The figures of a metric that are not 0, by their labels."""
    view = View(Ledger.of(claims, records or {}), pools, kernel or {}, False, 0, 0, 0)
    return {figure.labels: figure.value for figure in Figures().of(view) if figure.metric is metric and figure.value}


def test_cpus_count_by_pool_node_and_state() -> None:
    found = shown(catalogue.CPUS, claim("a", "2-4"), claim("b", "0", "general"), pools=pools_of(cpu_pool="0"))
    assert found == {
        ("general", "0", "claimed"): 1,
        ("none", "0", "not-isolated"): 1,
        ("isolated", "0", "claimed"): 2,
        ("isolated", "1", "claimed"): 1,
        ("isolated", "1", "free"): 3,
    }


def test_reserved_cpus_count_in_the_pool_in_which_they_would_be() -> None:
    found = shown(catalogue.CPUS, pools=pools_of(reserved_cpus="0,1,7", cpu_pool="1"))
    reserved = {labels[:2] for labels in found if labels[2] == "reserved"}
    assert reserved == {("none", "0"), ("general", "0"), ("isolated", "1")}


def test_offline_cpus_count_in_their_pool() -> None:
    found = shown(catalogue.CPUS, pools=pools_of(Shape(packages=2, cores_per_l3=4, isolated="2-7", offline="7")))
    assert found[("isolated", "none", "offline")] == 1


def test_claimed_cpu_that_is_offline_is_unavailable_in_its_pool() -> None:
    pools = pools_of(Shape(packages=2, cores_per_l3=4, isolated="2-7", offline="7"))
    found = shown(catalogue.CPUS, claim("a", "6-7"), pools=pools)
    assert sum(count for labels, count in found.items() if labels[2] == "unavailable") == 1
    assert sum(found.values()) == 8


def test_states_add_up_to_all_cpus_when_the_pool_overlaps_the_isolated_cpus() -> None:
    assert sum(shown(catalogue.CPUS, pools=pools_of(cpu_pool="0,2")).values()) == 8


def test_every_state_of_a_pool_has_a_figure() -> None:
    figures = Figures().of(View(Ledger(), pools_of(), {}, False, 0, 0, 0))
    states = {
        each.labels[2] for each in figures if each.metric is catalogue.CPUS and each.labels[:2] == ("isolated", "1")
    }
    assert states == {"claimed", "free", "withheld", "reserved", "unavailable", "offline"}


def test_largest_free_node_has_the_most_free_cpus() -> None:
    assert shown(catalogue.LARGEST_FREE_NODE, claim("a", "4-6"), pools=pools_of()) == {("isolated",): 2}


def test_free_l3_domain_has_no_claim() -> None:
    assert shown(catalogue.FREE_L3_DOMAINS, pools=pools_of()) == {("isolated",): 2}
    assert shown(catalogue.FREE_L3_DOMAINS, claim("a", "2"), pools=pools_of()) == {("isolated",): 1}


def test_claims_count_by_pool() -> None:
    claims = claim("a", "2"), claim("b", "3"), claim("c", "0", "general")
    assert shown(catalogue.CLAIMS, *claims) == {("isolated",): 2, ("general",): 1}


def test_claim_with_a_cpu_that_left_its_pool_is_outside() -> None:
    pools = pools_of(reserved_cpus="3")
    assert shown(catalogue.CLAIMS_OUTSIDE_POOL, claim("a", "2-3"), claim("b", "4"), pools=pools) == {("isolated",): 1}


def test_claim_with_an_offline_cpu_is_not_outside() -> None:
    pools = pools_of(Shape(packages=2, cores_per_l3=4, isolated="2-7", offline="7"))
    assert shown(catalogue.CLAIMS_OUTSIDE_POOL, claim("a", "7"), pools=pools) == {}


def test_services_show_without_a_host() -> None:
    assert shown(catalogue.SERVICE_CPUS, claim("a", "2-3")) == {("isolated", "a"): 2}
    assert shown(catalogue.CPUS, claim("a", "2-3")) == {}


def test_services_change_with_the_ledger() -> None:
    figures, pools = Figures(), pools_of()
    for cpus, count in (("2", 1), ("2-4", 3)):
        view = View(Ledger.of([claim("a", cpus)], {}), pools, {}, False, 0, 0, 0)
        assert [each.value for each in figures.of(view) if each.metric is catalogue.SERVICE_CPUS] == [count]


def test_only_the_largest_services_have_figures_of_their_own() -> None:
    values = {f"s{number}": number for number in range(1, MOST_SERVICES + 4)}
    found = dict(largest_services(values))
    assert len(found) == MOST_SERVICES + 1
    assert found[OTHER_SERVICES] == 1 + 2 + 3
    assert sum(found.values()) == sum(values.values())


def test_service_with_the_name_of_the_rest_is_in_the_rest() -> None:
    assert largest_services({OTHER_SERVICES: 7, "a": 1}) == [("a", 1), (OTHER_SERVICES, 7)]


def test_hugepages_are_in_bytes() -> None:
    kernel = {0: (Hugepages(2048, total=10, free=6),)}
    records = {"a": {(0, 2048): 3}}
    for metric, pages in (
        (catalogue.HUGEPAGES, 10),
        (catalogue.HUGEPAGES_FREE, 6),
        (catalogue.HUGEPAGES_RECORDED, 3),
    ):
        assert shown(metric, pools=pools_of(), records=records, kernel=kernel) == {("0", "2M"): pages * 2**21}
    assert shown(catalogue.SERVICE_HUGEPAGES, records=records) == {("a",): 3 * 2**21}
