# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`allocate_numa_cores`: claims in one node, and which CPUs of other services they reclaim."""

from __future__ import annotations

import pytest

from .harness import Daemon, Json, format_cpus, parse_cpus, two_whole_cores


def node_of(daemon: Daemon, cpus: set[int]) -> int:
    """The only node that the CPUs are in."""
    (node,) = {node for node in (0, 1) if cpus & daemon.host.isolated_in(node)}
    return node


def test_numa_answers_with_the_grant(daemon: Daemon) -> None:
    daemon.cores("other", 1)
    answer = daemon.ok("allocate_numa_cores", service_name="svc", numa_node=1, num_of_cores=4)
    cpus = parse_cpus(answer["cores_allocated"])
    assert len(cpus) == 4
    assert cpus <= daemon.host.isolated_in(1)
    assert answer == {
        "version": "1.0",
        "service_name": "svc",
        "numa_node": 1,
        "num_of_cores": 4,
        "cores_allocated": format_cpus(cpus),
        "total_available_cpus": 12,
        "remaining_available_cpus": 7,
        "pool": "isolated",
        "preemption_policy": "legacy",
        "placement": two_whole_cores(1),
    }
    assert daemon.entry("svc")["is_explicit"] is True
    assert daemon.claims()["svc"] == cpus


