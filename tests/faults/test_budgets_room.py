# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Budgets of searches for room in CPU time, where the whole cores of many claims count."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from epa_orchestrator.allocation.allocate import Grant
from epa_orchestrator.allocation.claims import Change, Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.make_room import make_room
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon import room
from epa_orchestrator.placement.policy import Wishes
from tests.unit.allocation.rooms import Host
from tools.synthetic import Shape

WHOLE_CORES: Final = Wishes(cpu_thread_policy="require")


def full_host(packages: int) -> Host:
    """Packages of 512 CPUs in four NUMA nodes; 250 claims in each hold one thread of a core."""
    cores = 256 * packages
    shape = Shape(packages, 4, l3_per_node=4, cores_per_l3=16, threads_per_core=2, isolated=f"0-{2 * cores - 1}")
    host = Host.of(shape)
    claims = [Claim(f"vm-{number}", "isolated", CpuSet([number]), EMPTY, "legacy") for number in range(250 * packages)]
    host.ledger = Ledger.of(claims, {}, host.pools.cores)
    return host


class FirstSetTried(Exception):
    """The preparations are done."""


def seconds_to_prepare(host: Host) -> float:
    """CPU time until the first set of claims is tried, without decisions; the best of a few."""
    wanted = host.wanted("new", 100, wishes=WHOLE_CORES)
    host.pools.isolated.topology()
    best = 60.0
    for _ in range(3):
        attempts: list[Ledger] = []

        def attempt(ledger: Ledger, attempts: list[Ledger] = attempts) -> Grant:
            attempts.append(ledger)
            if len(attempts) > 1:
                raise FirstSetTried
            return Grant(Change(), ledger, EMPTY, None)

        asked = replace(wanted, attempt=attempt)
        began = time.thread_time()
        try:
            make_room(host.ledger, host.pools, host.nodes, asked, lambda: False)
        except FirstSetTried:
            best = min(best, time.thread_time() - began)
    return best


def test_eight_times_as_many_claims_and_cpus_take_about_eight_times_as_long() -> None:
    small, large = seconds_to_prepare(full_host(1)), seconds_to_prepare(full_host(8))
    print(f"{1000 * small:.1f} ms with 250 claims, {1000 * large:.1f} ms with 2000")
    assert large <= 24 * small, f"{large / small:.0f} times: linear is 8, quadratic 64"


def test_a_search_ends_soon_after_its_time() -> None:
    host = full_host(8)
    wanted = host.wanted("new", 100, wishes=WHOLE_CORES)
    began = time.thread_time()
    wanted.attempt(Ledger().on(host.pools.cores))
    decision = time.thread_time() - began
    began = time.thread_time()
    found = make_room(host.ledger, host.pools, host.nodes, wanted, room._limit())
    took = time.thread_time() - began
    print(f"{1000 * took:.0f} ms, a decision {1000 * decision:.0f} ms: {found.sentence}")
    assert took <= room._MOST_SECONDS + 2 * decision
