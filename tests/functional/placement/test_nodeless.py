# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPUs that the host shows in no NUMA node are one unknown place: the last one, and not to be mixed under the rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.harness import Daemon
from tools.synthetic import Shape

# CPUs 0-3 would be in node 0 and 4-7 in node 1; this host shows no node for 0-3.
SHAPE = Shape(packages=1, nodes_per_package=2, cores_per_l3=4, isolated="0-7")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon(SHAPE) as daemon:
        daemon.host.put("devices/system/node/node0/cpulist", "")
        daemon.start()
        yield daemon


def test_known_nodes_come_first(daemon: Daemon) -> None:
    assert daemon.cores("a", 3) == {4, 5, 6}
    assert daemon.cores("b", 2) == {0, 1}, "node 1 has one left"


@pytest.mark.parametrize("rule", ["restricted", "single-numa-node"])
def test_the_rules_refuse_a_mix(daemon: Daemon, rule: str) -> None:
    assert daemon.cores("a", 4, numa_policy=rule) == {4, 5, 6, 7}
    refused = daemon.refused("allocate_cores", service_name="a", num_of_cores=5, numa_policy=rule)
    assert f"numa-policy={rule} allows no CPUs of NUMA nodes together with CPUs 0, which are in none" in refused
    assert daemon.cores("b", 4, numa_policy=rule) == {0, 1, 2, 3}


def test_explain_counts_them(daemon: Daemon) -> None:
    answer = daemon.ok("allocate_cores", service_name="a", num_of_cores=6, explain=True, dry_run=True)
    (scope,) = answer["explanation"]["scopes"]
    assert (scope["cost"]["numa_nodes"], scope["cost"]["nodeless_cpus"]) == (2, 2)
    assert "NUMA node 1 with CPUs in no NUMA node" in answer["explanation"]["decided_by"]
    assert answer["placement"]["numa_nodes"] == scope["numa_nodes"] == "1"
    assert answer["placement"]["nodeless_cpus"] == 2
