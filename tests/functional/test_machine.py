# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`get_machine`: the host as the daemon found it, and the state of each CPU, as the claims and the host change."""

from __future__ import annotations

from .harness import Daemon, parse_cpus


def test_machine_is_the_host(daemon: Daemon) -> None:
    machine = daemon.ok("get_machine")["machine"]
    assert (machine["present"], machine["online"], machine["isolated"]) == ("0-15", "0-15", "1-3,5-7,9-11,13-15")
    assert [node["cpus"] for node in machine["nodes"]] == ["0-3,8-11", "4-7,12-15", ""]
    assert machine["nodes"][0]["hugepages"] == [
        {"size_kb": 2048, "total": 64, "free": 64},
        {"size_kb": 1048576, "total": 4, "free": 4},
    ]


def test_hugepages_are_those_of_the_moment(daemon: Daemon) -> None:
    daemon.ok("get_machine")
    daemon.host.set_pages(1, 2048, 32, 5)
    assert daemon.ok("get_machine")["machine"]["nodes"][1]["hugepages"] == [{"size_kb": 2048, "total": 32, "free": 5}]


def test_states_follow_claims_and_the_host(daemon: Daemon) -> None:
    assert daemon.ok("get_machine")["states"]["free"] == "1-3,5-7,9-11,13-15"
    held = daemon.cores("svc", 4)
    lost = min(held)
    daemon.host.set_offline({lost, 0})
    answer = daemon.ok("get_machine")
    states = {state: parse_cpus(cpus) for state, cpus in answer["states"].items()}
    assert states["claimed"] == held - {lost}
    assert states["unavailable"] == {lost}
    assert states["offline"] == {0}
    assert states["not-isolated"] == {4, 8, 12}
    assert states["free"] == daemon.host.isolated - held
    assert parse_cpus(answer["machine"]["online"]) == set(range(16)) - {lost, 0}


def test_states_agree_with_the_listing(daemon: Daemon) -> None:
    daemon.cores("svc", 3)
    states, listing = daemon.ok("get_machine")["states"], daemon.ok("list_allocations")
    assert len(parse_cpus(states["free"])) == listing["remaining_available_cpus"]
    assert len(parse_cpus(states["claimed"])) == listing["total_allocated_cpus"]
