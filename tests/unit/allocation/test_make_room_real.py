# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Make room on recorded real machines, and its CPU time on large ones."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.placement.policy import Wishes
from tests.machines import real_machine, real_machine_files
from tests.unit.allocation.rooms import Host
from tools.synthetic import Shape

ONE_NODE = Wishes(numa_policy="single-numa-node")


def fill(host: Host, claims: int, seed: int = 1) -> None:
    """Small claims all over the NUMA nodes that have CPUs."""
    chosen = random.Random(seed)
    nodes = [node for node, cpus in host.nodes.items() if cpus & host.pools.isolated.eligible]
    for number in range(claims):
        try:
            host.hold(
                host.wanted(f"vm-{number}", chosen.choice([1, 2, 2, 4]), wishes=Wishes(near=chosen.choice(nodes)))
            )
        except Refused:
            return


def most_free(host: Host) -> int:
    """How many CPUs are free in the NUMA node that has the most."""
    pool = host.pools.isolated
    free = host.ledger.free(pool).mask
    return max((node.cpus & free).bit_count() for node in pool.topology().nodes.values())


@pytest.mark.parametrize("path", real_machine_files(), ids=lambda path: path.stem)
def test_real_machines(path: Path) -> None:
    machine = real_machine(path.stem)
    machine = replace(machine, isolated=machine.online)
    pools = build_pools(machine, None, parse_settings({}))
    host = Host(pools, Ledger().on(pools.cores))
    fill(host, min(len(machine.online) // 6, 60))
    wanted = host.wanted("new", most_free(host) + 1, wishes=ONE_NODE)
    end = time.thread_time() + 0.25
    room = host.room(wanted, lambda: time.thread_time() > end)
    if room.grant is not None:
        assert len(room.grant.cpus) == wanted.count
        for move in room.moves:
            assert len(move.to) == len(move.claim.cpus)
            assert not move.to & room.grant.cpus
    else:
        assert room.sentence.startswith(("No moving makes room", "No claims were found"))


def test_a_search_on_512_cpus_with_200_claims_ends_in_time() -> None:
    host = Host.of(
        Shape(packages=2, nodes_per_package=4, l3_per_node=4, cores_per_l3=8, threads_per_core=2, isolated="8-511")
    )
    fill(host, 200)
    begin = time.thread_time()
    room = host.room(
        host.wanted("new", most_free(host) + 4, wishes=ONE_NODE), lambda: time.thread_time() > begin + 0.25
    )
    # The time is looked at before each set of claims and each placement: one more decision fits into the rest.
    assert time.thread_time() - begin < 1
    assert room.grant is not None
