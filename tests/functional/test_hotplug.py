# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPUs that go offline, leave their pool or disappear stay owned until released, and no other service gets them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.state import database_files, loading

from .harness import SMALL, Daemon, format_cpus, parse_cpus, wait_until

#: Requests of a service that holds four CPUs of node 0.
REPLACING = [
    ("allocate_cores", {"num_of_cores": 1}),
    ("allocate_cores", {"num_of_cores": 6}),
    ("allocate_cores_percent", {"percent": 50}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 2}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 5}),
]
REPEATING = [
    ("allocate_cores", {"num_of_cores": 0}),
    ("allocate_cores", {"num_of_cores": 4}),
    ("allocate_cores_percent", {"percent": 33}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 4}),
]


def lose(daemon: Daemon, cpu: int, how: str) -> None:
    """Make a CPU unavailable."""
    if how == "offline":
        daemon.host.set_offline({cpu})
    elif how == "online file only":
        daemon.host.put("devices/system/cpu/online", format_cpus(set(range(16)) - {cpu}))
    else:
        daemon.host.set_isolated(daemon.host.isolated - {cpu})


def make_siblings(daemon: Daemon, first: int, last: int) -> None:
    """Show these CPUs, and those between, as the threads of one core with one L2 cache."""
    for cpu in range(first, last + 1):
        for file in ("topology/thread_siblings_list", "cache/index2/shared_cpu_list"):
            daemon.host.put(f"devices/system/cpu/cpu{cpu}/{file}", f"{first}-{last}")


@pytest.mark.parametrize("how", ["offline", "online file only", "out of the pool"])
class TestUnavailableCpu:
    """A service holds CPUs of node 0, and one of them becomes unavailable."""

    def prepare(self, daemon: Daemon, how: str) -> tuple[set[int], int]:
        """The CPUs that the service holds, and the unavailable one."""
        held = daemon.numa("svc", 0, 4)
        lost = max(held)
        lose(daemon, lost, how)
        return held, lost

    def test_is_listed_as_unavailable(self, daemon: Daemon, how: str) -> None:
        held, lost = self.prepare(daemon, how)
        listing = daemon.ok("list_allocations")
        assert daemon.claims() == {"svc": held}
        assert listing["cpu_pool"]["unavailable_allocated_cpus"] == str(lost)
        assert lost not in parse_cpus(listing["cpu_pool"]["eligible_cpus"])
        assert (lost in parse_cpus(listing["cpu_pool"]["configured_cpus"])) == (how != "out of the pool")
        assert listing["total_allocated_cpus"] == 4
        assert listing["total_available_cpus"] == 11
        assert listing["remaining_available_cpus"] == 8

    @pytest.mark.parametrize(("action", "fields"), REPLACING)
    def test_claim_cannot_be_replaced(self, daemon: Daemon, how: str, action: str, fields: dict[str, int]) -> None:
        self.prepare(daemon, how)
        assert "release it first" in daemon.refused(action, service_name="svc", **fields)

    @pytest.mark.parametrize(("action", "fields"), REPEATING)
    def test_claim_can_be_asked_for_again(self, daemon: Daemon, how: str, action: str, fields: dict[str, int]) -> None:
        held, _ = self.prepare(daemon, how)
        daemon.ok(action, service_name="svc", explain=True, **fields)
        daemon.ok(action, service_name="svc", dry_run=True, explain=True, **fields)
        assert daemon.claims() == {"svc": held}

    @pytest.mark.parametrize(
        ("action", "fields"),
        [
            ("allocate_cores", {"num_of_cores": -1}),
            ("allocate_cores_percent", {"percent": 0}),
            ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": -1}),
        ],
    )
    def test_claim_can_be_released(self, daemon: Daemon, how: str, action: str, fields: dict[str, int]) -> None:
        _, lost = self.prepare(daemon, how)
        answer = daemon.ok(action, service_name="svc", **fields)
        assert answer["total_available_cpus"] == answer["remaining_available_cpus"] == 11
        assert daemon.claims() == {}
        assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == ""
        assert lost not in daemon.cores("svc", 11)

    def test_no_other_service_gets_it(self, daemon: Daemon, how: str) -> None:
        held, lost = self.prepare(daemon, how)
        assert daemon.cores("other", 8) == daemon.host.isolated - held - {lost}
        assert daemon.refused("allocate_cores", service_name="third", num_of_cores=1) == (
            "Insufficient CPUs available. Requested: 1, Available: 0"
        )
        assert len(daemon.cores("other", 3)) == 3

    def test_is_available_again_when_it_returns(self, daemon: Daemon, how: str) -> None:
        held, lost = self.prepare(daemon, how)
        others = daemon.cores("other", 8)
        daemon.host.set_isolated(daemon.host.isolated | {lost})
        daemon.host.set_offline(())
        daemon.host.restore()
        listing = daemon.ok("list_allocations")
        assert listing["cpu_pool"]["unavailable_allocated_cpus"] == ""
        assert listing["total_available_cpus"] == 12
        assert daemon.claims() == {"svc": held, "other": others}
        assert daemon.numa("svc", 0, 2) < held

    def test_stays_owned_over_a_restart(self, daemon: Daemon, how: str) -> None:
        held, lost = self.prepare(daemon, how)
        before = daemon.snapshot()
        daemon.restart()
        assert daemon.snapshot() == before
        assert daemon.claims() == {"svc": held}
        assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == str(lost)


