# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Random requests under random options keep every promise of the protocol."""

from __future__ import annotations

import random
from typing import get_args

import pytest

from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import SysfsTree
from epa_orchestrator.placement import policy
from tests.functional.harness import Json, parse_cpus
from tools.synthetic import Shape

from .asking import Request, cores, numa, outcome, percent
from .hosts import EIGHT, EPYC, POWER, machine_daemon
from .option_values import VALUES, contradict
from .whereabouts import check_placement


def random_settings(rng: random.Random) -> Json:
    while contradict(settings := {option: rng.choice(values) for option, values in VALUES.items()}):
        pass
    return settings


def random_request(rng: random.Random, nodes: list[int]) -> tuple[str, Request, bool]:
    """A service, its request, and whether the request is a dry run."""
    count = rng.choice((-1, 0, 1, 1, 2, 2, 3, 4, 5, 8, 12))
    request = rng.choice((cores(count), numa(rng.choice(nodes), count or 1), percent(rng.choice((-1, 5, 10, 25)))))
    wishes: Json = {
        "numa_policy": get_args(policy.NumaPolicy),
        "cpu_thread_policy": get_args(policy.CpuThreadPolicy),
        "uncore_cache_alignment": get_args(policy.UncoreCacheAlignment),
        "preemption_policy": ("legacy", "non-preemptive"),
    }
    if request[0] != "allocate_numa_cores":
        wishes["near"] = nodes
    more = {name: rng.choice(values) for name, values in wishes.items() if rng.random() < 0.15}
    request[1].update(more, explain=rng.random() < 0.2)
    return rng.choice("abcdefgh"), request, rng.random() < 0.25


@pytest.mark.parametrize(
    "machine", [EIGHT, POWER, EPYC, "epyc9654-2s-nps4-384t"], ids=["eight", "power", "epyc", "real epyc"]
)
def test_random_requests_keep_every_promise(machine: str | Shape) -> None:
    rng = random.Random(1)
    with machine_daemon(machine, {}) as daemon:
        daemon.start()
        found = read_machine(SysfsTree(daemon.host.root))
        nodes = [node.id for node in found.nodes if node.cpus]
        granted = refused = reclaims = 0
        for _ in range(6):
            daemon.reload(settings := random_settings(rng))
            for _ in range(100):
                service, (action, fields), dry = random_request(rng, nodes)
                before = daemon.listing()
                answer = daemon.call(action, service_name=service, dry_run=dry, **fields)
                after = daemon.listing()
                context = (settings, service, action, fields, dry, answer)
                assert "Internal error" not in answer.get("error", ""), context
                claims = daemon.claims()
                if dry or "error" in answer:
                    assert after == before, context
                    refused += not dry
                    continue
                granted += 1
                cpus = parse_cpus(outcome(answer).partition(" ")[0])
                assert cpus <= claims.get(service, set()), context
                assert answer["remaining_available_cpus"] == after["remaining_available_cpus"], context
                if cpus and machine is EIGHT:
                    check_placement(daemon, found, answer, set())
                asked = fields.get("num_of_cores", 0)
                assert asked <= 0 or len(cpus) == asked, context
                others = {entry["service_name"]: entry for entry in before["allocations"]}
                taken = {name for name, entry in others.items()
                         if name != service and claims.get(name) != parse_cpus(entry["allocated_cores"])}  # fmt: skip
                assert all(
                    others[name]["preemption_policy"] == "legacy" and action == "allocate_numa_cores" for name in taken
                ), context
                reclaims += bool(taken)
        print(f"{granted} granted, {refused} refused, {reclaims} reclaims")
        assert granted > 100
        assert refused > 20
        assert reclaims > 0
        kept = daemon.ok("list_allocations")["allocations"]
        daemon.kill()
        daemon.start()
        assert daemon.ok("list_allocations")["allocations"] == kept
