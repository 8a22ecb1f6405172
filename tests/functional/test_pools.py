# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The pools `isolated` and `general`: their CPUs, which never mix, and their services, each of which is in one pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Daemon, Json, Reused, format_cpus

GENERAL = {0, 4, 8, 12}


@pytest.fixture(scope="module")
def reused() -> Iterator[Reused]:
    """A daemon whose general pool is the first core of each node."""
    with Reused(settings={"cpu-pool": "0,4,8,12"}) as shared:
        yield shared


REQUESTS = [
    ("allocate_cores", {"num_of_cores": 1}),
    ("allocate_cores_percent", {"percent": 10}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 1}),
]
RELEASES = [
    ("allocate_cores", {"num_of_cores": -1}),
    ("allocate_cores_percent", {"percent": 0}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": -1}),
]


def test_listing_describes_the_general_pool(daemon: Daemon) -> None:
    listing = daemon.ok("list_allocations", pool="general")
    assert listing["pool"] == "general"
    assert listing["cpu_pool"] == {
        "source": "configured",
        "configured_cpus": "0,4,8,12",
        "eligible_cpus": "0,4,8,12",
        "unavailable_allocated_cpus": "",
    }
    assert listing["total_available_cpus"] == 4
    assert daemon.ok("list_allocations")["pool"] == "isolated"
    assert daemon.ok("list_allocations")["cpu_pool"]["source"] == "isolated"


def test_each_pool_grants_only_its_cpus(daemon: Daemon) -> None:
    isolated = daemon.cores("a", 12, pool="isolated")
    general = daemon.cores("b", 4, pool="general")
    assert isolated == daemon.host.isolated
    assert general == GENERAL
    assert daemon.claims() == {"a": isolated}
    assert daemon.claims("general") == {"b": general}
    assert daemon.entry("b", "general")["pool"] == "general"
    assert daemon.refused("allocate_cores", service_name="c", num_of_cores=1) == (
        "Insufficient CPUs available. Requested: 1, Available: 0"
    )
    assert daemon.refused("allocate_cores", service_name="c", num_of_cores=1, pool="general") == (
        "Insufficient CPUs available. Requested: 1, Available: 0"
    )


def test_answers_count_the_general_pool(daemon: Daemon) -> None:
    answer = daemon.ok("allocate_cores", service_name="a", num_of_cores=1, pool="general")
    assert answer["pool"] == "general"
    assert answer["total_available_cpus"] == 4
    assert answer["remaining_available_cpus"] == 3
    assert answer["shared_cpus"] == format_cpus(GENERAL - daemon.claims("general")["a"])
    answer = daemon.ok("allocate_cores_percent", service_name="a", percent=50, pool="general")
    assert (answer["pool"], answer["cores_allocated_count"], answer["total_available_cpus"]) == ("general", 2, 4)
    answer = daemon.ok("allocate_cores", service_name="a", num_of_cores=-1, pool="general")
    assert (answer["pool"], answer["shared_cpus"]) == ("general", "0,4,8,12")
    answer = daemon.ok("allocate_cores", service_name="a", num_of_cores=0, pool="general")
    assert answer["cores_allocated"] == 3, "floor(0.8 * 4)"


def test_numa_grants_from_the_general_pool(daemon: Daemon) -> None:
    answer = daemon.ok("allocate_numa_cores", service_name="a", numa_node=1, num_of_cores=2, pool="general")
    assert (answer["cores_allocated"], answer["pool"]) == ("4,12", "general")
    assert daemon.refused("allocate_numa_cores", service_name="b", numa_node=1, num_of_cores=3, pool="general") == (
        "NUMA node 1 only has 2 eligible CPUs, but 3 were requested"
    )


def test_numa_never_reclaims_from_the_other_pool(daemon: Daemon) -> None:
    general = daemon.cores("general", 4, pool="general")
    isolated = daemon.cores("isolated", 12)
    assert daemon.numa("svc", 0, 6) == daemon.host.isolated_in(0)
    assert daemon.claims("general") == {"general": general}
    assert daemon.claims() == {"isolated": isolated - daemon.host.isolated_in(0), "svc": daemon.host.isolated_in(0)}
    assert daemon.numa("other", 0, 2, pool="general") == {0, 8}
    assert daemon.claims("general") == {"general": {4, 12}, "other": {0, 8}}


@pytest.mark.parametrize(("action", "fields"), [*REQUESTS, *RELEASES])
@pytest.mark.parametrize(
    ("home", "other"),
    [("isolated", {"pool": "general"}), ("general", {"pool": "isolated"}), ("general", {})],
    ids=["isolated", "general", "general, asked without a pool"],
)
def test_service_lives_in_one_pool(daemon: Daemon, action: str, fields: Json, home: str, other: Json) -> None:
    daemon.cores("svc", 2, pool=home)
    found = daemon.refused(action, service_name="svc", **fields, **other)
    assert "release" in found.lower()
    assert home in found
    daemon.cores("svc", -1, pool=home)
    daemon.ok(action, service_name="svc", **fields, **other)


def test_service_stays_in_its_pool_after_a_restart(daemon: Daemon) -> None:
    daemon.cores("svc", 2, pool="general")
    daemon.restart()
    assert "pool general" in daemon.refused("allocate_cores", service_name="svc", num_of_cores=1)


def test_partly_released_service_stays_in_its_pool(daemon: Daemon) -> None:
    daemon.numa("svc", 0, 1, pool="general")
    daemon.numa("svc", 1, 1, pool="general")
    daemon.numa("svc", 0, -1, pool="general")
    assert "pool general" in daemon.refused("allocate_cores", service_name="svc", num_of_cores=1)
    daemon.numa("svc", 1, -1, pool="general")
    daemon.cores("svc", 1)


def test_general_claim_keeps_its_preemption_policy(daemon: Daemon) -> None:
    daemon.cores("svc", 1, pool="general", preemption_policy="non-preemptive")
    answer = daemon.ok("allocate_cores", service_name="svc", num_of_cores=2, pool="general")
    assert answer["preemption_policy"] == "non-preemptive"


def test_offline_general_pool_grants_nothing(daemon: Daemon) -> None:
    daemon.host.set_offline(GENERAL)
    assert daemon.refused("allocate_cores", service_name="svc", num_of_cores=1, pool="general") == (
        "No CPUs available in pool general"
    )
    assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["configured_cpus"] == "0,4,8,12"
    assert daemon.ok("allocate_cores", service_name="svc", num_of_cores=-1, pool="general")["allocated_cores"] == ""


def test_empty_isolated_pool_has_no_fallback(daemon: Daemon) -> None:
    daemon.host.set_isolated(())
    assert daemon.refused("allocate_cores", service_name="svc", num_of_cores=1) == (
        "No CPUs available: No Isolated CPUs configured"
    )
    assert daemon.cores("svc", 2, pool="general") < GENERAL


def test_claims_outlive_their_pool() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        daemon.cores("svc", 2, pool="general")
        daemon.configure({})
        daemon.restart()
        listing = daemon.ok("list_allocations", pool="general")
        assert daemon.claims("general") == {"svc": {0, 4}}
        assert listing["cpu_pool"]["unavailable_allocated_cpus"] == "0,4"
        assert listing["total_available_cpus"] == listing["remaining_available_cpus"] == 0
        for service in ("svc", "new"):
            assert daemon.refused("allocate_cores", service_name=service, num_of_cores=1, pool="general") == (
                "No CPUs available in pool general: cpu-pool is not configured"
            )
        daemon.cores("svc", -1, pool="general")
        assert "pool" in daemon.refused("list_allocations", pool="general").lower()


def test_cpu_stays_owned_when_it_changes_pools() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        daemon.cores("svc", 2, pool="general")
        daemon.stop()
        daemon.configure({"cpu-pool": "4"})
        daemon.host.set_isolated(daemon.host.isolated | {0})
        daemon.start()
        assert daemon.claims("general") == {"svc": {0, 4}}
        assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["unavailable_allocated_cpus"] == "0"
        listing = daemon.ok("list_allocations")
        assert (listing["total_available_cpus"], listing["remaining_available_cpus"]) == (13, 12)
        assert 0 not in daemon.cores("other", 12)
        assert daemon.refused("allocate_cores", service_name="other", num_of_cores=13) == (
            "Insufficient CPUs available. Requested: 13, Available: 12"
        )
        # Even a legacy request for the node may not reclaim it, because the claim is in another pool.
        assert "CPUs 0 are held by other services" in daemon.refused(
            "allocate_numa_cores", service_name="third", numa_node=0, num_of_cores=7
        )
        assert len(daemon.numa("third", 0, 6)) == 6
        assert daemon.claims("general") == {"svc": {0, 4}}
        daemon.cores("svc", -1, pool="general")
        assert 0 in daemon.numa("third", 0, 7)


def test_missing_configured_cpus_are_not_eligible() -> None:
    with Daemon(settings={"cpu-pool": "0,4,64-65"}) as daemon:
        daemon.start()
        listing = daemon.ok("list_allocations", pool="general")
        assert listing["cpu_pool"]["eligible_cpus"] == "0,4"
        assert listing["total_available_cpus"] == 2


def test_reserved_cpus_are_in_no_pool() -> None:
    with Daemon(settings={"cpu-pool": "0,4,8,12", "reserved-cpus": "0-1"}) as daemon:
        daemon.start()
        assert daemon.ok("list_allocations")["cpu_pool"]["eligible_cpus"] == "2-3,5-7,9-11,13-15"
        assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["eligible_cpus"] == "4,8,12"
        assert daemon.cores("a", 11) == daemon.host.isolated - {1}
        assert daemon.cores("b", 3, pool="general") == {4, 8, 12}