def test_offline_cpu_is_not_reclaimed(daemon: Daemon) -> None:
    legacy = daemon.cores("legacy", 12)
    daemon.host.set_offline({1})
    granted = daemon.numa("svc", 0, 5)
    assert granted == daemon.host.isolated_in(0) - {1}
    assert daemon.claims()["legacy"] == legacy - granted
    assert 1 in daemon.claims()["legacy"]


def test_new_claims_avoid_offline_cpus(daemon: Daemon) -> None:
    daemon.host.set_offline({1, 2, 5})
    assert daemon.cores("svc", 9) == daemon.host.isolated - {1, 2, 5}


def test_new_isolated_cpus_join_the_pool(daemon: Daemon) -> None:
    daemon.host.set_isolated(daemon.host.isolated | {0, 8})
    listing = daemon.ok("list_allocations")
    assert listing["total_available_cpus"] == 14
    assert len(daemon.cores("svc", 14)) == 14


def test_claims_keep_cpus_that_left_the_pool_during_a_restart(daemon: Daemon) -> None:
    kept, lost = daemon.numa("kept", 0, 4), daemon.numa("lost", 1, 4)
    both = daemon.numa("both", 0, 1) | daemon.numa("both", 1, 1)
    daemon.stop()
    daemon.host.set_isolated(daemon.host.isolated_in(0))
    daemon.start()
    assert daemon.claims() == {"kept": kept, "lost": lost, "both": both}
    listing = daemon.ok("list_allocations")
    gone = lost | {cpu for cpu in both if cpu not in daemon.host.isolated}
    assert parse_cpus(listing["cpu_pool"]["unavailable_allocated_cpus"]) == gone
    assert listing["total_allocated_cpus"] == 10
    assert listing["total_available_cpus"] == 6
    assert listing["remaining_available_cpus"] == 1
    assert daemon.numa("kept", 0, 2) < kept
    assert "release it first" in daemon.refused("allocate_cores", service_name="lost", num_of_cores=2)
    assert "release it first" in daemon.refused("allocate_cores", service_name="both", num_of_cores=1)
    daemon.cores("lost", -1)
    daemon.numa("both", 1, -1)
    assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == ""
    assert set(daemon.claims()) == {"kept", "both"}