def test_repeated_request_changes_nothing(daemon: Daemon) -> None:
    daemon.cores("other", 2)
    first = daemon.ok("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=3)
    before = daemon.snapshot()
    assert daemon.ok("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=3) == first
    assert daemon.snapshot() == before


def test_request_replaces_only_the_claim_in_its_node(daemon: Daemon) -> None:
    first = daemon.numa("svc", 0, 3)
    second = daemon.numa("svc", 1, 2)
    assert daemon.claims()["svc"] == first | second
    grown = daemon.numa("svc", 0, 5)
    assert first < grown
    assert len(grown) == 5
    assert daemon.claims()["svc"] == grown | second
    shrunk = daemon.numa("svc", 0, 1)
    assert shrunk < grown
    assert daemon.claims()["svc"] == shrunk | second


def test_takes_whole_cores_first(daemon: Daemon) -> None:
    for count in range(1, 7):
        cpus = daemon.numa("svc", 0, count)
        cores = {daemon.host.core_of(cpu) for cpu in cpus}
        assert len(cores) == (count + 1) // 2
        daemon.cores("svc", -1)


def test_partly_owned_cores_come_last(daemon: Daemon) -> None:
    half = daemon.numa("half", 0, 1)
    (shared,) = {daemon.host.core_of(cpu) for cpu in half}
    pair = daemon.numa("pair", 0, 2)
    assert len({daemon.host.core_of(cpu) for cpu in pair}) == 1
    odd = daemon.numa("odd", 0, 1)
    assert not odd & shared, "a core is free, so the third service shares none"
    late = daemon.numa("late", 0, 2)
    assert late == daemon.host.isolated_in(0) - half - pair - odd, "shared cores are still better than a refusal"


@pytest.mark.parametrize("others", [0, 1, 2])
def test_resize_keeps_as_many_cpus_as_possible(daemon: Daemon, others: int) -> None:
    if others:
        daemon.numa("other", 0, others)
    room = 6 - others
    for before in range(1, room + 1):
        for after in range(1, room + 1):
            held = daemon.numa("svc", 0, before)
            now = daemon.numa("svc", 0, after)
            assert len(now) == after
            assert now <= held if after <= before else now > held, (before, after)
            daemon.cores("svc", -1)


@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_growing_into_released_cpus_keeps_own_cpus(daemon: Daemon, first: int) -> None:
    # A new request would get other CPUs than those that the service holds.
    daemon.numa("other", 0, first)
    held = daemon.numa("svc", 0, 2)
    daemon.cores("other", -1)
    assert daemon.numa("svc", 0, 2) == held
    for count in (3, 4, 5):
        grown = daemon.numa("svc", 0, count)
        assert held < grown
        held = grown


def test_growing_takes_the_sibling(daemon: Daemon) -> None:
    held = daemon.numa("svc", 1, 1)
    grown = daemon.numa("svc", 1, 2)
    assert held < grown
    assert len({daemon.host.core_of(cpu) for cpu in grown}) == 1


def test_release_by_node_answers_with_no_cpus(daemon: Daemon) -> None:
    daemon.numa("svc", 0, 2, preemption_policy="non-preemptive")
    kept = daemon.numa("svc", 1, 3)
    expected = {
        "version": "1.0",
        "service_name": "svc",
        "numa_node": 0,
        "num_of_cores": -1,
        "cores_allocated": "",
        "total_available_cpus": 12,
        "remaining_available_cpus": 9,
        "pool": "isolated",
        "preemption_policy": "non-preemptive",
    }
    for _ in range(2):
        assert daemon.ok("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=-1) == expected
        assert daemon.claims() == {"svc": kept}
    expected |= {"numa_node": 1, "remaining_available_cpus": 12, "preemption_policy": None}
    for _ in range(2):
        assert daemon.ok("allocate_numa_cores", service_name="svc", numa_node=1, num_of_cores=-1) == expected
        assert daemon.claims() == {}


def test_claim_is_explicit_only_by_node(daemon: Daemon) -> None:
    plain = daemon.cores("svc", 2)
    home = node_of(daemon, plain)
    assert daemon.entry("svc")["is_explicit"] is False
    daemon.numa("svc", 1 - home, 2)
    assert daemon.entry("svc")["is_explicit"] is True
    daemon.numa("svc", 1 - home, -1)
    assert daemon.entry("svc")["is_explicit"] is False
    daemon.numa("svc", home, 2)
    assert daemon.entry("svc")["is_explicit"] is True
    assert daemon.claims() == {"svc": plain}


@pytest.mark.parametrize("node", [3, 4, 99, 2**31 - 1])
def test_refuses_an_unknown_node(daemon: Daemon, node: int) -> None:
    expected = f"NUMA node {node} does not exist"
    assert daemon.refused("allocate_numa_cores", service_name="svc", numa_node=node, num_of_cores=1) == expected


def test_refuses_a_node_without_cpus(daemon: Daemon) -> None:
    expected = "No eligible CPUs available in NUMA node 2"
    assert daemon.refused("allocate_numa_cores", service_name="svc", numa_node=2, num_of_cores=1) == expected


def test_refuses_a_node_without_eligible_cpus(daemon: Daemon) -> None:
    expected = "No eligible CPUs available in NUMA node 0"
    daemon.host.set_offline(daemon.host.isolated_in(0))
    assert daemon.refused("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=1) == expected
    daemon.host.set_offline(())
    daemon.host.set_isolated(daemon.host.isolated_in(1))
    assert daemon.refused("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=1) == expected


@pytest.mark.parametrize("count", [7, 12, 1000])
def test_refuses_more_cpus_than_the_node_has(daemon: Daemon, count: int) -> None:
    daemon.numa("svc", 0, 2)
    expected = f"NUMA node 0 only has 6 eligible CPUs, but {count} were requested"
    assert daemon.refused("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=count) == expected
    daemon.host.set_offline({1})
    expected = "NUMA node 0 only has 5 eligible CPUs, but 6 were requested"
    assert daemon.refused("allocate_numa_cores", service_name="new", numa_node=0, num_of_cores=6) == expected


def test_free_cpus_are_taken_before_reclaimable_ones(daemon: Daemon) -> None:
    legacy = daemon.cores("legacy", 3)
    home = node_of(daemon, legacy)
    daemon.numa("svc", home, 3)
    assert daemon.claims()["legacy"] == legacy


@pytest.mark.parametrize("wanted", [3, 4, 5])
def test_reclaims_exactly_the_shortfall(daemon: Daemon, wanted: int) -> None:
    legacy = daemon.cores("legacy", 4)
    home = node_of(daemon, legacy)
    free = daemon.host.isolated_in(home) - legacy
    assert len(free) == 2
    granted = daemon.numa("svc", home, wanted)
    assert len(granted) == wanted
    assert free < granted
    assert daemon.claims() == {"legacy": legacy - granted, "svc": granted}
    assert len(legacy & granted) == wanted - 2, "no more than what is short"
    assert daemon.entry("legacy")["is_explicit"] is False


def test_service_without_cpus_is_forgotten(daemon: Daemon) -> None:
    legacy = daemon.cores("legacy", 6)
    home = node_of(daemon, legacy)
    assert daemon.numa("svc", home, 6) == legacy
    assert daemon.claims() == {"svc": legacy}
    # The daemon remembers nothing of it, not even its preemption policy.
    answer = daemon.ok("allocate_cores", service_name="legacy", num_of_cores=2, preemption_policy="non-preemptive")
    assert answer["preemption_policy"] == "non-preemptive"


def test_reclaim_spares_other_nodes(daemon: Daemon) -> None:
    legacy = daemon.cores("legacy", 12)
    assert daemon.numa("svc", 0, 6) == daemon.host.isolated_in(0)
    assert daemon.claims()["legacy"] == legacy - daemon.host.isolated_in(0)


def test_own_cpus_count_before_reclaimable_ones(daemon: Daemon) -> None:
    own = daemon.cores("svc", 3)
    home = node_of(daemon, own)
    # A second legacy service takes all other CPUs of the machine.
    legacy = daemon.cores("legacy", 9)
    granted = daemon.numa("svc", home, 4)
    assert own < granted
    assert daemon.claims()["legacy"] == legacy - granted
    assert len(daemon.claims()["legacy"]) == 8


def held_error(daemon: Daemon, service: str, node: int, count: int, held: set[int], **fields: str) -> None:
    """Check that a request is refused, and that the sentence names the CPUs that other services hold."""
    found = daemon.refused("allocate_numa_cores", service_name=service, numa_node=node, num_of_cores=count, **fields)
    assert f"CPUs {format_cpus(held)} are held by other services" in found


def test_explicit_cpus_are_never_reclaimed(daemon: Daemon) -> None:
    held = daemon.numa("pinned", 0, 4)
    held_error(daemon, "svc", 0, 3, held)
    assert len(daemon.numa("svc", 0, 2)) == 2


def test_non_preemptive_claims_are_never_reclaimed(daemon: Daemon) -> None:
    held = daemon.cores("protected", 4, preemption_policy="non-preemptive")
    home = node_of(daemon, held)
    held_error(daemon, "svc", home, 3, held)
    assert len(daemon.numa("svc", home, 2)) == 2


def test_non_preemptive_policy_covers_every_node(daemon: Daemon) -> None:
    plain = daemon.cores("svc", 4)
    home = node_of(daemon, plain)
    daemon.numa("svc", 1 - home, 1, preemption_policy="non-preemptive")
    held_error(daemon, "other", home, 3, plain)


@pytest.mark.parametrize("fields", [{"preemption_policy": "non-preemptive"}, {}], ids=["asked", "inherited"])
def test_non_preemptive_request_never_reclaims(daemon: Daemon, fields: Json) -> None:
    daemon.numa("svc", 1, 1, preemption_policy="non-preemptive")
    daemon.numa("svc", 0, 1)
    daemon.cores("legacy", 10)
    held_error(daemon, "svc", 0, 2, daemon.claims()["legacy"] & daemon.host.isolated_in(0), **fields)


def test_grants_only_free_or_reclaimable_cpus(daemon: Daemon) -> None:
    legacy = daemon.cores("legacy", 2)
    home = node_of(daemon, legacy)
    pinned = daemon.numa("pinned", home, 2)
    granted = daemon.numa("svc", home, 4)
    assert granted == daemon.host.isolated_in(home) - pinned
    assert daemon.claims() == {"pinned": pinned, "svc": granted}
    held_error(daemon, "late", home, 1, pinned | granted)


def test_reclaim_spares_the_explicit_part(daemon: Daemon) -> None:
    plain = daemon.cores("mixed", 6)
    home = node_of(daemon, plain)
    pinned = daemon.numa("mixed", 1 - home, 2)
    assert daemon.numa("svc", home, 6) == plain
    assert daemon.claims() == {"mixed": pinned, "svc": plain}
    assert daemon.entry("mixed")["is_explicit"] is True


def test_refused_request_reclaims_nothing(daemon: Daemon) -> None:
    legacy = daemon.cores("legacy", 3)
    home = node_of(daemon, legacy)
    daemon.numa("pinned", home, 1)
    pinned = daemon.claims()["pinned"]
    # `refused` checks that no claim changes.
    sentence = daemon.refused("allocate_numa_cores", service_name="svc", numa_node=home, num_of_cores=6)
    assert f"{format_cpus(pinned)} " in sentence


def test_numa_reclaim_never_reclaims_nothing() -> None:
    with Daemon(settings={"numa-reclaim": "never"}) as daemon:
        daemon.start()
        daemon.cores("legacy", 12)
        held_error(daemon, "svc", 0, 1, daemon.host.isolated_in(0))
