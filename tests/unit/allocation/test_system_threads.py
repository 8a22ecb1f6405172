# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Cores on which the operating system runs: shared cores under every thread policy, in both pools."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import Grant, Terms, allocate, allocate_in_node
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from tests.machines import made_up
from tools.synthetic import Shape

#: Siblings 0-1, 2-3, ... 14-15. The operating system has CPUs 0 and 2, and the service's pool their siblings.
PARTLY = "1,3-15"
#: The operating system has one thread of every core.
NOTHING_WHOLE = "1,3,5,7,9,11,13,15"


def host(isolated: str = PARTLY, offline: str = "", **options: Any) -> Pools:
    shape = Shape(cores_per_l3=8, threads_per_core=2, siblings="adjacent", isolated=isolated, offline=offline)
    return build_pools(made_up(shape), None, parse_settings({k.replace("_", "-"): v for k, v in options.items()}))


def granted(pools: Pools, count: int | None, pool: str = "isolated") -> Grant:
    chosen = pools.isolated if pool == "isolated" else pools.general
    assert chosen is not None
    return allocate(Ledger(), chosen, Terms("vm"), count)


@pytest.mark.parametrize(
    ("policy", "count", "cpus"),
    [
        ("prefer", 1, "4"),
        ("prefer", 2, "4-5"),
        ("prefer", 12, "4-15"),
        ("prefer", 13, "1,4-15"),
        ("prefer", 14, "1,3-15"),
        ("share", 1, "1"),  # half-used cores first
        ("share", 3, "1,3-4"),
        ("require", 2, "4-5"),
        ("require", 12, "4-15"),
        ("isolate", 2, "4,6"),
        ("isolate", 6, "4,6,8,10,12,14"),
    ],
)
def test_cores_of_the_operating_system_are_shared(policy: str, count: int, cpus: str) -> None:
    assert str(granted(host(cpu_thread_policy=policy), count).cpus) == cpus


@pytest.mark.parametrize(
    ("policy", "count", "sentence"),
    [
        (
            "require",
            13,
            (
                "13 CPUs cannot be placed: cpu-thread-policy=require allows whole cores only, but the service would"
                " have only a part of 1 core: the operating system runs on CPU 0 of these cores. Otherwise the"
                " best choice would be 1,4-15 ("
            ),
        ),
        (
            "isolate",
            7,
            (
                "7 CPUs cannot be placed: cpu-thread-policy=isolate allows one thread per core and no shared core, and"
                " 3 cores would break this: the service itself would have CPUs 4-9 of these cores. Otherwise the best"
                " choice would be 4-10 ("
            ),
        ),
    ],
)
def test_too_many_whole_cores_are_refused(policy: str, count: int, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        granted(host(cpu_thread_policy=policy), count)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("policy", ["require", "isolate"])
@pytest.mark.parametrize("count", [1, 2, None])
def test_a_host_without_whole_cores_refuses_and_names_the_cpus_of_the_operating_system(
    policy: str, count: int | None
) -> None:
    with pytest.raises(Refused, match=r"the operating system runs on CPUs? 0(,2[0-9,]*)? of these cores"):
        granted(host(NOTHING_WHOLE, cpu_thread_policy=policy), count)


@pytest.mark.parametrize(
    ("claimed", "options", "owners"),
    [
        ("4,6,8,10-15", {}, "the operating system runs on CPUs 0,2"),
        ("4-15", {"reserved_cpus": "2"}, "the operating system runs on CPU 0 and reserved-cpus names CPU 2"),
        ("5-15", {"reserved_cpus": "0", "isolated": "1,4-15"},
         "reserved-cpus names CPU 0 and other services have CPU 5"),
        ("5,8-15", {"isolated": "1,4-15", "cpu_pool": "0", "reserved_cpus": "6"},
         "the other pool has CPU 0 and other services have CPU 5"),
    ],
)  # fmt: skip
def test_the_refusal_names_all_that_is_in_the_way(claimed: str, options: dict[str, str], owners: str) -> None:
    pools = host(**options, cpu_thread_policy="isolate")
    ledger = Ledger.of([Claim("other", "isolated", CpuSet.parse(claimed), EMPTY, "legacy")], {})
    with pytest.raises(Refused) as refused:
        allocate(ledger, pools.isolated, Terms("vm"), 2)
    assert f" would break this: {owners} of these cores. Otherwise " in str(refused.value)


@pytest.mark.parametrize(("count", "cpus"), [(1, "1"), (3, "1,3,5"), (None, "1,3,5,7,9,11"), (8, NOTHING_WHOLE)])
def test_a_host_without_whole_cores_grants_with_prefer(count: int | None, cpus: str) -> None:
    assert str(granted(host(NOTHING_WHOLE), count).cpus) == cpus


@pytest.mark.parametrize(
    ("policy", "size"),
    [("prefer", 11), ("require", 10), ("isolate", 4)],  # 80 % of 14 CPUs; even; 80 % of 6 cores
)
def test_the_default_size_counts_whole_cores_only(policy: str, size: int) -> None:
    assert len(granted(host(cpu_thread_policy=policy), None).cpus) == size


def test_a_core_is_whole_while_the_thread_of_the_operating_system_is_offline() -> None:
    assert str(granted(host(offline="2", cpu_thread_policy="isolate"), 1).cpus) == "3"
    assert str(granted(host(cpu_thread_policy="isolate"), 1).cpus) == "4"


def test_a_request_for_a_node_takes_whole_cores() -> None:
    pools = host(cpu_thread_policy="require")
    everything = NodeCpus(0, CpuSet(range(16)))
    assert str(allocate_in_node(Ledger(), pools.isolated, Terms("vm"), everything, 2).cpus) == "4-5"


@pytest.mark.parametrize(("policy", "cpus"), [("prefer", "4-5"), ("require", "4-5"), ("isolate", "4,6")])
def test_the_general_pool_takes_whole_cores(policy: str, cpus: str) -> None:
    pools = host(isolated="", cpu_pool="1,3-15", cpu_thread_policy=policy)
    assert str(granted(pools, 2, "general").cpus) == cpus


def test_a_pool_with_a_problem_leaves_its_cpus_to_the_operating_system() -> None:
    pools = host(cpu_pool="0,1", cpu_thread_policy="isolate")
    assert pools.general is not None
    assert pools.general.problem is not None
    assert str(granted(pools, 1).cpus) == "4"


def test_the_empty_host_has_no_whole_cores_of_the_operating_system_either() -> None:
    # Node 0 has CPUs 0 to 3, node 1 has 4 to 7; the operating system has 0 and 4. So 4 CPUs need two nodes.
    shape = Shape(packages=2, cores_per_l3=2, threads_per_core=2, siblings="adjacent", isolated="1-3,5-7")
    options = parse_settings({"numa-policy": "restricted", "cpu-thread-policy": "require"})
    assert str(granted(build_pools(made_up(shape), None, options), 4).cpus) == "2-3,6-7"
