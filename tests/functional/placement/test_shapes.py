# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hosts of unusual shapes: threads of the operating system, cores in two NUMA nodes, cores that share an L2."""

from __future__ import annotations

import pytest

from tests.functional.harness import Daemon
from tools.synthetic import Shape

from .asking import ask, cores, numa, outcome
from .hosts import write

#: Siblings 0-1, 2-3, ...; the operating system has CPUs 0 and 2, and the pool their siblings.
PARTLY_ISOLATED = Shape(cores_per_l3=8, threads_per_core=2, siblings="adjacent", isolated="1,3-15")
#: Node 0 has CPUs 0-3, node 1 has 4-7.
TWO_NODES = Shape(nodes_per_package=2, isolated="0-7")
#: CPUs 0-3, 4-7 and 8-11 share an L2 each.
CLUSTERS = Shape(cores_per_l3=12, cores_per_l2=4, isolated="0-11")


@pytest.mark.parametrize(
    ("policy", "expected"), [("prefer", "4-5"), ("share", "1,3"), ("require", "4-5"), ("isolate", "4,6 + 5,7")]
)
def test_cores_of_the_operating_system_are_shared(policy: str, expected: str) -> None:
    with Daemon(PARTLY_ISOLATED, {"cpu-thread-policy": policy}) as daemon:
        daemon.start()
        assert outcome(ask(daemon, cores(2))) == expected


def test_shared_cores_count_those_of_the_operating_system() -> None:
    with Daemon(PARTLY_ISOLATED) as daemon:
        daemon.start()
        found = ask(daemon, cores(14))["placement"]
        assert (found["whole_cores"], found["shared_cores"]) == (6, 2)


def test_a_refusal_names_the_cpus_of_the_operating_system() -> None:
    with Daemon(PARTLY_ISOLATED, {"cpu-thread-policy": "require"}) as daemon:
        daemon.start()
        assert "the operating system runs on CPUs 0,2 of these cores" in ask(daemon, cores(14))["error"]


def test_a_core_is_whole_while_its_other_thread_is_offline() -> None:
    with Daemon(PARTLY_ISOLATED, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        daemon.host.set_offline({2})
        assert outcome(ask(daemon, cores(1), dry_run=True)) == "3"
        daemon.host.set_offline(set())
        assert outcome(ask(daemon, cores(1), dry_run=True)) == "4 + 5"


def test_cores_in_two_nodes_stay_whole() -> None:
    with Daemon(TWO_NODES) as daemon:
        for cpu in range(8):
            siblings = f"{cpu % 4},{cpu % 4 + 4}"
            for name in ("thread_siblings_list", "core_cpus_list"):
                write(daemon, f"devices/system/cpu/cpu{cpu}/topology/{name}", siblings)
        daemon.start()
        assert outcome(ask(daemon, cores(2, cpu_thread_policy="isolate"))) == "0-1 + 4-5"
        other = ask(daemon, cores(2, cpu_thread_policy="require"), service_name="other")
        assert (outcome(other), other["placement"]["whole_cores"]) == ("2,6", 1)
        assert outcome(ask(daemon, numa(1, 3), service_name="third")) == "refused"


def test_a_request_takes_the_fewest_l2_clusters() -> None:
    with Daemon(CLUSTERS) as daemon:
        daemon.start()
        assert outcome(ask(daemon, cores(2))) == "0-1"
        answer = ask(daemon, cores(4), service_name="other", explain=True)
        assert outcome(answer) == "4-7"
        assert answer["explanation"]["scopes"][0]["cost"]["l2_clusters"] == 1