def test_claims_in_a_missing_node_can_be_released(daemon: Daemon) -> None:
    kept, lost = daemon.numa("kept", 0, 2), daemon.numa("lost", 1, 2)
    daemon.pages("lost", 1, 2048, 8)
    daemon.stop()
    daemon.host.become(packages=1, isolated="1-3", memory_only_nodes=0, threads_per_core=1)
    daemon.start()
    assert daemon.claims() == {"kept": kept, "lost": lost}
    daemon.ok("get_memory_info")
    assert daemon.numa("lost", 1, 2) == lost
    assert daemon.refused("allocate_numa_cores", service_name="lost", numa_node=1, num_of_cores=1) == (
        "NUMA node 1 does not exist"
    )
    daemon.ok("allocate_numa_cores", service_name="lost", numa_node=1, num_of_cores=-1)
    assert daemon.claims() == {"kept": kept}
    assert daemon.pages("lost", 1, 2048, -1)["message"] == "Removed recorded hugepage allocation"


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
class TestUnreadableTopology:
    """Four services hold a CPU in each of two nodes, and the host shows no file any more."""

    def prepare(self, daemon: Daemon, restarted: bool) -> dict[str, set[int]]:
        """The claims of the services."""
        cpus = {name: daemon.numa(name, 0, 1) | daemon.numa(name, 1, 1) for name in ("a", "b", "c", "d")}
        daemon.host.remove()
        if restarted:
            daemon.restart()
        return cpus

    def test_claims_are_listed_as_unavailable(self, daemon: Daemon, *, restarted: bool) -> None:
        cpus = self.prepare(daemon, restarted)
        assert daemon.claims() == cpus
        daemon.ok("get_memory_info")
        unavailable = daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"]
        assert parse_cpus(unavailable) == set().union(*cpus.values())

    def test_nothing_is_granted(self, daemon: Daemon, *, restarted: bool) -> None:
        self.prepare(daemon, restarted)
        for action, fields in (
            ("allocate_cores", {"num_of_cores": 1}),
            ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 2}),
            ("allocate_hugepages", {"node_id": 0, "size_kb": 2048, "hugepages_requested": 1}),
        ):
            for name in ("a", "new"):
                daemon.refused(action, service_name=name, **fields)
        daemon.refused("allocate_cores_percent", service_name="new", percent=1)

    def test_claims_can_be_asked_for_again(self, daemon: Daemon, *, restarted: bool) -> None:
        cpus = self.prepare(daemon, restarted)
        assert daemon.cores("a", 0) == daemon.cores("a", 2) == cpus["a"]
        assert daemon.ok("allocate_cores_percent", service_name="a", percent=25)["cores_allocated_count"] == 2
        assert daemon.numa("b", 1, 1) == cpus["b"] & daemon.host.isolated_in(1)
        answer = daemon.ok("allocate_cores", service_name="c", num_of_cores=2, explain=True)
        assert (answer["total_available_cpus"], answer["shared_cpus"]) == (0, "")
        assert daemon.claims() == cpus

    def test_claims_can_be_released(self, daemon: Daemon, *, restarted: bool) -> None:
        cpus = self.prepare(daemon, restarted)
        daemon.cores("a", -1)
        daemon.ok("allocate_cores_percent", service_name="b", percent=0)
        daemon.numa("c", 0, -1)
        assert daemon.claims() == {"c": cpus["c"] & daemon.host.isolated_in(1), "d": cpus["d"]}

    def test_all_is_available_again_when_it_returns(self, daemon: Daemon, *, restarted: bool) -> None:
        self.prepare(daemon, restarted)
        daemon.host.restore()
        assert len(daemon.numa("d", 0, 3)) == 3
        assert daemon.ok("list_allocations")["total_available_cpus"] == 12


class TestChangeThatOnlineDoesNotShow:
    """Nodes and cores change while the lists of online and isolated CPUs stay as they are."""

    def test_new_node_has_its_hugepages(self, daemon: Daemon) -> None:
        daemon.host.become(memory_only_nodes=2)
        daemon.host.set_pages(3, 2048, total=512, free=512)
        assert daemon.free_pages(3, 2048) == 512
        daemon.pages("db", 3, 2048, 4)
        assert daemon.free_pages(3, 2048) == 508
        daemon.pages("db", 3, 2048, -1)

    def test_node_that_disappears_is_refused(self, daemon: Daemon) -> None:
        daemon.host.become(memory_only_nodes=0)
        assert "node2" not in daemon.ok("get_memory_info")["numa_hugepages"]
        sentence = daemon.refused(
            "allocate_hugepages", service_name="db", node_id=2, size_kb=2048, hugepages_requested=1
        )
        assert sentence == "NUMA node 2 not found"

    def test_cpu_is_granted_in_the_node_that_it_is_in_now(self, daemon: Daemon) -> None:
        daemon.host.put("devices/system/node/node0/cpulist", "0-3,5,8-11")
        daemon.host.put("devices/system/node/node1/cpulist", "4,6-7,12-15")
        assert daemon.numa("other", 1, 5) == {6, 7, 13, 14, 15}
        assert daemon.numa("svc", 0, 7) == {1, 2, 3, 5, 9, 10, 11}

    def test_other_siblings_count_after_sighup(self, daemon: Daemon) -> None:
        make_siblings(daemon, 1, 2)
        make_siblings(daemon, 9, 10)
        daemon.reload({})
        assert daemon.numa("svc", 0, 2) == {1, 2}

    def test_sighup_with_a_mistake_in_the_settings_reads_the_host_too(self) -> None:
        with Daemon(SMALL) as daemon:
            daemon.start()
            daemon.configure("{")
            make_siblings(daemon, 1, 2)
            make_siblings(daemon, 9, 10)
            daemon.send_signal(signal.SIGHUP)
            wait_until(lambda: "the settings in use stay as they are" in daemon.log(), "the signal is handled")
            assert daemon.numa("svc", 0, 2) == {1, 2}


