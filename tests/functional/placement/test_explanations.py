# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Explanations of grants and refusals."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.functional.harness import Daemon, error_of, parse_cpus
from tools.synthetic import Shape

from .asking import Request, ask, begin, cores, numa, outcome, percent


@pytest.mark.parametrize("request_", [cores(3), percent(20), numa(1, 2), cores(9), cores(1), cores(2)], ids=str)
def test_explanation_matches_the_grant(daemon: Daemon, request_: Request) -> None:
    begin(daemon, {"other": "0-1", "svc": "2-3"})
    plain = ask(daemon, request_, dry_run=True)
    assert "explanation" not in plain
    explained = ask(daemon, request_, dry_run=True, explain=True)
    why = explained.pop("explanation")
    assert explained == plain
    assert why["policy"]["numa-policy"] == "best-effort"
    assert why["room"] == ({"0": 6, "1": 8} if request_[0] != "allocate_numa_cores" else {"0": 0, "1": 8})
    assert 1 <= len(why["scopes"]) <= 5
    assert why["scopes"][0]["cpus"] == outcome(plain)
    assert all(scope["cost"].keys() == why["scopes"][0]["cost"].keys() for scope in why["scopes"])
    for scope in why["scopes"]:
        nodes = {0 if cpu % 8 < 4 else 1 for cpu in parse_cpus(scope["cpus"])}
        assert parse_cpus(scope["numa_nodes"]) == nodes
    assert why["decided_by"].endswith(".")
    assert why["rule"] is None
    assert outcome(ask(daemon, request_, explain=True)) == outcome(plain)


REFUSALS: Final = [
    (cores(9, numa_policy="single-numa-node"), "numa-policy"),
    (percent(60, numa_policy="single-numa-node"), "numa-policy"),
    (cores(3, cpu_thread_policy="require"), "cpu-thread-policy"),
    (numa(1, 3, cpu_thread_policy="require"), "cpu-thread-policy"),
    (numa(0, 4, uncore_cache_alignment="require"), "uncore-cache-alignment"),
]


@pytest.mark.parametrize(("request_", "rule"), REFUSALS, ids=str)
def test_explanation_names_the_rule_that_refuses(daemon: Daemon, request_: Request, rule: str) -> None:
    daemon.hold("other", "0,2", preemption_policy="non-preemptive")
    plain = error_of(ask(daemon, request_))
    for more in ({}, {"dry_run": True}):
        answer = ask(daemon, request_, explain=True, **more)
        assert answer.keys() == {"version", "error", "explanation"}
        assert answer["error"] == plain
        assert answer["explanation"]["rule"] == rule
        assert rule in answer["explanation"]["decided_by"]
        assert answer["explanation"]["scopes"]
    assert daemon.claims().keys() == {"other"}


def test_releases_and_bad_requests_have_no_explanation(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    for request in (cores(17), numa(9, 1), cores(2, near=9), cores(-2)):
        error_of(ask(daemon, request, explain=True))  # checks that there are no other fields
    answer = ask(daemon, cores(-1), explain=True)
    assert not answer.keys() & {"error", "explanation", "placement"}


#: 1024 CPUs whose threads are adjacent, so that one thread of each core is a list of 512 single numbers.
LARGE: Final = Shape(2, 4, 8, 8, 2, siblings="adjacent", isolated="0-1023")


def test_answers_stay_below_4096_bytes() -> None:
    """Only the CPU lists of protocol 1.0 can make an answer longer."""
    name = "s" * 255
    long: list[Any] = []
    with Daemon(LARGE) as daemon:
        daemon.start()
        for settings in (
            {}, {"cpu-distribution": "cores"}, {"cpu-distribution": "caches"}, {"cpu-thread-policy": "isolate"},
            {"numa-allocation-strategy": "distribute"}, {"cpu-thread-policy": "share"},
        ):  # fmt: skip
            daemon.reload(settings)
            for action, fields in (
                cores(3), cores(0), cores(300), cores(430), cores(512), percent(35), numa(3, 60), cores(-1),
                cores(1023, numa_policy="single-numa-node"), cores(511, cpu_thread_policy="require"), cores(-1),
            ):  # fmt: skip
                raw = daemon.request(json.dumps({"action": action, "service_name": name, **fields}).encode())
                answer = json.loads(raw)
                lists = sum(len(answer.get(field, "")) for field in ("allocated_cores", "shared_cpus"))
                if len(raw) >= 4096 and lists < 4096 - 1024:
                    long.append((settings, action, fields, len(raw), lists))
    assert not long


def test_equally_good_node_sets_are_explained() -> None:
    """Any two of three equal nodes are equally good, and all pairs with node 0 have the same lowest CPU."""
    with Daemon(Shape(1, 3, 1, 2, 1, isolated="0-5")) as daemon:
        daemon.start()
        answer = ask(daemon, cores(3, explain=True))
        assert outcome(answer) == "0-2"
        assert answer["explanation"]["scopes"]