@pytest.mark.parametrize("killed", [False, True])
def test_restart_remembers_cores_seen_by_listings(killed: bool) -> None:
    """The sibling is offline at the grant; then a listing sees both threads online, and no request changes a claim."""
    with Daemon(SMALL) as daemon:
        daemon.host.set_offline({9})
        daemon.start()
        assert daemon.numa("alone", 0, 1, cpu_thread_policy="isolate") == {1}
        daemon.host.set_offline(())
        assert daemon.entry("alone")["withheld_cpus"] == "9"
        if killed:
            database = daemon.common / database_files.FILE_NAME
            wait_until(lambda: CpuSet.parse("1,9") in loading.load(database).seen.cores, "the core is stored")
            daemon.kill()
        else:
            daemon.stop()
        daemon.host.set_offline({1})
        daemon.start()
        assert daemon.entry("alone")["withheld_cpus"] == "9"
        assert 9 not in daemon.cores("others", len(daemon.host.isolated) - 2)


class TestIsolatedClaim:
    """A service had CPUs of node 0 to itself before the host showed their siblings."""

    @pytest.fixture
    def daemon(self) -> Iterator[Daemon]:
        with Daemon(SMALL) as daemon:
            daemon.host.set_offline({9, 10})
            daemon.start()
            assert daemon.cores("alone", 2, cpu_thread_policy="isolate", near=0) == {1, 2}
            yield daemon

    def outdated(self, daemon: Daemon) -> list[str]:
        return daemon.ok("list_allocations")["outdated_placements"]

    @pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
    def test_withholds_siblings_that_come_online(self, daemon: Daemon, *, restarted: bool) -> None:
        daemon.host.set_offline(())
        if restarted:
            daemon.restart()
        assert daemon.cores("other", 8) == daemon.host.isolated - {1, 2, 9, 10}
        assert daemon.entry("alone")["withheld_cpus"] == "9-10"
        assert self.outdated(daemon) == []

    def test_is_outdated_when_another_service_owns_a_sibling(self, daemon: Daemon) -> None:
        daemon.host.set_offline(daemon.host.isolated - {9})
        assert daemon.cores("other", 1) == {9}
        daemon.host.set_offline(())
        assert daemon.entry("alone")["withheld_cpus"] == "10"
        wait_until(lambda: self.outdated(daemon) == ["alone"], "the broken promise is listed")
        daemon.cores("other", -1)
        wait_until(lambda: self.outdated(daemon) == [], "the promise is kept again")
        assert daemon.entry("alone")["withheld_cpus"] == "9-10"

    def test_is_outdated_when_the_system_uses_a_sibling(self, daemon: Daemon) -> None:
        daemon.host.set_isolated(daemon.host.isolated - {9})
        daemon.host.set_offline(())
        wait_until(lambda: self.outdated(daemon) == ["alone"], "the broken promise is listed")

    def test_withholds_other_siblings_after_a_reboot_with_other_numbers(self, daemon: Daemon) -> None:
        daemon.stop()
        daemon.host.set_offline(())
        daemon.host.become(siblings="adjacent", isolated="1-15")
        daemon.start()
        assert daemon.entry("alone")["withheld_cpus"] == "3"
        wait_until(lambda: self.outdated(daemon) == ["alone"], "CPU 0, the sibling of 1, is not isolated")
